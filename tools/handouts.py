"""Write the notebooks as handouts: ``python tools/handouts.py student`` without solutions, ``... solutions`` with them.

The first go to _build/student, the second, with every stub filled, to _build/solutions.
"""

import argparse
import re
import shutil
from pathlib import Path
from typing import Any

from execute import ROOT, notebook_names
from exercise_cells import FOLDED, read_exercises, read_notebook, regions, source
from setup_cell import write_json

GIVEN_AWAY = ("Solution", "A sample answer")
FOLDED_TOO = re.compile(r";\s+the\s+solution\s+is\s+folded\s+too\b")
COLAB = re.compile(r"^\[Open\s+in\s+Colab\]\([^)]*\)\n+", re.MULTILINE)  # it opens the version with solutions


def for_students(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without solutions and sample answers; hints and rubrics stay."""

    def without(cell: dict[str, Any]) -> dict[str, Any]:
        if cell["cell_type"] != "markdown":
            return cell
        text = FOLDED.sub(lambda fold: "" if fold[1] in GIVEN_AWAY else fold[0], source(cell))
        text = FOLDED_TOO.sub("", text)
        return with_source(cell, COLAB.sub("", re.sub(r"\n{3,}", "\n\n", text)).strip())

    return {**notebook, "cells": [without(cell) for cell in notebook["cells"]]}


def for_teachers(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with every stub filled by the solution; an investigation keeps its sample answer."""
    cells = list(notebook["cells"])
    solutions = {one.id: one.solution for one in read_exercises(notebook) if one.solution}
    for name, places in regions(cells).items():
        for place in places:
            if name in solutions and "exercise" in cells[place]["metadata"].get("tags", []):
                cells[place] = with_source(cells[place], solutions[name].strip())
    return {**notebook, "cells": cells}


def with_source(cell: dict[str, Any], text: str) -> dict[str, Any]:
    """The cell with another text."""
    return {**cell, "source": text.splitlines(keepends=True)}


KINDS = {"student": for_students, "solutions": for_teachers}


def write(kind: str, root: Path = ROOT) -> list[Path]:
    """Write all notebooks of the book as handouts of a kind into its folder, which is filled afresh."""
    folder = root / "_build" / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = []
    for name in notebook_names(root):
        paths.append(path := folder / f"{name}.ipynb")
        write_json(path, KINDS[kind](read_notebook(name, root)))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    kind = parser.parse_args().kind
    print(f"{len(write(kind))} notebooks: _build/{kind}")


if __name__ == "__main__":
    main()
