"""The reference run on a tiny model: both arms within their budget, resumed, reported."""

import json
import shutil
from dataclasses import replace
from itertools import count

import pytest
import torch

from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments.reference import ARMS, run_reference
from rrec_lib.experiments.runner import Options, chunked_states
from rrec_lib.model.adapters import load_adapter
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.callbacks import StopOnValid


def test_both_arms_train_within_their_budget_and_are_read_back(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    runs, out = tmp_path / "runs", tmp_path / "out"
    reports_at = out / "movielens-smoke"
    options = Options(0.001, (2, 2), runs, out, "smoke", {"training.users_per_step": 2}, rows=8)
    clock = count()  # half a second a step, however fast the machine: 8 steps without, 5 and 3 with reasoning
    monkeypatch.setattr("rrec_lib.training.callbacks.spent", lambda: next(clock) / 4)  # two ask
    run_reference(options, seeds=[0])
    (untrained,) = load_reports(reports_at / "untrained-0.json")
    reports = {arm: load_reports(reports_at / f"{arm}-reasoning-0.json")[0] for arm in ("with", "without")}
    assert {report.name for report in (*reports.values(), untrained)} == set(ARMS)
    assert not (untrained.n_greater == reports["without"].n_greater).all()
    assert not (reports["with"].n_greater == reports["without"].n_greater).all()
    stages = {"with": ["warmup", "recpo"], "without": ["warmup"]}
    for arm, expected in stages.items():
        folder = runs / "movielens-smoke" / f"{arm}-reasoning-0"
        assert sorted(path.name for path in folder.glob("*-adapter")) == sorted(
            f"{stage}-adapter" for stage in expected
        )
        policy = load_policy(smoke_profile.model)
        fresh = weights_hash(policy.model, True)
        card = load_adapter(policy, folder / f"{expected[-1]}-adapter", catalogue_hash(smoke_dataset["items"]))
        assert weights_hash(policy.model, True) != fresh
        rows = [json.loads(line) for line in (folder / "warmup" / "log.jsonl").read_text().splitlines()]
        kept = (reports_at / f"{arm}-reasoning-0-warmup.jsonl").read_text().splitlines()
        logged = [json.loads(line) for line in kept]
        assert [row for row in logged if "loss" in row] == [row for row in rows if "loss" in row]
        spent = [row["cpu_seconds"] for row in logged if "valid_ndcg@20" in row]
        assert spent == ([1, 2, 2.5] if arm == "with" else [1, 2, 3, 4])
        writing = reports[arm].run["writing"]
        assert writing["cpu_seconds_per_row"] > 0
        assert reports[arm].run["tokens"]["history"] > reports[arm].run["tokens"]["item"] > 20
        assert ("unfinished" in writing) == (arm == "with")
        valid = {row["step"]: row["valid_ndcg@20"] for row in logged if "valid_ndcg@20" in row}
        if arm == "without":
            assert card["steps"] == max(valid, key=valid.__getitem__)
        told = {row["step"] for row in rows if row.get("token_loss", 0) > 0}
        assert bool(told) == (arm == "with")
    # A second call trains nothing: without the reports it loads the finished stages and evaluates them again.
    first = (reports_at / "without-reasoning-0.json").read_text()
    started = [json.loads(line) for line in (reports_at / "with-reasoning-0-recpo.jsonl").read_text().splitlines()]
    assert started[0]["step"] == 1
    shutil.rmtree(out)
    monkeypatch.setattr(StopOnValid, "on_step_begin", None)
    run_reference(options, seeds=[0])
    again = json.loads((reports_at / "without-reasoning-0.json").read_text())
    assert again["ranks"] == json.loads(first)["ranks"]
    # Other settings are no seed of the same arm: neither the report nor the checkpoints are taken for theirs.
    other = replace(options, overrides={**options.overrides, "warmup.learning_rate": 0.5})
    for gone in (None, out):
        if gone:
            shutil.rmtree(gone)
        with pytest.raises(ValueError, match=r"other settings \(profile.warmup.learning_rate 0.002, now 0.5\)"):
            run_reference(other, seeds=[0])


def test_states_are_read_back_only_for_the_same_rows_weights_and_rollouts(
    smoke_profile, smoke_dataset, tmp_path, monkeypatch
):
    policy, test = load_policy(smoke_profile.model), list(smoke_dataset["test"])[:7]
    computed: list[int] = []

    def states(control="own", rows=test, **rollouts):
        profile = replace(smoke_profile, rollouts=replace(smoke_profile.rollouts, **rollouts))
        recommender = ReasoningRecommender(policy, list(smoke_dataset["items"]), profile)
        of_all, original = recommender.states, recommender.states(rows, control)
        computed.clear()
        monkeypatch.setattr(
            recommender, "states", lambda rows, *rest: computed.append(len(rows)) or of_all(rows, *rest)
        )
        found, writing = chunked_states(recommender, rows, control, 3, tmp_path, tmp_path / "written")
        torch.testing.assert_close(found, original, atol=1e-4, rtol=1e-4)
        return writing

    assert states()["tokens"] > 0
    assert computed == [3, 2, 2]
    states()
    assert computed == []
    states(rows=[*test[:6], test[0]])  # other rows are other chunks, though the first six are the same
    assert 0 < len(computed) < 4
    states(max_new_tokens=2)
    assert computed == [3, 2, 2]
    assert set(states("none")) == {"cpu_seconds_per_row"}
    assert computed == [3, 2, 2]
