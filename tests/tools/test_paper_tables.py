"""The paper's rows on the page: every one of them is there, and marked where its arithmetic fails."""

from pathlib import Path
from typing import Any

import paper_tables
import pytest

from rrec_lib.experiments import published

PAGE = Path(__file__).resolve().parents[2] / "book" / "paper-code-ours.md"


def rows(text):
    """The figures of each row in print, and the heads of its marked cells."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        if len(cells) == len(published.HEADS) and cells[0].rstrip("\u00a0‡").isdigit():
            marked = {head for head, cell in zip(published.HEADS, cells, strict=True) if "‡" in cell}
            yield tuple(int(cell.rstrip("\u00a0‡")) for cell in cells), marked


def test_every_row_is_shown_and_marked_where_it_fails():
    found = list(rows(paper_tables.published_tables()))
    by_set = [row for place in published.SETS for row in published.published_rows() if row[1] == place]
    assert [figures for figures, _ in found] == [tuple(figures) for *_, figures in by_set]
    assert [marked for _, marked in found] == [
        {f"N@{k}" for k in published.contradictions(figures)} for figures, _ in found
    ]
    assert sum(bool(marked) for _, marked in found) == 22


def test_the_code_beside_the_tables_is_the_code_that_marks_them():
    code = paper_tables.published_tables().split("```python\n")[1].split("```")[0]
    space: dict[str, Any] = {"Figures": published.Figures, "Sequence": list, "CUTOFFS": published.CUTOFFS}
    space["log2"] = published.log2
    exec(f"from __future__ import annotations\n{code}", space)
    for *_, figures in published.published_rows():
        assert space["contradictions"](figures) == published.contradictions(figures)


def test_another_figure_would_be_another_table(monkeypatch):
    before = paper_tables.published_tables()
    monkeypatch.setitem(published.TABLE_2, "full", ((264, 161, 397, 203, 615, 297), *published.TABLE_2["full"][1:]))
    after = paper_tables.published_tables()
    assert "in 23 of the 60 rows" in after
    assert "in 22 of the 60 rows below, 15 in Table 1 and 7 in Table 2" in before


def test_the_page_shows_them_and_its_prose_names_the_marked_rows_it_uses():
    prose = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "_generated/published.md" in prose
    assert "*full* and *without $R_c$* on Games, *without reasoning* on Instruments" in prose
    leaning = {("Games", "full"), ("Games", "without R_c"), ("Instruments", "without reasoning")}
    used = ("full", "without R_c", "without reasoning")
    assert leaning == {
        (place, name)
        for table, place, name, figures in published.published_rows()
        if table == "Table 2" and name in used and published.contradictions(figures)
    }


@pytest.mark.parametrize("name", ["GRU4Rec", "Qwen BigRec", "Gemma SDPO"])
def test_baselines_are_cited(name):
    row = next(line for line in paper_tables.published_tables().splitlines() if line.startswith(f"| {name} "))
    key = row.split("{cite:p}`")[1].split("`")[0]
    assert f"{{{key}," in (PAGE.parent / "references.bib").read_text(encoding="utf-8")
