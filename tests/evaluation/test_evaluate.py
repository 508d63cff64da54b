"""Evaluation, baselines and what is recorded."""

import json
import math

import numpy as np
import pytest
import torch

from rrec_lib.baselines import fitted_baselines
from rrec_lib.core import results
from rrec_lib.evaluation.evaluate import evaluate, evaluate_scores, examples_hash, sample_examples, training_counts


def rows(*triples):
    return [
        {"user_id": user, "history": history, "seen": history, "target": target} for user, history, target in triples
    ]


def test_a_leaked_target_is_perfect_and_a_constant_is_chance():
    examples = rows((1, [0], 1), (2, [1], 2), (3, [2], 3))
    leaked = torch.nn.functional.one_hot(torch.tensor([1, 2, 3]), 50).float()
    perfect = evaluate_scores(leaked, examples, "leak", 50)
    assert all((values == 1).all() for values in perfect.values.values())
    constant = evaluate_scores(torch.zeros(3, 50), examples, "constant", 50)
    assert constant.values["hit@10"].tolist() == pytest.approx([10 / 49] * 3)  # one film is masked
    assert perfect.difference(constant, "hit@10").mean == pytest.approx(1 - 10 / 49)


def test_evaluate_refuses_what_is_not_a_score():
    examples = rows((1, [0], 1), (2, [1], 2))

    class Broken:
        def __init__(self, scores):
            self.result = scores

        def scores(self, _):
            return self.result

    for bad in (torch.zeros(3, 5), torch.zeros(5), torch.full((2, 5), math.nan)):
        with pytest.raises(ValueError, match="expected \\(2, N\\) scores"):
            evaluate(Broken(bad), examples, "broken")
    other = evaluate_scores(torch.zeros(2, 5), rows((1, [0], 1), (9, [1], 2)), "other")
    with pytest.raises(ValueError, match="different examples"):
        evaluate_scores(torch.zeros(2, 5), examples, "one").difference(other, "hit@5")


