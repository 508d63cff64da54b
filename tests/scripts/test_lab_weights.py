"""The lab's weights for the page: written as trained, but for rounding, and worth what the file says."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from rrec_lib.lab import LabConfig, make_world, run_arm

TINY = LabConfig(
    steps=2, users=6, group_size=2, warmup_hits=1.0, warmup_steps=2, warmup_last_steps=2, warmup_rows=12,
    teach_steps=2, teach_mixed_steps=1, teach_rows=8, width=16, layers=1, heads=2, train_users=200, valid_users=40,
    test_users=250, evaluate_every=2,
)  # fmt: skip


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    return importlib.import_module("lab_weights")


def test_what_is_written_is_read_again(script, tmp_path):
    run, path = run_arm(TINY, "full", 0), tmp_path / "there" / "lab-data.js"
    script.write_weights(run, path)
    model, content = script.read_weights(path)
    for name, weight in run.model.state_dict().items():
        assert model.state_dict()[name].equal(weight.half().float()), name
    world = make_world(0, 200, 40, 250)
    assert content["users"] == world.test.histories[:200].tolist()
    assert content["about"]["config"]["steps"] == 2
    assert world.catalogue[content["classes"][7], content["slots"][7]] == 7
    assert json.dumps(content["about"])

    path.write_text("var other = {};", encoding="utf-8")
    with pytest.raises(ValueError, match="not written by lab_weights"):
        script.read_weights(path)


def test_the_shipped_model_is_worth_what_its_file_says(script):
    model, content = script.read_weights()
    about = content["about"]
    config = LabConfig(**about["config"])
    assert config == LabConfig()  # the recorded settings
    world = make_world(config.world_seed, config.train_users, config.valid_users, config.test_users)
    found = script.hits(model, world, about["seed"])
    assert found == pytest.approx(about["hit@1, rounded weights"], abs=0.005)
    assert found["own"] > 0.95
    assert found["own"] == pytest.approx(about["hit@1"], abs=0.005)
    assert max(found["another user's"], found["nothing"]) < 0.1
    assert sum(weight.numel() for weight in model.parameters()) < 500_000
    assert script.PAGE.stat().st_size < 1_200_000
    assert torch.equal(torch.tensor(content["classes"]), world.classes)
