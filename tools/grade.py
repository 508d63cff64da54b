"""Grade a folder of returned notebooks of exercises: ``make grade SUBMISSIONS=folder``.

_build/grades gets grades.csv, a line a notebook, and a feedback file each; see book/instructor/grading.md.
"""

import argparse
import csv
import json
import multiprocessing
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from asking import Limits, caches
from execute import OFFLINE, ROOT, BuildError
from exercise_cells import companion_names, read_notebook, regions
from mark import Key, Mark, mark

FORMULA = "=+-@ "  # with what a spreadsheet would take a cell for a formula
LONG = 500  # characters of what a check or an error said


@dataclass(frozen=True)
class Submission:
    """A returned notebook: its file, whose it is, and what it got."""

    path: Path
    identifier: str
    chapter: str
    marks: tuple[Mark, ...]
    problems: tuple[str, ...]

    @property
    def points(self) -> int:
        """Points of the checks."""
        return sum(mark.points or 0 for mark in self.marks)

    def possible(self, by_hand: bool) -> int:
        """Points to be had from the checks, or from a person."""
        return sum(mark.exercise.difficulty for mark in self.marks if (mark.points is None) is by_hand)


def identifier(path: Path, folder: Path) -> str:
    """Whose a file is: the number that the learning management system put into its name.

    Looked at is the folder in ``folder`` that the file lies in (Moodle gives each participant one), else the file's
    name (Canvas). The first number of at least three digits between ``_``, ``-`` or spaces counts; without one, all of
    the name.
    """
    inside = path.relative_to(folder)
    name = inside.parts[0] if len(inside.parts) > 1 else inside.stem
    number = re.search(r"(?:^|[_\- ])(\d{3,})(?=[_\- ]|$)", name)
    return number[1] if number else name.lstrip(FORMULA)


