"""What every exercise check shares: run it, say what happened, never stop the notebook."""

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import torch

Trial = tuple[str, Any, Any, Mapping[str, Any]]


def draws() -> torch.Generator:
    """A generator for a check's random cases, with the seed ``$RREC_CHECK_SEED`` (else 0): grading has its own."""
    return torch.Generator().manual_seed(int(os.environ.get("RREC_CHECK_SEED", "0")))


def report(check: Callable[[Any], None]) -> Callable[[Any], bool]:
    """Turn a function that asserts into one that prints a verdict.

    Args:
        check: takes the reader's answer, a function or a value, and raises ``AssertionError`` with a helpful sentence
            if it is wrong. It never sees an answer that isn't there: ``None``, or a function that returns ``None`` or
            raises ``NotImplementedError``. The first line of its docstring is printed when the answer is right.

    Returns:
        A function with the same argument that prints ``✓``, ``✗`` or ``…`` and returns whether the answer is right.
    """

    @wraps(check)
    def run(answer: Any) -> bool:
        try:
            check(_answered(answer) if callable(answer) else _given(answer))
        except NotImplementedError:
            print("… nothing to check yet: put your answer in the place of what stands there")
            return False
        except AssertionError as problem:
            print(f"✗ {problem}")
            return False
        except Exception as problem:  # a broken answer must not stop the reader's notebook
            print(f"✗ your answer raised {type(problem).__name__}: {problem}")
            return False
        print(f"✓ {(check.__doc__ or 'correct').strip().splitlines()[0]}")
        return True

    return run


def _answered(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The reader's function, where a missing answer raises instead of being returned."""

    @wraps(answer)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _given(answer(*args, **kwargs))

    return call


def _given(value: Any) -> Any:
    """The value, unless it or one of its parts is a blank: ``None`` or ``...``."""
    parts = value if isinstance(value, (tuple, list)) else [value]
    if any(part is None or part is ... for part in parts):
        raise NotImplementedError
    return value


def hint(signs: Mapping[str, bool]) -> str:
    """The first sentence whose sign is there, to end a message with; nothing if none is."""
    return next((f"; {sentence}" for sentence, there in signs.items() if there), "")


def near(value: Any, other: Any) -> bool:
    """Whether two numbers, of whatever library, are the same up to rounding."""
    return abs(float(value) - float(other)) < 1e-6


def require(
    trials: Sequence[Trial], same: Callable[[Any, Any], bool] = operator.eq, show: Callable[[Any], Any] = str
) -> None:
    """Require an answer to be right in every trial, or say what it looks like.

    A known mistake is named if it gives what the answer gives in all trials: in a single one it may be chance.

    Args:
        trials: each what went in, what came out, what should have, and what known mistakes give, by the sentence that
            names them.
        same: whether two results are the same.
        show: a result in words.

    Raises:
        AssertionError: with the first trial that failed, and the mistake if it is known.
    """
    failed = next((trial for trial in trials if not same(trial[1], trial[2])), None)
    if failed:
        shown, given, expected, known = failed
        named = [name for name in known if all(name in t[3] and same(t[1], t[3][name]) for t in trials)]
        raise AssertionError("; ".join([f"{shown}: expected {show(expected)}, got {show(given)}", *named[:1]]))


def require_reason(letter: Any, right: str, wrong: Mapping[str, str]) -> None:
    """Require the letter of the right reason for a prediction.

    Args:
        letter: the reader's.
        right: the right one.
        wrong: the others, each with what speaks against it.

    Raises:
        AssertionError: with a sentence for the reader.
    """
    said, known = str(letter).strip().lower(), ", ".join(sorted([right, *wrong]))
    assert said in {right, *wrong}, f"the numbers are right; give the reason as one letter of {known}, not {letter!r}"
    assert said == right, f"the numbers are right, the reason isn't: {wrong.get(said, '')}"