def test_batches_and_a_function_of_slices_give_the_same_report():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (23, 60), generator=generator).float()
    examples = rows(*[(i // 2, [i % 60, (i + 1) % 60], (i + 5) % 60) for i in range(23)])
    counts = torch.arange(60)
    whole = evaluate_scores(scores, examples, "x", 50, train_counts=counts)
    asked = []

    def part_of(part):
        asked.append((part.start, part.stop))
        return scores[part]

    parts = evaluate_scores(part_of, examples, "x", 50, train_counts=counts, batch_size=10)
    assert asked == [(0, 10), (10, 20), (20, 30)]  # never all at once
    for metric, values in whole.values.items():
        assert np.array_equal(values, parts.values[metric])
        assert metric == "mrr" or metric.split("@")[1] in {"1", "5", "10", "20", "50"}
    assert set(whole.lists) == set(parts.lists)
    for name, figures in whole.lists.items():
        assert figures == pytest.approx(parts.lists[name])


def test_the_target_rank_equals_the_plain_statement():
    """Loop over the examples: remove what was seen, count what stands above the target and what ties with it."""
    scores = torch.randint(0, 6, (40, 30), generator=torch.Generator().manual_seed(1)).float()
    examples = rows(*[(i, [(3 * i) % 30, (5 * i) % 30], (7 * i) % 30) for i in range(40)])
    report = evaluate_scores(scores, examples, "x", 50, batch_size=7)
    for row, example in enumerate(examples):
        rivals = [i for i in range(30) if i == example["target"] or i not in example["seen"]]
        own = scores[row, example["target"]]
        assert report.n_greater[row] == sum(bool(scores[row, i] > own) for i in rivals)
        assert report.n_equal[row] == sum(bool(scores[row, i] == own) for i in rivals)


def test_half_precision_is_widened_and_the_catalogue_must_keep_its_size():
    examples = rows((1, [0], 1), (2, [1], 2), (3, [2], 3))
    half = evaluate_scores(torch.eye(50)[[1, 2, 3]].bfloat16(), examples, "half", 50)
    assert half.values["mrr"].tolist() == [1, 1, 1]
    times = evaluate_scores(1_600_000_000 + torch.eye(50, dtype=torch.int64)[[1, 2, 3]], examples, "times", 50)
    assert times.values["mrr"].tolist() == [1, 1, 1]  # float32 counts such numbers by the hundred
    with pytest.raises(ValueError, match="scores of 6 items after scores of 5"):
        evaluate_scores(lambda part: torch.zeros(1, 5 + part.start), examples, "growing", 50, batch_size=1)
    with pytest.raises(ValueError, match="no example to evaluate on"):
        evaluate_scores(torch.zeros(0, 5), [], "empty")
    with pytest.raises(ValueError, match="4 training counts for a catalogue of 5 items"):
        evaluate_scores(torch.zeros(3, 5), examples, "counts", train_counts=torch.ones(4))
    with pytest.raises(ValueError, match="expected \\(3, N\\) scores"):
        evaluate_scores(torch.zeros(3, 0), examples, "no item")


def test_the_hash_of_examples_tells_users_targets_and_histories_apart():
    one = rows((1, [0], 1), (2, [1], 2))
    others = [
        rows((1, [0], 1), (9, [1], 2)),
        rows((1, [0], 1), (2, [1], 3)),
        rows((1, [0], 1), (2, [1, 0], 2)),
        one[::-1],
    ]
    assert examples_hash(one) == examples_hash([dict(row) for row in one])
    assert len({examples_hash(some) for some in [one, *others]}) == 5


def test_chance_and_popularity_show_in_the_lists(smoke_dataset):
    counts = training_counts(smoke_dataset["train"], len(smoke_dataset["items"]))
    assert counts.sum() == len(smoke_dataset["train"])
    baselines, test = fitted_baselines(smoke_dataset), list(smoke_dataset["test"])
    chance = evaluate(baselines["chance"], test, "chance", 100, train_counts=counts)
    popular = evaluate(baselines["popularity"], test, "popularity", 100, train_counts=counts)
    assert popular.lists["popularity@5"]["over_catalogue"] > 1.3 > chance.lists["popularity@5"]["over_catalogue"]
    assert popular.lists["coverage@5"] < chance.lists["coverage@5"]
    assert set(popular.slices) == {"history length", "target popularity", "cold items", "time"}
    assert any("not shown to be above chance" in line for line in chance.warnings)
    assert not popular.warnings


def test_a_repeat_is_counted_and_stays_rankable():
    report = evaluate_scores(torch.eye(5)[[0, 2]], rows((1, [0], 0), (2, [1], 2)), "repeat")
    assert report.repeats == 1
    assert report.values["hit@5"].tolist() == [1, 1]


def test_a_sample_is_fixed_by_its_seed_and_caps_users():
    examples = rows(*[(user, [0], i) for i, user in enumerate([1] * 50 + [2] * 3 + [3] * 2)])
    sample = sample_examples(examples, 8, 3, seed=1)
    assert sample == sample_examples(examples, 8, 3, seed=1)
    assert sample != sample_examples(examples, 8, 3, seed=2)
    assert np.bincount([e["user_id"] for e in sample]).tolist() == [0, 3, 3, 2]
    assert len(sample_examples(examples, 4, 3, seed=1)) == 4
    with pytest.raises(ValueError, match="at least 1"):
        sample_examples(examples, 0, 3, seed=1)


def test_baselines_look_at_no_target(smoke_dataset):
    examples = list(smoke_dataset["test"])[:5]
    blind = [{**example, "target": 0} for example in examples]
    for baseline in fitted_baselines(smoke_dataset).values():
        assert torch.equal(baseline.scores(examples), baseline.scores(blind))


def test_a_record_says_where_it_is_from_and_refuses_nan(tmp_path, monkeypatch):
    monkeypatch.setenv("RREC_RESULTS_DIR", str(tmp_path))
    path = results.record("x", {"a": torch.tensor(1.5), "b": {"c": np.arange(2)}}, "smoke", seed=3)
    saved = json.loads(path.read_text())
    assert saved["figures"] == {"a": 1.5, "b": {"c": [0, 1]}}
    assert {"command", "commit", "seed", "device", "profile", "time"} <= set(saved)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"x\.a is nan"):
        results.record("x", {"a": math.nan}, "smoke")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_recorded_command_names_no_folder_of_its_machine(monkeypatch):
    given = "/home/me/run.py --out /home/me/my-results --set data.dataset=/data/games runs/a 1/2"
    monkeypatch.setattr("sys.argv", given.split())
    assert results.provenance()["command"] == "run.py --out my-results --set data.dataset=games runs/a 1/2"


@pytest.mark.parametrize(
    ("argument", "recorded"),
    [("/home/Ann Lee/own/run", "run"), ("--out=/home/Ann Lee/run/", "--out=run/"), ("file:///home/me/y", "file:y"),
     ("Face/Off (1997)", "Face/Off (1997)")],
)  # fmt: skip
def test_arguments_with_spaces_name_no_folder_either(monkeypatch, argument, recorded):
    monkeypatch.setattr("sys.argv", ["run.py", argument])
    assert results.provenance()["command"] == f"run.py {recorded}"
