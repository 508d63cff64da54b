"""The recorded run of the lab: it resumes arm by arm, trains again where knobs differ, and loses nothing on the way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrec_lib.evaluation.compare import arm_interval, group_reports
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments import lab_runs
from rrec_lib.lab import CONDITIONS, LabConfig

LINES = ("full", "without reasoning", "RLOO")
TINY: dict[str, Any] = {
    "steps": 2, "users": 4, "group_size": 2, "warmup_steps": 1, "warmup_last_steps": 1, "warmup_rows": 4,
    "teach_steps": 1, "teach_mixed_steps": 1, "teach_rows": 4, "width": 16, "layers": 1, "heads": 2,
    "train_users": 50, "valid_users": 10, "test_users": 20, "steps_without": 1,
}  # fmt: skip


def start(folder: Path, **more) -> dict:
    lab_runs.run_lab(LabConfig(**{**TINY, **more}), (0, 1), LINES, folder / "lab", folder / "runs", samples=20)
    return json.loads((folder / "lab" / "lab.json").read_text(encoding="utf-8"))


def test_a_finished_line_is_not_trained_again_nor_lost_to_other_knobs(monkeypatch, tmp_path):
    first = start(tmp_path)
    lines = len(LINES)
    assert len(first["runs"]) == 2 * lines
    assert first["seeds"] == [0, 1]
    assert first["commit"]
    assert len(first["table"]) == len(CONDITIONS) * (lines - 1) + 1  # without reasoning there is none to exchange
    trained = []
    original = lab_runs.run_arm
    monkeypatch.setattr(
        lab_runs, "run_arm", lambda config, arm, seed: trained.append(arm) or original(config, arm, seed)
    )
    (tmp_path / "runs" / "full-1.json").unlink()
    again = start(tmp_path)
    assert trained == ["full"]
    assert again["table"] == first["table"]
    before = (tmp_path / "runs" / "full-0.json").read_bytes()
    with pytest.raises(ValueError, match=r"full-0.json is of other knobs \(beta\)"):
        start(tmp_path, beta=0.9)
    assert (tmp_path / "runs" / "full-0.json").read_bytes() == before
    assert trained == ["full"]


def test_a_seed_leaves_reports_that_can_be_compared(tmp_path):
    table = start(tmp_path)["table"]
    reports = [report for seed in (0, 1) for report in load_reports(tmp_path / "lab" / f"seed-{seed}.json")]
    arms = group_reports(reports)
    assert set(arms) == set(table)
    for name in ("full", "full, read: another user's"):
        assert arm_interval(arms[name], "hit@5").mean == pytest.approx(table[name]["hit@5"]["mean"])
    assert not np.array_equal(arms["full"][0].n_greater, arms["full"][1].n_greater)


def test_a_search_keeps_curves_and_no_test_figure(tmp_path):
    lab_runs.search_rate(LabConfig(**TINY), [1e-3, 1e-1], tmp_path / "search.json")
    found = json.loads((tmp_path / "search.json").read_text(encoding="utf-8"))
    assert [trial["learning_rate_without"] for trial in found["trials"]] == [1e-3, 1e-1]
    assert all(set(trial) == {"learning_rate_without", "seconds", "curves"} for trial in found["trials"])


def test_a_line_of_the_lab_is_printed_with_what_it_cost():
    runs = [{"line": "full", "seconds": {"training": 1.0, "warm-up": n}} for n in (2.0, 4.0)]
    hit = {"mean": 0.5, "low": 0.25, "high": 0.75}
    recorded = {"table": {"full": {"hit@1": hit}, "read": {"hit@1": hit}}, "runs": runs}
    cells = {"Hit@1": "0.500", "95 %": "0.250 to 0.750", "full against it": "", "processor s": "4"}
    assert lab_runs.lab_cells(recorded, "full") == cells
    assert lab_runs.lab_cells(recorded, "read")["processor s"] == ""  # no training of its own
