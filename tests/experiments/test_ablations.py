"""The table of ablations: a row for every line, figures only where a report is, and the paper's rows checked."""

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrec_lib.evaluation.reports import Report, save_reports
from rrec_lib.experiments import published
from rrec_lib.experiments.ablations import ABLATIONS, FULL, NOT_RUN, SHIPPED, Ablation, paper_cell, read_ablations

ROOT = Path(__file__).resolve().parents[2]


def report(name: str, greater: int, rows: int = 12) -> Report:
    n_greater = np.arange(rows) % 3 + greater
    return Report(name, n_greater, np.ones(rows, dtype=int), np.arange(rows), 0, 100, 0, 50, f"examples {rows}")


def save(folder, name: str, seed: int, greater: int, rows: int = 12) -> None:
    save_reports(folder / f"{name}-{seed}.json", [report(name, greater, rows)], "smoke", f"data {rows}", seed)


@pytest.mark.parametrize("there", [False, True])
def test_without_reports_every_line_reads_not_run(tmp_path, there):
    rows = read_ablations(tmp_path if there else tmp_path / "missing")
    assert [row.name for row in rows] == list(ABLATIONS)
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
    assert set(published.TABLE_2) | set(published.STATES) <= set(ABLATIONS)
    assert paper_cell("mean state") == "– / 453 / –"
    assert paper_cell("without R_c") == "208 / 456 / 264"
    assert paper_cell("RLOO") == ""


def test_the_papers_rows_on_states_hold_together():
    assert [name for name, row in published.STATES.items() if published.contradictions(row, (5, 10))] == []
    # the paper's fourth, the maximum, does not: another reason not to show it
    assert published.contradictions((595, 382, 729, 445), (5, 10))


def test_an_ablation_stands_in_one_line_of_one_file():
    """But for the paper's own figures, the lab and a diagram, which have lines of the same names."""
    folders = [ROOT / name for name in ("rrec_lib/experiments", "scripts", "tools")]
    paths = {path for folder in folders for path in folder.glob("*.py")}
    others = {"published.py", "lab_runs.py", "lab_dial.py", "lab_weights.py", "diagrams.py"}
    texts = [ast.parse(path.read_text()) for path in paths if path.name not in others]
    strings = Counter(node.value for tree in texts for node in ast.walk(tree) if isinstance(node, ast.Constant))
    assert {name: strings[name] for name in ABLATIONS} == dict.fromkeys(ABLATIONS, 1)


def test_a_line_that_is_added_is_offered_and_read(tmp_path, monkeypatch):
    monkeypatch.setitem(ABLATIONS, "G = 3", Ablation("G = 3", "three reasonings per user", against="RLOO"))
    save(tmp_path, "G = 3", 0, 1)
    save(tmp_path, "RLOO", 0, 1)
    rows: dict[str, Any] = {row.name: row for row in read_ablations(tmp_path, samples=50)}
    row = rows["G = 3"]
    assert (row.what, row.seeds, row.difference.interval.mean) == ("three reasonings per user", 1, 0)
