"""What every exercise check shares: run it, say what happened, never stop the notebook."""

from collections.abc import Callable
from functools import wraps
from typing import Any


def report(check: Callable[..., None]) -> Callable[..., bool]:
    """Turn a function that asserts into one that prints a verdict.

    Args:
        check: raises ``AssertionError`` with a helpful sentence if the answer it is given is wrong. The first line of
            its docstring is printed when the answer is right.

    Returns:
        A function with the same arguments that prints ``✓``, ``✗`` or ``…`` and returns whether the answer is right.
    """

    @wraps(check)
    def run(*args: Any, **kwargs: Any) -> bool:
        try:
            check(*args, **kwargs)
        except NotImplementedError:
            print("… not attempted yet: replace the line that raises NotImplementedError")
            return False
        except AssertionError as problem:
            print(f"✗ {problem}")
            return False
        except Exception as problem:  # a broken answer must not stop the reader's notebook
            print(f"✗ your function raised {type(problem).__name__}: {problem}")
            return False
        print(f"✓ {(check.__doc__ or 'correct').strip().splitlines()[0]}")
        return True

    return run
