"""The table of ablations: a row for every line, figures only where a report is, and the paper's rows checked."""

import numpy as np
import pytest

from rrec_lib import ablations
from rrec_lib.ablations import (
    FULL,
    LINES,
    NOT_RUN,
    PAPER,
    SHIPPED,
    exceeds_hit,
    paper_cell,
    paper_table,
    read_ablations,
)
from rrec_lib.reports import Report, save_reports


def report(name: str, greater: int, rows: int = 12) -> Report:
    n_greater = np.arange(rows) % 3 + greater
    return Report(name, n_greater, np.ones(rows, dtype=int), np.arange(rows), 0, 100, 0, 50, f"examples {rows}")


def save(folder, name: str, seed: int, greater: int, rows: int = 12) -> None:
    save_reports(folder / f"{name}-{seed}.json", [report(name, greater, rows)], "smoke", f"data {rows}", seed)


@pytest.mark.parametrize("there", [False, True])
def test_without_reports_every_line_reads_not_run(tmp_path, there):
    rows = read_ablations(tmp_path if there else tmp_path / "missing")
    assert [row.name for row in rows] == list(LINES)
    assert all(row.cells()["mean"] == NOT_RUN and row.seeds == 0 for row in rows)


def test_a_recorded_line_shows_its_figures_and_the_others_do_not(tmp_path):
    for seed in (0, 1):
        save(tmp_path, FULL, seed, seed)
    save(tmp_path, "RLOO", 0, 20)
    save(tmp_path, "EASE", 0, 5)
    save(tmp_path, SHIPPED, 0, 10)
    save(tmp_path, "random text", 0, 11)
    rows = {row.name: row for row in read_ablations(tmp_path, samples=200)}
    assert (rows[FULL].seeds, rows[FULL].difference) == (2, None)
    expected = np.mean([report(FULL, seed).metric("ndcg@20").mean() for seed in (0, 1)])
    assert rows[FULL].interval.mean == pytest.approx(expected)
    assert rows["RLOO"].difference.verdict == "worse"
    assert rows["RLOO"].cells()["difference"].startswith("worse by")
    control, shipped = rows["random text"], rows[SHIPPED]
    assert control.difference.interval.mean == pytest.approx(control.interval.mean - shipped.interval.mean)
    assert list(rows)[-1] == "EASE"  # a name that is no line is shown, not lost
    assert rows["G = 2"].cells()["mean"] == NOT_RUN


def test_without_full_there_is_nothing_to_compare_with(tmp_path):
    save(tmp_path, "RLOO", 0, 3)
    row = next(row for row in read_ablations(tmp_path, samples=200) if row.name == "RLOO")
    assert row.interval is not None
    assert row.difference is None


def test_reports_on_other_examples_and_broken_files_are_refused(tmp_path):
    save(tmp_path, FULL, 0, 0)
    save(tmp_path, "RLOO", 0, 0, rows=9)
    with pytest.raises(ValueError, match="different data"):
        read_ablations(tmp_path)
    (tmp_path / "RLOO-0.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="can't be read as a report"):
        read_ablations(tmp_path)


def test_no_row_of_the_papers_ablation_breaks_the_bound():
    assert exceeds_hit([(76, 104)])  # SASRec on CDs in the paper's Table 1
    assert not exceeds_hit([(76, 76), (76, 10)])
    assert not any(exceeds_hit(pairs) for sets in PAPER.values() for pairs in sets)


def test_the_papers_rows_are_complete_and_named_as_ours():
    assert set(PAPER) | set(ablations.PAPER_STATES) <= set(LINES)
    table = paper_table()
    assert len(table) == 15
    assert table["CDs, without R_c"] == {
        "H@5": 543, "N@5": 382, "H@10": 774, "N@10": 456, "H@20": 1012, "N@20": 515
    }  # fmt: skip
    assert paper_cell("mean state") == "– / 453 / –"
    assert paper_cell("without R_c") == "208 / 456 / 264"
    assert paper_cell("RLOO") == ""
