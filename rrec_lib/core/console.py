"""Progress and quiet: what long work prints, and what libraries must not."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


class TrainingError(RuntimeError):
    """A run that had to end: its message says why, and which checkpoint remains."""


def quiet_libraries() -> None:
    """Turn off the libraries' own progress bars and advice; warnings that matter are raised by this project."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def forgive_terminals() -> None:
    """Let a terminal that can't show a character get an escape for it; else the command would end after all its work.

    So would one whose output a caller has closed: it goes nowhere. Commands and scripts call this first.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, it stays open
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, it stays open
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's or a test's stream shows everything
            stream.reconfigure(errors="backslashreplace")


def sentence(problem: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(problem).split())


def script(main: Callable[[], None]) -> Callable[[], None]:
    """Let a script's ``main`` end as commands do: in a sentence and 2 for what a reader can mend, in 130 for Ctrl-C."""

    @wraps(main)
    def run() -> None:
        forgive_terminals()
        try:
            main()
        except (ValueError, OSError, TrainingError) as problem:
            print(f"error: {sentence(problem)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("error: interrupted; what is finished is kept, and the same command goes on", file=sys.stderr)
            sys.exit(130)

    return run


def print_json(content: Any) -> None:
    """Print JSON for programs; where the output's encoding is not UTF-8, in ASCII, which any can take.

    Raises:
        ValueError: if a number is not finite, for which JSON has no word.
    """
    utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")
    print(json.dumps(content, indent=1, ensure_ascii=not utf8, allow_nan=False))


def say(message: str) -> None:
    """Print a line about long work to stderr, unless ``RREC_PROGRESS=off`` silences it."""
    if os.environ.get("RREC_PROGRESS") != "off":
        print(message, file=sys.stderr, flush=True)


def progress(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar: tqdm at a terminal or in a live notebook, plain lines in a log.

    ``RREC_PROGRESS=off`` silences it; the book's build sets that, so that pages carry no residue.
    """
    if os.environ.get("RREC_PROGRESS") == "off":
        yield from iterable
        return
    if sys.stderr.isatty() or "ipykernel.kernelapp" in sys.modules:
        from tqdm.auto import tqdm

        yield from tqdm(iterable, desc=description, total=total, leave=False)
        return
    total = total if total is not None else len(iterable)  # type: ignore[arg-type]
    start, last = time.monotonic(), 0.0
    for done, item in enumerate(iterable):
        elapsed = time.monotonic() - start
        if elapsed - last > 10:
            print(f"{description}: {done}/{total}, {elapsed:.0f} s", file=sys.stderr, flush=True)
            last = elapsed
        yield item


def byte_progress(
    chunks: Iterable[bytes], description: str, done: int = 0, total: int | None = None
) -> Iterator[bytes]:
    """Hand on chunks of bytes under a bar like that of :func:`progress`, which counts and rates them in MB.

    Args:
        chunks: the bytes as they come.
        description: what they are, such as a file's name.
        done: bytes that an earlier run brought.
        total: bytes of the whole, if known.
    """
    if os.environ.get("RREC_PROGRESS") == "off":
        yield from chunks
        return
    if sys.stderr.isatty() or "ipykernel.kernelapp" in sys.modules:
        from tqdm.auto import tqdm

        with tqdm(desc=description, initial=done, total=total, unit="B", unit_scale=True, leave=False) as bar:
            for chunk in chunks:
                bar.update(len(chunk))
                yield chunk
        return
    of = "" if total is None else f" of {total / 1e6:.1f}"
    start, last, first = time.monotonic(), 0.0, done
    for chunk in chunks:
        done += len(chunk)
        elapsed = time.monotonic() - start
        if elapsed - last > 10:
            say(f"{description}: {done / 1e6:.1f}{of} MB, {(done - first) / 1e6 / elapsed:.1f} MB/s")
            last = elapsed
        yield chunk
