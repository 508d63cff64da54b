"""Mark one returned notebook: its answers run in a confined process of their own, the checks in this one.

What the notebook prints counts for nothing, and what it does to a check it does to its own copy. A check here calls an
answer as it would call any function; the call, and its gradients, go through a pipe (``answers.py``).
"""

import ast
import builtins
import contextlib
import io
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import answer_values
import dill
import numpy as np
import torch
from answers import wants_gradient
from execute import ROOT
from exercise_cells import Exercise, is_check, read_exercises, read_notebook, regions, source

PROGRAM = Path(__file__).with_name("answers.py")
MOST = 2**26  # bytes of one reply
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Limits:
    """Seconds for one cell or one call of an answer, and for a notebook; bytes of memory beside the program's own."""

    call: float = 20
    notebook: int = 180
    memory: int = 4 * 2**30


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


class EndedError(Exception):
    """The notebook's process is no more."""


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


def answers_in(cells: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Code of each exercise's own cells in a returned notebook, without its checks."""
    return {
        name: [source(cells[place]) for place in places if cells[place]["cell_type"] == "code"
               and not is_check(cells[place])]
        for name, places in regions(cells).items()
    }  # fmt: skip


def mark(notebook: dict[str, Any], key: Key, home: Path, limits: Limits) -> Marked:
    """Mark a returned notebook.

    Args:
        notebook: it, as JSON.
        key: the book's own notebook, from :meth:`Key.load`.
        home: folder with caches that the process gets a copy of.
    """
    given = answers_in(notebook["cells"])
    marks = {one.id: Mark(one, None, "") for one in key.exercises if not one.check}
    marks |= {one.id: Mark(one, 0, "it is not in this notebook") for one in key.exercises if one.id not in given}
    problems: list[str] = []
    deadline = time.monotonic() + limits.notebook
    left_out: set[str] = set()
    while len(marks) < len(key.exercises):
        with Process(home, limits, deadline) as process:
            looked_at = [""]
            try:
                _mark_all(key, given, left_out, process, marks, looked_at)
            except EndedError as problem:
                (current,) = looked_at
                problems.append(f"{current or 'between the exercises'}: {problem}")
                stuck = not current or time.monotonic() > deadline
                for one in key.exercises if stuck else [one for one in key.exercises if one.id == current]:
                    marks.setdefault(one.id, Mark(one, 0, str(problem)))
                left_out.add(current)
            problems += [said for said in process.refused if said not in problems]
    return Marked([marks[one.id] for one in key.exercises], problems)


def _mark_all(
    key: Key,
    given: dict[str, list[str]],
    left_out: set[str],
    process: "Process",
    marks: dict[str, Mark],
    looked_at: list[str],
) -> None:
    """Run the cells and mark what has no mark yet; ``looked_at`` holds the exercise that is run or called."""
    errors: dict[str, str] = {}
    inside = {place: one.id for one in key.exercises for place in regions(key.cells)[one.id]}
    done: set[str] = set()
    for place, cell in enumerate(key.cells):
        looked_at[0] = name = inside.get(place, "")
        if not name and is_run(cell):
            process.ask("cell", source(cell))
        elif name not in left_out | done:
            done.add(name)
            process.now = name
            found = [process.ask("cell", code, theirs=True) for code in given.get(name, [])]
            errors[name] = next(filter(None, found), "")
    for one in key.exercises:
        if one.id not in marks:
            looked_at[0] = process.now = one.id
            marks[one.id] = _mark_one(one, key, process, errors.get(one.id, ""))
            if process.ended:
                del marks[one.id]
                raise EndedError(process.ended)


def _mark_one(one: Exercise, key: Key, process: "Process", error: str) -> Mark:
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


class Process:
    """The confined process of a returned notebook, in a folder of its own."""

    def __init__(self, home: Path, limits: Limits, deadline: float) -> None:
        self.limits, self.deadline = limits, deadline
        self.now, self.ended = "", ""
        self.refused: list[str] = []
        self._home = home

    def __enter__(self) -> "Process":
        self._folder = tempfile.TemporaryDirectory(prefix="rrec-answers-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name).resolve()
        shutil.copytree(self._home, folder, dirs_exist_ok=True)
        numbers = (self.limits.call, self.limits.memory, self.limits.notebook)
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, folder, *map(str, numbers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=folder, env=environment(folder), start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()
        self._folder.cleanup()

    def ask(self, question: str, *arguments: Any, theirs: bool = False) -> Any:
        """Ask the process; what it raises is raised here.

        Raises:
            EndedError: if it is no more, or no answer came in time.
        """
        if self.ended:
            raise EndedError(self.ended)
        message = dill.dumps((question, arguments, theirs))
        until = min(self.deadline, time.monotonic() + self.limits.call + 5) if theirs else self.deadline
        try:
            self._process.stdin.write(struct.pack("<Q", len(message)) + message)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            (length,) = struct.unpack("<Q", self._receive(8, until))
            if length > MOST:
                raise EndedError(f"an answer of {length / 2**20:.0f} MiB is too large")
            head, _, tree = self._receive(length, until).partition(b"\n")
            told = json.loads(head)
            raised, refused = told["raised"], [str(what) for what in told["refused"]]
            result = answer_values.loads(tree, self._function, self._tensor)
        except EndedError as problem:
            self.ended = str(problem)
            raise
        except OSError:
            self.ended = "its process ended"
            raise EndedError(self.ended) from None
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as problem:
            self.ended = f"what it answered can't be read ({problem})"
            raise EndedError(self.ended) from None
        known = " ".join(self.refused)
        self.refused += [f"{self.now}: {what}" for what in refused if what not in known]
        if raised:
            raise exception(*map(str, raised))
        return result

    def _receive(self, size: int, until: float) -> bytes:
        pipe = self._process.stdout.fileno()  # type: ignore[union-attr]
        parts = b""
        while len(parts) < size:
            if not select.select([pipe], [], [], max(0, until - time.monotonic()))[0]:
                raise EndedError("it ran for too long and was stopped")
            part = os.read(pipe, min(size - len(parts), 2**20))
            if not part:
                raise EndedError("its process ended: a crash, an exit, or too much memory or time")
            parts += part
        return parts

    def _function(self, number: int) -> Any:
        def answer(*arguments: Any, **options: Any) -> Any:
            result, left, leaves = self.ask("call", number, list(arguments), options, theirs=True)
            for argument, state in zip(arguments, left, strict=True):
                put_back(argument, state)
            pairs = [(given, leaf) for given, leaf in zip(arguments, leaves, strict=True) if leaf is not None]
            return with_gradients(result, pairs, self)

        return answer

    def _tensor(self, number: int, value: torch.Tensor) -> "Kept":
        return Kept(number, value)


@dataclass
class Kept:
    """A tensor whose gradients the process has."""

    number: int
    value: torch.Tensor


class Through(torch.autograd.Function):
    """A tensor that the process computed from arguments of ours; gradients are asked for there."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, gradients: Any, *_: torch.Tensor) -> torch.Tensor:
        context.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(context: Any, *outer: torch.Tensor) -> Any:
        return None, None, *context.gradients(outer[0])


def with_gradients(value: Any, pairs: list[tuple[torch.Tensor, int]], process: Process) -> Any:
    """The value, in which each tensor that has a gradient there has it here."""
    if isinstance(value, (list, tuple)):
        return type(value)(with_gradients(part, pairs, process) for part in value)
    if not isinstance(value, Kept):
        return value
    if not pairs:
        return value.value

    def gradients(outer: torch.Tensor) -> Any:
        return process.ask("gradients", value.number, outer, [leaf for _, leaf in pairs], theirs=True)

    return Through.apply(value.value, gradients, *[given for given, _ in pairs])


def exception(kind: str, text: str) -> Exception:
    """What an answer raised there, of the same kind here if Python has that kind."""
    known = getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, Exception):
        with contextlib.suppress(TypeError):
            return known(text)
    return type(kind, (Exception,), {})(text)


def put_back(argument: Any, state: Any) -> None:
    """Change an argument of ours as the call changed its copy."""
    match argument:
        case _ if state is None:
            return
        case torch.Tensor() if not wants_gradient(argument):
            argument.copy_(state)
        case np.ndarray():
            argument[...] = state
        case list():
            argument[:] = state
        case dict() | set():
            argument.clear()
            argument.update(state)
        case torch.Generator():
            argument.set_state(state)
        case np.random.Generator():
            argument.bit_generator.state = state


def environment(folder: Path) -> dict[str, str]:
    """Variables of the process: of ours only those it needs, not the hidden seed."""
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**own, **offline, **caches(folder), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def caches(folder: Path) -> dict[str, str]:
    """Variables that keep everything that is written in ``folder``, without a screen, and on one thread."""
    places = {"HOME": "", "TMPDIR": "", "RREC_CACHE": "cache", "RREC_RESULTS_DIR": "results", "MPLCONFIGDIR": "plots"}
    places |= {"IPYTHONDIR": "ipython", "HF_HOME": "hub", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    fixed = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "RREC_PROGRESS": "off"}
    return {**{name: str(folder / place) for name, place in places.items()}, **fixed}
