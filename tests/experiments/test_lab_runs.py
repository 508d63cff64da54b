"""The recorded run of the lab: it resumes arm by arm, trains again where knobs differ, and loses nothing on the way."""

import json
from pathlib import Path

import numpy as np
import pytest

from rrec_lib.evaluation.compare import arm_interval, group_reports
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.lab import CONDITIONS

LINES = ("full", "without reasoning", "RLOO")
TINY = {
    "steps": 2, "users": 4, "group_size": 2, "warmup_steps": 1, "warmup_last_steps": 1, "warmup_rows": 4,
    "teach_steps": 1, "teach_mixed_steps": 1, "teach_rows": 4, "width": 16, "layers": 1, "heads": 2,
    "train_users": 50, "valid_users": 10, "test_users": 20, "steps_without": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("run_lab")


def start(script, monkeypatch, folder: Path, *more: str) -> dict:
    knobs = [f"{knob}={value}" for knob, value in TINY.items()]
    lines = ["--lines", *LINES]
    paths = ["--out", folder / "lab", "--checkpoints", folder / "runs"]
    arguments = ["--seeds", "0", "1", "--samples", "20", *lines, *paths, "--set", *knobs, *more]
    monkeypatch.setattr("sys.argv", ["run_lab.py", *map(str, arguments)])
    script.main()
    return json.loads((folder / "lab" / "lab.json").read_text(encoding="utf-8"))


def test_a_finished_line_is_not_trained_again_nor_lost_to_other_knobs(script, monkeypatch, tmp_path):
    first = start(script, monkeypatch, tmp_path)
    lines = len(LINES)
    assert len(first["runs"]) == 2 * lines
    assert first["seeds"] == [0, 1]
    assert first["commit"]
    assert len(first["table"]) == len(CONDITIONS) * (lines - 1) + 1  # without reasoning there is none to exchange
    trained = []
    original = script.run_arm
    monkeypatch.setattr(script, "run_arm", lambda config, arm, seed: trained.append(arm) or original(config, arm, seed))
    (tmp_path / "runs" / "full-1.json").unlink()
    again = start(script, monkeypatch, tmp_path)
    assert trained == ["full"]
    assert again["table"] == first["table"]
    before = (tmp_path / "runs" / "full-0.json").read_bytes()
    with pytest.raises(ValueError, match=r"full-0.json is of other knobs \(beta\)"):
        start(script, monkeypatch, tmp_path, "beta=0.9")
    assert (tmp_path / "runs" / "full-0.json").read_bytes() == before
    assert trained == ["full"]


@pytest.mark.parametrize(("setting", "message"), [
    ("steps", "a setting reads KEY=VALUE"), ("foo=1", "foo"), ("user_state=all", "user_state must be one of"),
    ("token_normalization=all", "token_normalization must be one of"),
])  # fmt: skip
def test_a_wrong_knob_is_named_before_anything_runs(script, monkeypatch, tmp_path, capsys, setting, message):
    with pytest.raises(SystemExit):
        start(script, monkeypatch, tmp_path, setting)
    assert message in capsys.readouterr().err


def test_a_seed_leaves_reports_that_can_be_compared(script, monkeypatch, tmp_path):
    table = start(script, monkeypatch, tmp_path)["table"]
    reports = [report for seed in (0, 1) for report in load_reports(tmp_path / "lab" / f"seed-{seed}.json")]
    arms = group_reports(reports)
    assert set(arms) == set(table)
    for name in ("full", "full, read: another user's"):
        assert arm_interval(arms[name], "hit@5").mean == pytest.approx(table[name]["hit@5"]["mean"])
    assert not np.array_equal(arms["full"][0].n_greater, arms["full"][1].n_greater)


def test_a_search_keeps_curves_and_no_test_figure(script, monkeypatch, tmp_path):
    knobs = [f"{knob}={value}" for knob, value in TINY.items()]
    monkeypatch.setattr("sys.argv", ["run_lab.py", "--search", "1e-3", "1e-1", "--out", str(tmp_path), "--set", *knobs])
    script.main()
    found = json.loads((tmp_path / "search.json").read_text(encoding="utf-8"))
    assert [trial["learning_rate_without"] for trial in found["trials"]] == [1e-3, 1e-1]
    assert all(set(trial) == {"learning_rate_without", "seconds", "curves"} for trial in found["trials"])
    assert not (tmp_path / "lab.json").exists()
