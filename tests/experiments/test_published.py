"""The arithmetic of published tables: what one target per example allows, and which rows break it."""

from collections import Counter

import numpy as np
import pytest

from rrec_lib.experiments.published import CUTOFFS, HEADS, SETS, TABLE_1, TABLE_2, contradictions, published_rows


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
