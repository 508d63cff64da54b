"""Run the cells of a returned notebook in this process, confined, and hand its answers to the one that marks them.

Started by ``asking.py``, its trusted parent, which asks on standard input, in pickles, and is answered on standard
output, in JSON: whatever the cells do here, they can only change their own answers.
"""

import inspect
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, BinaryIO

import answer_values
import confine
import dill
import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class Late(BaseException):
    """The reader's code ran for too long."""


class Host:
    """The cells' names, and the functions and tensors that stay here."""

    def __init__(self, watch: confine.Watch, seconds: float) -> None:
        self.watch, self.seconds = watch, seconds
        self.kept: list[Any] = []
        settings = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
        self.shell = InteractiveShell.instance(config=settings)
        signal.signal(signal.SIGALRM, self._late)

    def _late(self, *_: Any) -> None:
        self.watch.refused.append(f"running for more than {self.seconds:g} s")
        raise Late(f"it ran for more than {self.seconds:g} s")

    def keep(self, thing: Any) -> int:
        """Keep something here; returns its number."""
        self.kept.append(thing)
        return len(self.kept) - 1

    def limited(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Run something of the reader's."""
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            with self.watch.on():
                return do(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @staticmethod
    def freely(do: Callable[..., Any], *arguments: Any) -> Any:
        """Run something of the book's."""
        return do(*arguments)

    def answer(self, question: str, *arguments: Any) -> bytes:
        """Answer one question, in JSON."""
        return answer_values.dumps(getattr(self, f"_{question}")(*arguments), self.keep)

    def _cell(self, code: str) -> str:
        """Run a cell; what it raised, in words."""
        done = self.shell.run_cell(code, store_history=False)
        problem = done.error_before_exec or done.error_in_exec
        return "" if problem is None else ": ".join(in_words(problem))

    def _value(self, name: str) -> Any:
        """The value of a name."""
        if name not in self.shell.user_ns:
            raise NameError(f"{name} is not defined")
        return self.shell.user_ns[name]

    def _call(self, number: int, arguments: list[Any], options: dict[str, Any]) -> Any:
        """Call a function; its result, the arguments as it left them, and the numbers of those with gradients."""
        result = self.kept[number](*arguments, **options)
        leaves = [self.keep(given) if wants_gradient(given) else None for given in arguments]
        return result, [self._state(argument) for argument in arguments], leaves

    def _state(self, argument: Any) -> Any:
        """What a call may have changed of an argument; ``None`` where that can't be told."""
        try:
            answer_values.dumps(state := state_of(argument), self.keep)
        except TypeError:
            return None
        return state

    def _gradients(self, number: int, outer: torch.Tensor, leaves: list[int]) -> Any:
        """Gradients of a kept tensor with respect to kept arguments; ``None`` where it doesn't depend on one."""
        wanted = [self.kept[leaf] for leaf in leaves]
        return torch.autograd.grad(self.kept[number], wanted, outer, retain_graph=True, allow_unused=True)


def wants_gradient(value: Any) -> bool:
    """Whether gradients are to reach a value."""
    return isinstance(value, torch.Tensor) and value.requires_grad


def state_of(argument: Any) -> Any:
    """What a function may have changed of an argument, or ``None``."""
    match argument:
        case torch.Tensor() | np.ndarray() | list() | dict() | set() if not wants_gradient(argument):
            return argument
        case torch.Generator():
            return argument.get_state()
        case np.random.Generator():
            return argument.bit_generator.state
        case FunctionType():
            return [state_of(part) for part in parts_of(argument)]
    return None


def parts_of(function: FunctionType) -> list[Any]:
    """What a function of ours may count in: its defaults, and what it closes over, other functions left out."""
    held = [*(function.__defaults__ or ()), *inspect.getclosurevars(function).nonlocals.values()]
    return [part for part in held if not isinstance(part, FunctionType)]


def in_words(problem: BaseException) -> tuple[str, str]:
    """The kind of an exception, and what it says."""
    return "TimeoutError" if isinstance(problem, Late) else type(problem).__name__, str(problem)


def read(stream: BinaryIO) -> bytes:
    """One message; nothing at the stream's end."""
    head = stream.read(8)
    return stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else b""


def write(stream: BinaryIO, message: bytes) -> None:
    """Send one message."""
    stream.write(struct.pack("<Q", len(message)) + message)
    stream.flush()


def serve(host: Host, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions."""
    while message := read(questions):
        question, arguments, theirs = dill.loads(message)
        ask = host.limited if theirs else Host.freely
        try:
            reply, raised = ask(host.answer, question, *arguments).decode(), None
        except BaseException as problem:  # theirs, whatever it is: SystemExit too
            reply, raised = "null", in_words(problem)
        head = json.dumps({"raised": raised, "refused": host.watch.refused[:20]})
        host.watch.refused.clear()
        write(answers, f"{head}\n{reply}".encode())


def main() -> None:
    folder, seconds, memory, total = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what the cells print is nobody's answer
        os.dup2(nowhere, stream)
    os.chdir(folder)
    confine.limit(memory, total)
    confine.confine(folder)
    serve(Host(confine.Watch(folder), seconds), questions, answers)


if __name__ == "__main__":
    main()
