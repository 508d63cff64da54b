"""The exercises as they stand in the notebooks: which cells belong to each, its stub, check, hints and solution."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from execute import ROOT, notebook_names

KINDS = ("code", "prediction", "investigation")
HEADING = re.compile(r"^### (\d\d\.\d+) · (.+)$", re.MULTILINE)
FOLDED = re.compile(r"<details>\s*<summary>(.*?)</summary>\s*(.*?)\s*</details>", re.DOTALL)
CHECK = re.compile(r"\s*nb\d\d\.check_\w+\(")


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    Attributes:
        id: such as ``"05.3"``.
        place: of its title cell in the notebook.
        stub: the code that the reader replaces.
        check: the call that checks the answer; empty for an investigation.
        names: what the stub defines: the answer.
        folded: contents of its folded parts by their titles (Hint 1, Solution, Rubric, ...).
        solution: the code that fills the stub; empty for an investigation.
    """

    id: str
    title: str
    difficulty: int
    minutes: int
    kind: str
    place: int
    stub: str
    check: str
    names: tuple[str, ...]
    folded: dict[str, str]
    solution: str


def chapter_names(root: Path = ROOT) -> list[str]:
    """Names of the chapters' notebooks."""
    return [name for name in notebook_names(root) if not name.endswith("_exercises")]


def companion_names(root: Path = ROOT) -> list[str]:
    """Names of the notebooks of exercises."""
    return [name for name in notebook_names(root) if name.endswith("_exercises")]


def read_notebook(name: str, root: Path = ROOT) -> dict[str, Any]:
    """A notebook of the book by name."""
    return json.loads((root / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    """A cell's text."""
    return "".join(cell["source"])


def is_check(cell: dict[str, Any]) -> bool:
    """Whether a cell does nothing but check an answer."""
    return cell["cell_type"] == "code" and bool(CHECK.match(source(cell)))


def headings(cell: dict[str, Any]) -> Iterator[re.Match[str]]:
    """Headings of a text cell: of exercises, with the id as first group, and of the first two levels."""
    if cell["cell_type"] == "markdown":
        text = re.sub(r"^```.*?^```", "", source(cell), flags=re.DOTALL | re.MULTILINE)
        yield from re.finditer(r"^##? .+$|" + HEADING.pattern, text, re.MULTILINE)


def regions(cells: list[dict[str, Any]], book: list[dict[str, Any]] | None = None) -> dict[str, range]:
    """Places of the cells that belong to each exercise, its title cell first; found by headings alone, since Colab
    keeps neither a cell's id nor all of its metadata.

    Args:
        cells: of a notebook.
        book: cells of the book's own, if ``cells`` were returned: a heading that is none of its is the student's.
    """
    ends = None if book is None else {match[0] for cell in book for match in headings(cell)}
    starts = []
    for place, cell in enumerate(cells):
        if match := next((one for one in headings(cell) if one[1] or ends is None or one[0] in ends), None):
            starts.append((place, match[1] or ""))
    return {name: range(start, end) for (start, name), (end, _) in pairwise([*starts, (len(cells), "")]) if name}


def defined(code: str) -> tuple[str, ...]:
    """Names that a piece of code defines at its top level."""
    names = []
    for node in ast.parse(code).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return tuple(names)


def read_exercises(notebook: dict[str, Any]) -> list[Exercise]:
    """The exercises of a notebook, in its order.

    Raises:
        ValueError: if one is not made as it should be; the message says what it lacks.
    """
    cells = notebook["cells"]
    return [_read(name, cells, places) for name, places in regions(cells).items()]


def _read(name: str, cells: list[dict[str, Any]], places: range) -> Exercise:
    own, title = [cells[place] for place in places], cells[places.start]
    given = title["metadata"].get("exercise", {})
    if given.get("id") != name or given.get("kind") not in KINDS:
        raise ValueError(f"exercise {name}: its title cell's metadata should hold its id and kind, not {given}")
    code = [cell for cell in own if cell["cell_type"] == "code"]
    stubs = [source(cell) for cell in code if "exercise" in cell["metadata"].get("tags", [])]
    checks = [source(cell) for cell in code if "check_" in source(cell) and source(cell) not in stubs]
    prose = "\n\n".join(source(cell) for cell in own if cell["cell_type"] == "markdown")
    folded = dict(FOLDED.findall(prose))
    fence = re.search(r"```python\n(.*?)```", folded.get("Solution", ""), re.DOTALL)
    open_ended = given["kind"] == "investigation"
    if len(stubs) != 1 or len(checks) != (not open_ended):
        raise ValueError(f"exercise {name}: {len(stubs)} cells tagged exercise and {len(checks)} checks")
    for part in ("Hint 1", "Hint 2", *(("Rubric", "A sample answer") if open_ended else ("Solution",))):
        if part not in folded:
            raise ValueError(f"exercise {name} has no folded part {part!r}")
    if not open_ended and not fence:
        raise ValueError(f"exercise {name}: its solution has no python fence")
    heading = HEADING.search(source(title))
    return Exercise(
        id=name,
        title=heading[2] if heading else "",
        difficulty=given["difficulty"],
        minutes=given["minutes"],
        kind=given["kind"],
        place=places.start,
        stub=stubs[0],
        check=checks[0] if checks else "",
        names=defined(stubs[0]),
        folded=folded,
        solution=fence[1] if fence else "",
    )
