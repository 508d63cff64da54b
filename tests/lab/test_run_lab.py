"""The recorded run of the lab: it resumes arm by arm, trains again where knobs differ, and loses nothing on the way."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from rrec_lib.lab import ARMS, LabConfig

REPOSITORY = Path(__file__).parents[2]
TINY = {
    "steps": 2, "users": 4, "group_size": 2, "warmup_steps": 1, "teach_steps": 1, "teach_rows": 4, "width": 16,
    "layers": 1, "heads": 2, "train_users": 50, "valid_users": 10, "test_users": 20, "steps_without": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_lab", REPOSITORY / "scripts" / "run_lab.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(script, monkeypatch, folder: Path, *more: str) -> dict:
    knobs = [f"{knob}={value}" for knob, value in TINY.items()]
    arguments = ["--seeds", "2", "--out", folder / "lab.json", "--checkpoints", folder / "runs", "--set", *knobs, *more]
    monkeypatch.setattr("sys.argv", ["run_lab.py", *map(str, arguments)])
    script.main()
    return json.loads((folder / "lab.json").read_text(encoding="utf-8"))


def test_a_finished_arm_is_not_trained_again_unless_a_knob_differs(script, monkeypatch, tmp_path):
    first = start(script, monkeypatch, tmp_path)
    assert len(first["runs"]) == 2 * len(ARMS)
    assert first["commit"]
    assert len(first["table"]) == 2 * len(ARMS) - 1  # without reasoning there is none to exchange
    trained = []
    original = script.run_arm
    monkeypatch.setattr(script, "run_arm", lambda config, arm, seed: trained.append(arm) or original(config, arm, seed))
    (tmp_path / "runs" / "full-1.json").unlink()
    again = start(script, monkeypatch, tmp_path)
    assert trained == ["full"]
    assert again["table"] == first["table"]
    start(script, monkeypatch, tmp_path, "beta=0.9")
    assert len(trained) == 1 + 2 * len(ARMS)


def test_a_report_survives_its_checkpoint(script):
    run = script.run_arm(LabConfig(**TINY), "full", 0)
    for condition, report in run.final.items():
        saved = json.loads(json.dumps(script.plain(script.as_dict(run), "run")))["final"][condition]
        back = script.report_of(saved)
        assert np.array_equal(back.metric("ndcg@20"), report.metric("ndcg@20"))
        assert back.examples == report.examples
