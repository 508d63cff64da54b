"""The table of ablations: a row for every line, figures only where a report is, and the paper's rows checked."""

from typing import Any

import numpy as np
import pytest

from rrec_lib.evaluation.reports import Report, save_reports
from rrec_lib.experiments import ablations, published
from rrec_lib.experiments.ablations import FULL, LINES, NOT_RUN, SHIPPED, paper_cell, read_ablations


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
    rows: dict[str, Any] = {row.name: row for row in read_ablations(tmp_path, samples=200)}
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


def test_the_papers_rows_are_named_as_ours():
    assert set(published.TABLE_2) | set(ablations.PAPER_STATES) <= set(LINES)
    assert paper_cell("mean state") == "– / 453 / –"
    assert paper_cell("without R_c") == "208 / 456 / 264"
    assert paper_cell("RLOO") == ""


def test_the_papers_rows_on_states_hold_together():
    assert [name for name, row in ablations.PAPER_STATES.items() if published.contradictions(row, (5, 10))] == []
    # the paper's fourth, the maximum, does not: another reason not to show it
    assert published.contradictions((595, 382, 729, 445), (5, 10))


def test_a_line_of_the_lab_is_printed_with_what_it_cost():
    runs = [{"line": "full", "seconds": {"training": 1.0, "warm-up": n}} for n in (2.0, 4.0)]
    hit = {"mean": 0.5, "low": 0.25, "high": 0.75}
    recorded = {"table": {"full": {"hit@1": hit}, "read": {"hit@1": hit}}, "runs": runs}
    cells = {"Hit@1": "0.500", "95 %": "0.250 to 0.750", "full against it": "", "processor s": "4"}
    assert ablations.lab_cells(recorded, "full") == cells
    assert ablations.lab_cells(recorded, "read")["processor s"] == ""  # no training of its own
