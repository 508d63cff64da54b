"""Every benchmark runs on tiny sizes, and its last line is the short form of its result."""

import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_process import run_script
from torch.utils.flop_counter import FlopCounterMode

from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("common")


def last_line(script, *arguments):
    done = run_script(ROOT / "benchmarks" / script, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


NAMES = ["rollouts", "recpo_step", "item_encoding", "prepare", "evaluation", "states", "trie", "asking"]
MEMORY = pytest.param("memory", marks=pytest.mark.slow)  # four processes that import everything afresh


@pytest.mark.parametrize("name", [*NAMES, MEMORY])
def test_the_last_line_is_json_and_a_quick_run_is_written_only_where_it_is_asked_for(name, tmp_path):
    recorded = ROOT / "results" / "benchmarks" / f"{name}.json"
    before = recorded.read_bytes() if recorded.exists() else None
    asked = name != "evaluation"
    result = json.loads(last_line(f"{name}.py", "--quick", *(["--out", str(tmp_path / "run.json")] if asked else [])))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"] * asked
    if asked:
        run = json.loads((tmp_path / "run.json").read_text())
        assert result.items() <= run.items()
        assert {"command", "commit", "device", "figures"} <= run.keys()
    assert set(result) == {"name", "ratio", "spread"}
    assert result["name"] == name
    assert 0 < result["spread"][0] <= result["ratio"] <= result["spread"][1]
    assert (recorded.read_bytes() if recorded.exists() else None) == before


def test_operations_are_those_that_torch_counts(common, smoke_profile):
    policy = load_policy(smoke_profile.model)
    adapted: Any = policy.model
    model, length = language_model(adapted.merge_and_unload()), 24
    model.set_attn_implementation("eager")  # plain products, over all pairs of tokens
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.arange(length)[None])
    products = counter.get_total_flops()
    assert common.forward_flops(policy, length, length**2, length) == pytest.approx(products, rel=1e-3)
    for wrong in ((length, length**2, 0), (length, 0, length), (0, length**2, length)):
        assert common.forward_flops(policy, *wrong) != pytest.approx(products, rel=1e-3)


def test_pairs_by_hand(common):
    assert common.pairs_behind(0, 3) == 1 + 2 + 3
    assert common.pairs_behind(10, 2) == 11 + 12


def test_a_clock_waits_for_the_device(common, monkeypatch):
    def seconds():
        return common.in_turn({"queued": lambda: None}, 1)["queued"][0]

    assert seconds() < 0.05
    monkeypatch.setattr(common.hardware, "synchronize", lambda: time.sleep(0.05))
    assert seconds() >= 0.05


def test_a_script_that_fails_is_noticed():
    with pytest.raises(AssertionError, match="No such file"):
        last_line("no_such_script.py")
