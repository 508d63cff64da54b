"""The reference run on a tiny model: both arms within their budget, resumed, reported."""

import json
import shutil
import sys

import pytest

from rrec_lib.adapters import load_adapter
from rrec_lib.data.store import catalogue_hash
from rrec_lib.policy import load_policy, weights_hash
from rrec_lib.reports import load_reports


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("reference_run")


def test_both_arms_train_within_their_budget_and_are_read_back(
    script, smoke_profile, smoke_dataset, tmp_path, monkeypatch
):
    runs, out = tmp_path / "runs", tmp_path / "out"
    reports_at = out / "movielens-smoke"
    command = ["reference_run.py", "--profile", "smoke", "--seeds", "0", "--hours", "0.0003", "--every", "2", "2"]
    command += ["--rows", "8", "--set", "training.users_per_step=2", "--runs", str(runs), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    (untrained,) = load_reports(reports_at / "untrained-0.json")
    reports = {arm: load_reports(reports_at / f"{arm}-reasoning-0.json")[0] for arm in ("with", "without")}
    assert {report.name for report in (*reports.values(), untrained)} == set(script.ARMS)
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
        load_adapter(policy, folder / f"{expected[-1]}-adapter", catalogue_hash(smoke_dataset["items"]))
        assert weights_hash(policy.model, True) != fresh
        rows = [json.loads(line) for line in (folder / "warmup" / "log.jsonl").read_text().splitlines()]
        assert any("valid_ndcg@20" in row for row in rows)
        kept = (reports_at / f"{arm}-reasoning-0-warmup.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in kept] == [row for row in rows if "valid_ndcg@20" in row]
        told = {row["step"] for row in rows if row.get("token_loss", 0) > 0}
        every = script.SENTENCE_EVERY
        assert told == {row["step"] for row in rows if arm == "with" and "loss" in row and row["step"] % every == 0}
    # A second call trains nothing: without the reports it loads the finished stages and evaluates them again.
    first = (reports_at / "without-reasoning-0.json").read_text()
    shutil.rmtree(out)
    monkeypatch.setattr(script.StopOnValid, "on_step_begin", None)
    script.main()
    again = json.loads((reports_at / "without-reasoning-0.json").read_text())
    assert again["ranks"] == json.loads(first)["ranks"]