def notebooks_in(folder: Path) -> list[Path]:
    """The notebooks to grade, hidden files and Jupyter's checkpoints left out."""
    found = sorted(path for path in folder.rglob("*.ipynb") if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def exercises_for(notebook: dict[str, Any], root: Path) -> str:
    """Name of the book's notebook that a returned one is, by the exercises it holds.

    Raises:
        BuildError: if it holds none.
    """
    held = set(regions(notebook["cells"]))
    shared = {name: len(held & set(regions(read_notebook(name, root)["cells"]))) for name in companion_names(root)}
    if not any(shared.values()):
        raise BuildError("it holds no exercise of a notebook of exercises" + (f", only {sorted(held)}" if held else ""))
    return max(shared, key=lambda name: shared[name])


@cache
def _home() -> Path:
    """A folder of this process's for caches, of which every confined process gets a copy."""
    return Path(tempfile.mkdtemp(prefix="home-", dir=os.environ["RREC_GRADING"]))


@cache
def _key(name: str, profile: str, root: Path) -> Key:
    return Key.load(name, profile, root)


def _start(seed: int, grading: str) -> None:
    """Set this process up to run the book's own notebooks and checks."""
    os.environ.update({"RREC_CHECK_SEED": str(seed), "RREC_GRADING": grading})
    os.environ.update({**caches(_home()), "HF_HUB_OFFLINE": "1"})
    os.chdir(_home())


def _grade(path: Path, folder: Path, profile: str, limits: Limits, root: Path) -> Submission:
    """Grade one file, whatever is in it."""
    whose = identifier(path, folder)
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        name = exercises_for(notebook, root)
        marked = mark(notebook, _key(name, profile, root), _home(), limits)
    except Exception as problem:  # one file must not stop the others
        return Submission(path, whose, "", (), (f"not graded: {type(problem).__name__}: {problem}",))
    return Submission(path, whose, name[:2], tuple(marked.marks), tuple(marked.problems))


def grade(
    folder: Path, out: Path, seed: int, profile: str, limits: Limits, jobs: int, root: Path = ROOT
) -> list[Submission]:
    """Grade the notebooks of a folder.

    Args:
        folder: with the files, or a folder for each person.
        out: gets ``grades.csv`` and ``feedback``, in place of an earlier run's.
        seed: of the checks' random cases.
        profile: sizes with which the notebooks run.
        jobs: notebooks at a time.
        root: whose ``notebooks`` hold the exercises.

    Raises:
        BuildError: if there is nothing to grade.
    """
    if out == folder:
        raise BuildError(f"{out} holds what was returned; name another folder with --out")
    paths = notebooks_in(folder)
    if not paths:
        raise BuildError(f"no notebook in {folder}")
    graded: list[Submission] = []
    with tempfile.TemporaryDirectory(prefix="rrec-grading-") as grading:
        start = (multiprocessing.get_context("spawn"), _start, (seed, grading))
        try:
            for one in _all(paths, jobs, start, (folder, profile, limits, root)):
                graded.append(one)
                print(f"[grade {len(graded)}/{len(paths)}] {one.path.relative_to(folder)}: {in_words(one)}", flush=True)
        finally:  # what was graded outlives an interruption, and an earlier run's grades one before the first file
            graded.sort(key=lambda one: one.path)
            if graded:
                write_grades(graded, folder, out, seed)
    return graded


def write_grades(graded: list[Submission], folder: Path, out: Path, seed: int) -> None:
    """Write the table and a feedback file each, in place of an earlier run's."""
    shutil.rmtree(out / "feedback", ignore_errors=True)
    (out / "feedback").mkdir(parents=True)
    write_table(graded, folder, out / "grades.csv", seed)
    for name, one in file_names(graded):
        (out / "feedback" / name).write_text(feedback(one), encoding="utf-8")


def _all(paths: list[Path], jobs: int, start: tuple[Any, ...], rest: tuple[Any, ...]) -> Iterator[Submission]:
    """Grade in several processes; files whose process was killed, or fell with one that was, get one of their own."""
    alone = []
    with ProcessPoolExecutor(jobs, *start) as pool:
        futures = [(path, pool.submit(_grade, path, *rest)) for path in paths]
        try:
            for path, future in futures:
                try:
                    yield future.result()
                except BrokenProcessPool:
                    alone.append(path)
        finally:  # after an interruption nothing more is begun
            pool.shutdown(wait=False, cancel_futures=True)
    for path in alone:
        with ProcessPoolExecutor(1, *start) as pool:
            try:
                yield pool.submit(_grade, path, *rest).result()
            except BrokenProcessPool:
                said = "not graded: the process that ran it was killed, by the system for want of memory perhaps"
                yield Submission(path, identifier(path, rest[0]), "", (), (said,))


def in_words(one: Submission) -> str:
    """A submission's points and problems on a line."""
    return "; ".join([f"{one.points} of {one.possible(by_hand=False)}", *one.problems])


def write_table(graded: list[Submission], folder: Path, path: Path, seed: int) -> None:
    """Write a line for each notebook: whose, points, what a person has to mark, problems, points by exercise."""
    exercises = sorted({mark.exercise.id for one in graded for mark in one.marks})
    head = ["identifier", "notebook", "points", "possible", "possible by hand", "problems", "seed", *exercises]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(head)
        for one in graded:
            points = {mark.exercise.id: "by hand" if mark.points is None else mark.points for mark in one.marks}
            row = [
                one.identifier,
                str(one.path.relative_to(folder)).lstrip(FORMULA),
                one.points,
                one.possible(by_hand=False),
            ]
            row += [one.possible(by_hand=True), "; ".join(one.problems), seed]
            table.writerow([*row, *(points.get(name, "") for name in exercises)])


def file_names(graded: list[Submission]) -> Iterator[tuple[str, Submission]]:
    """A name for each feedback file; a second notebook of the same person and chapter gets a number."""
    taken: Counter[str] = Counter()
    for one in graded:
        name = re.sub(r"[^\w.-]+", "-", f"{one.identifier}-{one.chapter or 'unknown'}")
        taken[name] += 1
        yield f"{name}{f'-{taken[name]}' if taken[name] > 1 else ''}.md", one


def feedback(one: Submission) -> str:
    """What the person gets to read, in Markdown."""
    lines = [f"# Exercises of chapter {one.chapter or '?'}: {one.points} of {one.possible(by_hand=False)} points", ""]
    if by_hand := one.possible(by_hand=True):
        lines += [f"Up to {by_hand} more for what a person reads.", ""]
    lines += [line for problem in one.problems for line in (*indented(problem), "")]
    for given in one.marks:
        points = "marked by hand" if given.points is None else f"{given.points} of {given.exercise.difficulty}"
        lines += [f"## {given.exercise.id} · {given.exercise.title}: {points}", ""]
        lines += [*indented(given.said), ""] if given.said else []
        lines += [given.exercise.folded["Rubric"], ""] if given.points is None else []
    return "\n".join(lines)


def indented(text: str) -> list[str]:
    """Text as a block of code, so that nothing in it counts as Markdown."""
    short = text if len(text) <= LONG else text[:LONG] + " …"
    return [f"    {line}" for line in short.splitlines()]


def main() -> None:
    usual = Limits()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submissions", type=Path, help="returned notebooks, or a folder for each person")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "grades", help="default: _build/grades")
    parser.add_argument("--seed", type=int, help="of the checks' random cases (default: drawn; the table has it)")
    parser.add_argument("--profile", default="cpu", choices=sorted(OFFLINE), help="sizes to run with (default: cpu)")
    parser.add_argument("--seconds", type=float, default=usual.call, help="for a cell or a call (default: %(default)s)")
    parser.add_argument("--total", type=int, default=usual.notebook, help="for a notebook (default: %(default)s)")
    parser.add_argument("--memory", type=int, default=usual.memory >> 20, help="in MiB (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="at a time (%(default)s)")
    asked = parser.parse_args()
    start, seed = time.monotonic(), secrets.randbelow(2**31) if asked.seed is None else asked.seed
    limits = Limits(asked.seconds, asked.total, asked.memory << 20)
    try:
        graded = grade(asked.submissions.resolve(), asked.out.resolve(), seed, asked.profile, limits, asked.jobs)
    except (BuildError, OSError) as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        print(f"error: interrupted; what was graded is in {asked.out}", file=sys.stderr)
        sys.exit(130)
    took = f"{time.monotonic() - start:.0f} s, seed {seed}"
    print(f"{len(graded)} notebooks, {sum(bool(one.problems) for one in graded)} with problems, {took}: {asked.out}")


if __name__ == "__main__":
    main()
