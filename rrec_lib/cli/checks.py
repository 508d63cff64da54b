"""What several commands ask of their arguments before any work."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rrec_lib.core.profiles import Profile

FIGURES = (".png", ".svg", ".pdf", "")
CARD = "adapter_card.json"  # as rrec_lib.model.adapters has it, which imports torch


def file_to_write(text: str) -> Path:
    """An argument's type: a file that is there or can be made; a command would otherwise fail when its work is done."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    _check_place(path, path.absolute().parents)
    return path


def folder_to_write(text: str) -> Path:
    """As :func:`file_to_write`, for a folder."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file; name a folder")
    _check_place(path, [path.absolute(), *path.absolute().parents])
    return path


def _check_place(path: Path, folders: Sequence[Path]) -> None:
    """Require that the first of some folders that is there can be written to; who may do all finds out by trying."""
    there = next(folder for folder in folders if folder.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there}, in which {path.name} would lie, is a file")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as problem:
        raise argparse.ArgumentTypeError(f"{there} can't be written to ({problem.strerror})") from problem


def seed(text: str) -> int:
    """An argument's type: a seed that all random streams take."""
    return _between(text, 0, 2**32 - 1)


def threads(text: str) -> int:
    """An argument's type: a number of threads."""
    return _between(text, 1, 4096)


def _between(text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a whole number, got {text!r}") from None
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"takes a number from {low} to {high}, got {number}")
    return number


def figure_to_write(text: str) -> Path:
    """As :func:`file_to_write`, for a figure, whose ending says its format."""
    path = file_to_write(text)
    if path.suffix.lower() not in FIGURES:
        raise argparse.ArgumentTypeError(f"{path.name} would be no figure; let it end in .png, .svg or .pdf")
    return path


def with_adapter(profile: Profile, folder: Path) -> Profile:
    """A profile with an adapter of the reader's own in place of the recorded ones."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no adapter folder {folder}; `rrec train` makes one")
    if not (folder / CARD).is_file():
        within = [f"{stage}-adapter" for stage in ("recpo", "warmup") if (folder / f"{stage}-adapter" / CARD).is_file()]
        meant = f"; did you mean {folder / within[0]}?" if within else "; `rrec train` makes one"
        raise FileNotFoundError(f"{folder} holds no adapter, for {CARD} is missing{meant}")
    return replace(profile, adapters={"recpo": str(folder.resolve())})
