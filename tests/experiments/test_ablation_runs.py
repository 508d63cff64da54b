"""The script behind the table of ablations: lines share a warm-up and differ, controls read RecPO's weights."""

import json
import sys
from collections import Counter

import numpy as np
import pytest

from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments.ablations import LINES, read_ablations
from rrec_lib.model.adapters import load_adapter, save_adapter
from rrec_lib.model.policy import load_policy, weights_hash


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("ablations")


def test_every_line_of_the_script_is_one_of_the_table(script):
    assert set(script.LINES) | set(script.READ) <= set(LINES)
    for line in ("G = 2", "G = 8"):
        knobs = script.LINES[line]
        assert knobs["rollouts.group_size"] * knobs["training.users_per_step"] == 4 * 8


def test_lines_are_trained_from_one_warm_up_and_controls_read_one_adapter(
    script, smoke_profile, smoke_dataset, tmp_path, monkeypatch, capsys
):
    runs, out, warmup = tmp_path / "runs", tmp_path / "out", tmp_path / "warmup"
    trained = ["full", "logQ correction", "without reasoning", "contrastive only", "warm-up goes on"]
    read = ["random text", "shipped adapter"]
    command = ["ablations.py", "--profile", "smoke", "--hours", "0.0003", "--every", "2", "--rows", "8"]
    command += ["--test-rows", "2", "--set", "training.users_per_step=2", "--runs", str(runs), "--out", str(out)]
    command += ["--warmup", str(warmup), "--recpo"]
    monkeypatch.setattr(sys, "argv", [*command, str(warmup), "--lines", *trained])
    with pytest.raises(SystemExit):
        script.main()
    assert f"no adapter {warmup}; name one with --warmup" in capsys.readouterr().err
    save_adapter(load_policy(smoke_profile.model), warmup, catalogue_hash(smoke_dataset["items"]), {})
    script.main()
    recpo = runs / "movielens-smoke" / "full-0" / "adapter"
    monkeypatch.setattr(sys, "argv", [*command, str(recpo), "--lines", *read])
    script.main()
    lines = [*trained, *read]
    ranks = {
        line: load_reports(out / "movielens-smoke" / f"{line.replace(' ', '-')}-0.json")[0].n_greater for line in lines
    }
    weights = {}
    for line in trained:
        policy = load_policy(smoke_profile.model)
        adapter = runs / "movielens-smoke" / f"{line.replace(' ', '-')}-0" / "adapter"
        load_adapter(policy, adapter, catalogue_hash(smoke_dataset["items"]))
        weights[line] = weights_hash(policy.model, True)
    assert len(set(weights.values())) == len(weights)
    assert not np.array_equal(ranks["random text"], ranks["shipped adapter"])
    rows = {row.name: row for row in read_ablations(out / "movielens-smoke", samples=50)}
    assert {name for name, row in rows.items() if row.seeds} == set(lines)
    rows_of_users = Counter(smoke_dataset["test"]["user_id"]).values()
    users = Counter(load_reports(out / "movielens-smoke" / "full-0.json")[0].users.tolist())
    assert sorted(users.values()) == sorted(min(count, 2) for count in rows_of_users)
    log_file = runs / "movielens-smoke" / "full-0" / "training" / "log.jsonl"
    log = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert any("valid_ndcg@20" in row for row in log)
    monkeypatch.setattr(script, "train_recpo", None)
    script.main()  # everything is there already
    monkeypatch.setattr(sys, "argv", [*command, str(warmup), "--lines", *read])
    with pytest.raises(ValueError, match="adapter"):
        script.main()  # these controls have read another one
