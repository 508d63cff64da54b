"""Ask the confined process of a returned notebook for its answers.

A check calls an answer as it would call any function; the call goes to the process through a pipe, and so do what it
changes of its arguments and its gradients.
"""

import builtins
import contextlib
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
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import answer_values
import dill
import numpy as np
import torch
from answers import parts_of, wants_gradient
from execute import ROOT

PROGRAM = Path(__file__).with_name("answers.py")
MOST = 2**26  # bytes of one reply
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Limits:
    """Seconds for one cell or one call of an answer, and for a notebook; bytes of memory beside the program's own."""

    call: float = 20
    notebook: int = 180
    memory: int = 4 * 2**30


class EndedError(Exception):
    """The notebook's process is no more."""


class Process:
    """The confined process of a returned notebook, in a folder of its own."""

    def __init__(self, home: Path, limits: Limits, deadline: float) -> None:
        self.limits, self.deadline = limits, deadline
        self.now, self.ended = "", ""
        self.reports: list[str] = []
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
            raised, refused = told["raised"], told["refused"]
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
        self.reports += [f"{self.now}: {what}" for what in refused]
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
        case FunctionType():
            for part, its in zip(parts_of(argument), state, strict=True):
                put_back(part, its)


def environment(folder: Path) -> dict[str, str]:
    """Variables of the process: of ours only those it needs, not the hidden seed."""
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**own, **offline, **caches(folder), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def caches(folder: Path) -> dict[str, str]:
    """Variables that keep everything that is written in ``folder``, without a screen, and on one thread."""
    places = {"HOME": "", "TMPDIR": "", "RREC_CACHE": "cache", "RREC_RESULTS_DIR": "results", "MPLCONFIGDIR": "plots"}
    places |= {"IPYTHONDIR": "ipython", "HF_HOME": "hub", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    fixed = {
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RREC_PROGRESS": "off",
    }
    return {**{name: str(folder / place) for name, place in places.items()}, **fixed}
