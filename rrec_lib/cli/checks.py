"""What several commands ask of their arguments before any work."""

import argparse
import os
from pathlib import Path

FIGURES = (".png", ".svg", ".pdf", "")


def file_to_write(text: str) -> Path:
    """An argument's type: a file that is there or can be made; a command would otherwise fail when its work is done."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there}, in which {path.name} would lie, is a file")
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f"{there} can't be written to")
    return path


def figure_to_write(text: str) -> Path:
    """As :func:`file_to_write`, for a figure, whose ending says its format."""
    path = file_to_write(text)
    if path.suffix.lower() not in FIGURES:
        raise argparse.ArgumentTypeError(f"{path.name} would be no figure; let it end in .png, .svg or .pdf")
    return path
