"""Running the ablations: lines share a warm-up and differ, controls read RecPO's weights, and a new line is one row."""

import json
from collections import Counter

import numpy as np
import pytest

from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments import runner
from rrec_lib.experiments.ablations import ABLATIONS, read_ablations, run_ablations
from rrec_lib.experiments.runner import Options
from rrec_lib.model.adapters import load_adapter, save_adapter
from rrec_lib.model.policy import load_policy, weights_hash


@pytest.mark.parametrize("name", ["full", "G = 2", "G = 8"])
def test_a_batch_keeps_its_number_of_reasonings(name, smoke_profile):
    knobs = {"rollouts.group_size": 4, **runner.SETTINGS, **ABLATIONS[name].knobs}
    assert knobs["rollouts.group_size"] * knobs["training.users_per_step"] == 4 * 8


def test_lines_are_trained_from_one_warm_up_and_controls_read_one_adapter(
    smoke_profile, smoke_dataset, tmp_path, monkeypatch
):
    runs, out, warmup = tmp_path / "runs", tmp_path / "out", tmp_path / "warmup"
    trained = ["full", "logQ correction", "without reasoning", "contrastive only", "warm-up goes on"]
    read = ["random text", "shipped adapter"]
    options = Options(0.0003, 2, runs, out, "smoke", {"training.users_per_step": 2}, rows=8)

    def run(names, recpo=warmup):
        run_ablations(options, names, test_rows=2, adapters={"warmup": warmup, "recpo": recpo})

    with pytest.raises(FileNotFoundError, match=f"no adapter {warmup}; name one with --warmup"):
        run(trained)
    save_adapter(load_policy(smoke_profile.model), warmup, catalogue_hash(smoke_dataset["items"]), {})
    run(trained)
    recpo = runs / "movielens-smoke" / "full-0" / "recpo-adapter"
    run(read, recpo)
    lines = [*trained, *read]
    ranks = {
        line: load_reports(out / "movielens-smoke" / f"{line.replace(' ', '-')}-0.json")[0].n_greater for line in lines
    }
    weights = {}
    for line in trained:
        policy = load_policy(smoke_profile.model)
        adapter = runs / "movielens-smoke" / f"{line.replace(' ', '-')}-0" / f"{ABLATIONS[line].trains}-adapter"
        load_adapter(policy, adapter, catalogue_hash(smoke_dataset["items"]))
        weights[line] = weights_hash(policy.model, True)
    assert len(set(weights.values())) == len(weights)
    assert not np.array_equal(ranks["random text"], ranks["shipped adapter"])
    rows = {row.name: row for row in read_ablations(out / "movielens-smoke", samples=50)}
    assert {name for name, row in rows.items() if row.seeds} == set(lines)
    rows_of_users = Counter(smoke_dataset["test"]["user_id"]).values()
    users = Counter(load_reports(out / "movielens-smoke" / "full-0.json")[0].users.tolist())
    assert sorted(users.values()) == sorted(min(count, 2) for count in rows_of_users)
    log_file = runs / "movielens-smoke" / "full-0" / "recpo" / "log.jsonl"
    log = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert any("valid_ndcg@20" in row for row in log)
    monkeypatch.setattr(runner, "train_recpo", None)
    run(read, recpo)  # everything is there already
    run(trained)
    with pytest.raises(ValueError, match="adapter"):
        run(read)  # these controls have read another one
