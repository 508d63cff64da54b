"""The paper's tables: what one target per example allows, which rows break it, and how the page marks them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rrec_lib.experiments import published
from rrec_lib.experiments.published import (
    CUTOFFS,
    HEADS,
    SETS,
    TABLE_1,
    TABLE_2,
    contradictions,
    published_rows,
    published_tables,
)  # fmt: skip


def rounded_row(ranks, unit):
    """Hit and NDCG at 5, 10 and 20 of these ranks, rounded to so many units of 1e-4."""
    figures = []
    for k in CUTOFFS:
        found = ranks <= k
        figures += [found.mean(), (found / np.log2(1 + ranks)).mean()]
    return [round(figure * 1e4 / unit) * unit for figure in figures]


@pytest.mark.parametrize("unit", [1, 10])
def test_rows_of_real_ranks_hold_together_however_they_are_rounded(unit):
    rng = np.random.default_rng(0)
    for size in (7, 1344, 6351):
        for start in (1, 5, 6, 10, 11, 20):  # all hits right behind a cutoff, or right before it
            for spread in (1, 3, 40):
                ranks = start + rng.integers(0, spread, size) + 500 * (rng.random(size) < 0.5)
                assert contradictions(rounded_row(ranks, unit), unit=unit) == {}


SOUND = (264, 161, 397, 203, 615, 257)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {}),
        ({"N@5": 265, "N@10": 307, "N@20": 361}, {5: "N@5 is above H@5"}),
        ({"N@5": 90, "N@10": 132, "N@20": 186}, {5: "N@5 is 90, but 264 hits earn 102 to 264"}),
        ({"N@10": 211}, {10: "N@10 − N@5 is 50, but 133 hits earn 38 to 47", 20: "N@20 − N@10 is 46, but 218 hits earn "
                         "50 to 61"}),
        ({"N@20": 269}, {20: "N@20 − N@10 is 66, but 218 hits earn 50 to 61"}),
        ({"H@20": 390}, {20: "H@20 is below H@10"}),
        ({"N@20": 200}, {20: "N@20 − N@10 is -3, but 218 hits earn 50 to 61"}),
    ],
)  # fmt: skip
def test_each_kind_of_contradiction_is_said_where_it_is(changed, expected):
    row = dict(zip(HEADS, SOUND, strict=True)) | changed
    assert contradictions(list(row.values())) == expected


def test_rounding_gets_a_unit_and_no_more():
    edge = 120 / np.log2(7)  # 42.7: the most that 120 hits from rank 6 to 10 can earn
    assert contradictions((176, 121, 296, 121 + int(edge + 2), 511, 215)) == {}
    assert 10 in contradictions((176, 121, 296, 121 + int(edge + 3), 511, 215))
    assert 10 in contradictions((1760, 1210, 2960, 1210 + 434, 5110, 2150))  # the same figures with a digit more


def test_twenty_two_of_the_papers_sixty_rows_break_it():
    rows = list(published_rows())
    assert len(rows) == 60 == len(SETS) * (len(TABLE_1) + len(TABLE_2))
    assert all(len(figures) == len(HEADS) for *_, figures in rows)
    broken = [(table, place, name) for table, place, name, figures in rows if contradictions(figures)]
    assert Counter(table for table, *_ in broken) == {"Table 1": 15, "Table 2": 7}
    assert not [name for *_, name in broken if name.endswith("R²ec")]
    assert ("Table 2", "Games", "full") in broken
    assert ("Table 1", "CDs", "SASRec") in broken


def test_figures_and_cutoffs_must_fit():
    with pytest.raises(ValueError, match="zip"):
        contradictions((1, 1, 2, 2))


# -- the page --------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "book" / "paper-code-ours.md"


def rows(text):
    """The figures of each row in print, and the heads of its marked cells."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        if len(cells) == len(HEADS) and cells[0].rstrip("\u00a0‡").isdigit():
            marked = {head for head, cell in zip(HEADS, cells, strict=True) if "‡" in cell}
            yield tuple(int(cell.rstrip("\u00a0‡")) for cell in cells), marked


def test_every_row_is_shown_and_marked_where_it_fails():
    found = list(rows(published_tables()))
    by_set = [row for place in SETS for row in published_rows() if row[1] == place]
    assert [figures for figures, _ in found] == [tuple(figures) for *_, figures in by_set]
    assert [marked for _, marked in found] == [{f"N@{k}" for k in contradictions(figures)} for figures, _ in found]
    assert sum(bool(marked) for _, marked in found) == 22


def test_the_code_beside_the_tables_is_the_code_that_marks_them():
    code = published_tables().split("```python\n")[1].split("```")[0]
    space = {name: vars(published)[name] for name in ("Figures", "Sequence", "CUTOFFS", "log2")}
    exec(f"from __future__ import annotations\n{code}", space)
    for *_, figures in published_rows():
        assert space["contradictions"](figures) == contradictions(figures)


def test_another_figure_would_be_another_table(monkeypatch):
    before = published_tables()
    monkeypatch.setitem(TABLE_2, "full", ((264, 161, 397, 203, 615, 297), *TABLE_2["full"][1:]))
    after = published_tables()
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
        for table, place, name, figures in published_rows()
        if table == "Table 2" and name in used and contradictions(figures)
    }


@pytest.mark.parametrize("name", ["GRU4Rec", "Qwen BigRec", "Gemma SDPO"])
def test_baselines_are_cited(name):
    row = next(line for line in published_tables().splitlines() if line.startswith(f"| {name} "))
    key = row.split("{cite:p}`")[1].split("`")[0]
    assert f"{{{key}," in (PAGE.parent / "references.bib").read_text(encoding="utf-8")
