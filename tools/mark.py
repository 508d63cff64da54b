"""Mark one returned notebook: its answers run in a confined process of their own, the checks in this one.

What the notebook prints counts for nothing, and what it does to a check it does to its own copy.
"""

import ast
import contextlib
import io
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asking import EndedError, Limits, Process
from execute import ROOT
from exercise_cells import Exercise, is_check, read_exercises, read_notebook, regions, source


@dataclass(frozen=True)
class Mark:
    """What an exercise got: its points, ``None`` if a person has to look, and why."""

    exercise: Exercise
    points: int | None
    said: str


@dataclass(frozen=True)
class Marked:
    """A notebook's marks, in the order of the exercises, and what else there is to report."""

    marks: list[Mark]
    problems: list[str]


@dataclass
class Key:
    """A notebook of the book, run here: its exercises, its cells and the names that they leave."""

    name: str
    cells: list[dict[str, Any]]
    exercises: list[Exercise]
    names: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str, profile: str, root: Path = ROOT) -> "Key":
        """Read a notebook and run it, stubs and all, so that a check finds the names it uses."""
        notebook = read_notebook(name, root)
        key = cls(name, [cell for cell in notebook["cells"] if cell["cell_type"] != "raw"], read_exercises(notebook))
        key.cells = [with_profile(cell, profile) for cell in key.cells]
        with contextlib.redirect_stdout(io.StringIO()):
            for cell in key.cells:
                if is_run(cell) and not is_check(cell):
                    exec(compile(source(cell), f"<{name}>", "exec"), key.names)
        return key


def with_profile(cell: dict[str, Any], profile: str) -> dict[str, Any]:
    """The cell; the one of the parameters sets the profile."""
    if "parameters" not in cell["metadata"].get("tags", []):
        return cell
    return {**cell, "source": f"{source(cell)}\nprofile = {profile!r}"}


def is_run(cell: dict[str, Any]) -> bool:
    """Whether a cell takes part: not the set-up, which installs, nor the quiz, which only shows."""
    return cell["cell_type"] == "code" and not {"setup", "quiz"} & set(cell["metadata"].get("tags", []))


def answers_in(cells: list[dict[str, Any]], book: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Code of each exercise's own cells in a returned notebook, without its checks."""
    return {
        name: [source(cells[place]) for place in places if cells[place]["cell_type"] == "code"
               and not is_check(cells[place])]
        for name, places in regions(cells, book).items()
    }  # fmt: skip


def mark(notebook: dict[str, Any], key: Key, home: Path, limits: Limits) -> Marked:
    """Mark a returned notebook.

    Args:
        notebook: it, as JSON.
        key: the book's own notebook, from :meth:`Key.load`.
        home: folder with caches that the process gets a copy of.
    """
    given = answers_in(notebook["cells"], key.cells)
    marks = {one.id: Mark(one, None, "") for one in key.exercises if not one.check}
    marks |= {one.id: Mark(one, 0, "it is not in this notebook") for one in key.exercises if one.id not in given}
    problems: list[str] = []
    deadline = time.monotonic() + limits.notebook
    left_out: set[str] = set()
    while len(marks) < len(key.exercises):
        with Process(home, limits, deadline) as process:
            try:
                _mark_all(key, {name: code for name, code in given.items() if name not in left_out}, process, marks)
            except EndedError as problem:  # the exercise that ended it has no points; the others get another process
                problems.append(f"{process.now or 'between the exercises'}: {problem}")
                stuck = not process.now or time.monotonic() > deadline
                for one in key.exercises:
                    if stuck or one.id == process.now:
                        marks.setdefault(one.id, Mark(one, 0, str(problem)))
                left_out.add(process.now)
            problems += process.reports
    for one in key.exercises:
        if taken := borrowed(given.get(one.id, []), key, one):
            problems.append(f"{one.id}: its cell uses {taken}")
    return Marked([marks[one.id] for one in key.exercises], list(dict.fromkeys(problems)))


def borrowed(code: list[str], key: Key, one: Exercise) -> str:
    """What an answer takes from the library that it should not: the checks' rooms, and whatever its task forbids.

    Nothing is taken off for it: a person looks.
    """
    found = set()
    for cell in code:
        try:
            nodes = list(ast.walk(ast.parse(cell)))
        except SyntaxError:  # it will say so when it runs
            continue
        own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{name.name}" for name in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in own:
                if not node.attr.startswith("check_"):
                    found.add(f"{getattr(key.names.get(node.value.id), '__name__', '')}.{node.attr}")
            elif isinstance(node, ast.Name) and node.id not in own:
                thing = key.names.get(node.id)
                found.add(f"{getattr(thing, '__module__', '')}.{getattr(thing, '__name__', '')}")
    task = source(key.cells[regions(key.cells)[one.id].start]).lower()
    forbidden = "rrec_lib." if "no `rrec_lib`" in task else "rrec_lib.exercises."
    return ", ".join(sorted(name for name in found if name.startswith(forbidden)))


def _mark_all(key: Key, given: dict[str, list[str]], process: Process, marks: dict[str, Mark]) -> None:
    """Run the book's cells, with the given ones in the place of each exercise's, and mark what has no mark yet."""
    errors: dict[str, str] = {}
    exercise_at = {place: name for name, places in regions(key.cells).items() for place in places}
    for place, cell in enumerate(key.cells):
        process.now = name = exercise_at.get(place, "")
        if not name and is_run(cell):
            process.ask("cell", source(cell))
        elif name and name not in errors:
            found = [error for code in given.get(name, []) if (error := process.ask("cell", code, theirs=True))]
            if found and not any(said.startswith(f"{name}: ") for said in process.reports):
                process.reports.append(f"{name}: its cell raised {found[0]}")
            errors[name] = "; ".join(found)
    for one in key.exercises:
        if one.id not in marks:
            process.now = one.id
            mark = _mark_one(one, key, process, errors[one.id])
            if process.ended:
                raise EndedError(process.ended)
            marks[one.id] = mark


def _mark_one(one: Exercise, key: Key, process: Process, error: str) -> Mark:
    """Mark one exercise with the book's check."""
    names = dict(key.names)
    try:
        for name in one.names:
            names[name] = process.ask("value", name, theirs=True)
    except Exception as problem:
        return Mark(one, 0, f"Its cell raised {error}" if error else f"{type(problem).__name__}: {problem}")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), alarm(3 * process.limits.call):
        try:
            *before, last = ast.parse(one.check).body
            exec(compile(ast.Module(before, []), "<check>", "exec"), names)
            assert isinstance(last, ast.Expr)
            right = eval(compile(ast.Expression(last.value), "<check>", "eval"), names) is True
        except Exception as problem:  # `report` catches what an answer does; this is a check's own
            right = False
            print(f"{type(problem).__name__}: {problem}")
    text = "\n".join(filter(None, [said.getvalue().strip(), error and f"Its cell raised {error}"]))
    return Mark(one, one.difficulty if right else 0, text)


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block if it takes too long."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"the check took more than {seconds:g} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
