"""The compute curve on a tiny model: nested samples, one file, seconds of each K, resumed without sampling again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rrec_lib.baselines.item_item import EASE
from rrec_lib.baselines.registry import BASELINES, Baseline
from rrec_lib.evaluation.evaluate import evaluate, evaluate_scores, sample_examples
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.experiments.compute_curve import arm_name, run_curve
from rrec_lib.experiments.readings import adapter_folder
from rrec_lib.experiments.runner import Options
from rrec_lib.recommend.recommender import ReasoningRecommender, averaged


def test_smaller_numbers_average_the_first_of_the_same_samples(smoke_dataset, adapter, tmp_path, monkeypatch):
    options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {}, 0)
    drawn: list[tuple[int, int]] = []
    table: list[torch.Tensor] = []
    items_of_samples = [3, 40, 17, 25]
    sample = ReasoningRecommender.sample

    def noted(self, examples, count, *rest):
        drawn.append((len(examples), count))
        written = sample(self, examples, count, *rest)
        if count == 4:  # the states of known items, so that what the first K of them average to is known
            for one, item in zip(written, items_of_samples, strict=True):
                one.states[:] = self.item_embeddings[item]
                table.append(self.item_embeddings)
        return written

    monkeypatch.setattr(ReasoningRecommender, "sample", noted)
    run = run_curve(options, adapter, test_rows=1, samples=(4, 1, 2), timed_rows=5)
    reports = {report.name: report for report in load_reports(run.report)}
    assert list(reports) == ["1 reasoning", "2 reasonings", "4 reasonings", "none", "greedy"]
    test = sample_examples(smoke_dataset["test"], 1000, 1, seed=0)
    for count in (1, 2, 4):
        state = averaged(table[0][items_of_samples[:count], None])
        expected = evaluate_scores(score_items(state, table[0]).repeat(len(test), 1), test, "by hand")
        assert np.array_equal(reports[arm_name(count)].n_greater, expected.n_greater)
    one = reports["1 reasoning"]
    assert not np.array_equal(one.n_greater, reports["4 reasonings"].n_greater)
    kept = json.loads(run.report.read_text())
    assert set(kept["asking"]) == set(reports)
    assert min(kept["asking"].values()) > 0
    assert kept["asking"]["4 reasonings"] > kept["asking"]["none"]
    assert kept["writing"]["cpu_seconds_per_row"] > kept["asking"]["none"]
    rows = len(one.users)
    assert rows == len(set(one.users.tolist()))
    # All K come of one draw of four; what is timed samples as many as it says, on its own rows.
    assert drawn.count((rows, 4)) == 1
    assert [count for examples, count in drawn if examples == 5] == [1, 2, 4, 1]
    run.report.unlink()
    monkeypatch.setattr("rrec_lib.experiments.compute_curve.check_blind", lambda *rest: one.findings[0])
    drawn.clear()
    again = run_curve(options, adapter, test_rows=1, samples=(1, 2, 4), timed_rows=5)
    assert drawn == []
    ranks = json.loads(again.report.read_text())
    assert ranks["ranks"] == kept["ranks"]
    assert ranks["asking"] == kept["asking"]
    with pytest.raises(ValueError, match="other settings"):
        run_curve(options, adapter, test_rows=2, samples=(1, 2, 4), timed_rows=5)


def test_the_greedy_report_is_that_of_todays_evaluation(adapter, smoke_profile, smoke_dataset, tmp_path):
    options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {}, 0)
    run = run_curve(options, adapter, samples=(1,), timed_rows=2)
    reports = {report.name: report for report in load_reports(run.report)}
    profile = replace(smoke_profile, adapters={"recpo": str(adapter)})
    from rrec_lib.recommend.films import load_recommender

    today = evaluate(load_recommender(profile, "recpo").model, smoke_dataset["test"], "today")
    differ = np.abs(reports["greedy"].n_greater - today.n_greater)
    assert np.median(differ) == 0
    assert differ.max() <= 2  # other batches round otherwise
    assert reports["greedy"].examples == today.examples


def test_baselines_are_timed_as_their_search_chose(adapter, tmp_path, monkeypatch):
    search = tmp_path / "movielens-smoke" / "ease.json"
    search.parent.mkdir()
    trials = [{"parameters": {"l2": l2, "length": 5}, "valid": valid} for l2, valid in ((10, 0.1), (77, 0.3), (5, 0.2))]
    search.write_text(json.dumps({"trials": trials}))
    asked, fitted = [], []

    def find(relative):
        asked.append(relative)
        return tmp_path

    def fit(splits, seed, **parameters):
        fitted.append(parameters)
        return EASE(splits.train, splits.n_items, **parameters)

    monkeypatch.setattr("rrec_lib.baselines.tuning.resource", find)
    monkeypatch.setitem(BASELINES, "EASE", Baseline(fit))
    options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {}, 0)
    run = run_curve(options, adapter, test_rows=1, samples=(1,), timed_rows=3, baselines=("EASE", "eSASRec"))
    assert asked == ["results/baselines"]  # in which eSASRec has no search
    assert fitted == [{"l2": 77, "length": 5}]
    asking = json.loads(run.report.read_text())["asking"]
    assert set(asking) == {"1 reasoning", "none", "greedy", "EASE"}
    assert 0 < asking["EASE"] < asking["none"]


def test_an_adapter_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no adapter is shipped for profile smoke; name one with --adapter"):
        adapter_folder("smoke")
    with pytest.raises(FileNotFoundError, match="no adapter /"):
        adapter_folder("smoke", tmp_path)
