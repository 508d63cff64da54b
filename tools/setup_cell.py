"""The set-up cell, the same in every notebook: ``python tools/setup_cell.py`` writes it into all of them."""

import json
import os
import re
import tomllib
from pathlib import Path

from install import MODEL_PACKAGE

ROOT = Path(__file__).resolve().parent.parent
PINNED = ("trl", "gguf")  # what Colab lacks; everything else that rrec_lib needs is there

# --no-deps: trl 1.10 and later ask for a newer datasets and pyarrow than Colab has, and pip would replace them.
TEMPLATE = """\
# Colab gets the library; elsewhere `make` has installed it already.
import sys

if "google.colab" in sys.modules:
    repo = "{repository}"
    %pip install -q --no-deps git+{{repo}} {pins}
    %pip install -q --no-deps {model}"""


def repository(root: Path = ROOT) -> str:
    """The book's repository, as pyproject.toml gives it."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def source(root: Path = ROOT) -> str:
    """The set-up cell's text, with the repository of pyproject.toml and the versions of requirements.lock."""
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    pins = " ".join(re.search(rf"^{name}==\S+$", lock, re.MULTILINE).group() for name in PINNED)  # type: ignore[union-attr]
    return TEMPLATE.format(repository=repository(root), pins=pins, model=MODEL_PACKAGE)


def write_json(path: Path, content: dict) -> None:
    """Write a notebook the way Jupyter does, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def with_setup_cell(notebook: dict, text: str) -> dict:
    """The notebook with ``text`` in its cell tagged ``setup``."""
    cells = [
        {**cell, "source": text.splitlines(keepends=True)} if "setup" in cell["metadata"].get("tags", []) else cell
        for cell in notebook["cells"]
    ]
    return {**notebook, "cells": cells}


def main() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        before = json.loads(path.read_text(encoding="utf-8"))
        after = with_setup_cell(before, source())
        if after != before:
            write_json(path, after)
            print(f"wrote the set-up cell of {path.name}")


if __name__ == "__main__":
    main()
