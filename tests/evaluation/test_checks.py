"""The evaluation's checks of itself: each catches what it is for, and lets the sound case pass."""

import pytest
import torch

from rrec_lib.evaluation.checks import check_blind, check_examples, check_item_table, check_trained
from rrec_lib.evaluation.evaluate import evaluate, evaluate_scores
from rrec_lib.evaluation.scoring import score_items

N_ITEMS = 40


class States:
    """A recommender whose states point, with noise, at the item that comes after the last one seen."""

    def __init__(self, table):
        self.true, self.table = torch.eye(N_ITEMS), table

    def scores(self, examples):
        noise = torch.randn(len(examples), N_ITEMS, generator=torch.Generator().manual_seed(0))
        wanted = [(example["history"][-1] + 1) % N_ITEMS for example in examples]
        return score_items(self.true[wanted] + 0.1 * noise, self.table)


class Leaking:
    def scores(self, examples):
        return torch.eye(N_ITEMS)[[example["target"] for example in examples]]


class Restless:
    def scores(self, examples):
        return torch.rand(len(examples), N_ITEMS)


def examples(count=60):
    rows = []
    for i in range(count):
        last = (7 * i) % N_ITEMS
        rows.append({"user_id": i, "history": [last], "seen": [last], "target": (last + 1) % N_ITEMS})
    return rows


def finding(report, check):
    [found] = [one for one in report.findings if one.check == check]
    return found


def test_a_target_that_leaks_into_scores_is_caught():
    with pytest.raises(ValueError, match="peek: the scores change when the example's target is replaced"):
        evaluate(Leaking(), examples(), "peek")
    assert finding(evaluate(States(torch.eye(N_ITEMS)), examples(), "sound"), "blind").passed is True


@pytest.mark.parametrize(
    ("base", "leak", "dtype"),
    [(-1000, 5e-3, torch.float32), (100, 5e-4, torch.float32), (0, 5e-8, torch.float32), (1.6e9, 2e3, torch.float64),
     (1_600_000_000, 1, torch.int64), (0, 1, torch.float32)],
)  # fmt: skip
def test_a_small_leak_is_one_where_scores_are_close_or_large(base, leak, dtype):
    noise = torch.rand(1, N_ITEMS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def score(part, weight=leak):
        hot = torch.eye(N_ITEMS, dtype=torch.float64)[[example["target"] for example in part]]
        return (base + noise * leak * 10 + weight * hot).to(dtype)

    with pytest.raises(ValueError, match="target leaks"):
        check_blind(score, examples(4), "small")
    assert check_blind(lambda part: score(part, 0), examples(4), "sound").passed is True
    calls = iter(range(9))
    rounded = 1 if dtype == torch.int64 else 1 + torch.finfo(dtype).eps
    jitter = check_blind(lambda part: score(part, 0) * (rounded if next(calls) % 2 else 1), examples(4), "rounding")
    assert jitter.passed is True


@pytest.mark.parametrize("leak", ["target_rating", "repeat"])
def test_what_follows_from_the_target_may_not_be_read_either(leak):
    rows = [{**example, "target_rating": 5.0, "repeat": False, "target_timestamp": 9} for example in examples(4)]

    def score(part, field=leak):
        return torch.tensor([[float(example[field]), 1.0] for example in part])

    with pytest.raises(ValueError, match="target leaks"):
        check_blind(score, rows, leak)
    assert check_blind(lambda part: score(part, "target_timestamp"), rows, "the time is known").passed is True


@pytest.mark.parametrize("n_items", [2, 3, 40])
def test_the_other_target_is_another(n_items):
    for target in range(n_items):
        with pytest.raises(ValueError, match="target leaks"):
            check_blind(lambda part: torch.full((1, n_items), part[0]["target"]), [{"target": target}], "x")


def test_scores_that_cannot_be_repeated_are_not_called_a_leak():
    torch.manual_seed(0)
    assert finding(evaluate(Restless(), examples(), "restless"), "blind").passed is None
    given = evaluate_scores(torch.rand(60, N_ITEMS), examples(), "given")
    assert finding(given, "blind").passed is None


def test_a_history_that_reaches_its_target_is_caught():
    sound = {"user_id": 1, "seen": [0], "target": 1, "history_timestamps": [5, 9], "target_timestamp": 10}
    assert check_examples([sound], 0)[0].passed is True
    with pytest.raises(ValueError, match=r"example 1 of 2 .* reaches time 11, its target is of 10"):
        check_examples([sound, {**sound, "history_timestamps": [11, 5]}], 0)
    same = check_examples([sound, {**sound, "history_timestamps": [5, 10]}], 0)[0]
    assert same.passed is False
    assert "1 of 2 histories end in the second of their target" in same.line
    assert check_examples([{"seen": [0], "target": 1}], 0)[0].passed is None


def test_seen_items_that_hold_the_targets_are_noted():
    leaked = [{**example, "seen": [*example["seen"], example["target"]]} for example in examples()]
    report = evaluate(States(torch.eye(N_ITEMS)), leaked, "later items")
    assert report.repeats == 60
    assert any("does `seen` hold items that came later?" in line for line in report.warnings)
    assert not evaluate(States(torch.eye(N_ITEMS)), examples(), "sound").warnings
    half = check_examples([*leaked[:30], *examples()[30:]], 30)[1]
    assert half.passed is True
    assert "30 of 60 targets were seen before" in half.line


def test_a_shuffled_item_table_ends_at_chance():
    order = torch.randperm(N_ITEMS, generator=torch.Generator().manual_seed(1))
    shuffled = evaluate(States(torch.eye(N_ITEMS)[order]), examples(), "shuffled")
    [line] = shuffled.warnings
    assert "not shown to be above chance" in line
    assert "item table" in line
    sound = evaluate(States(torch.eye(N_ITEMS)), examples(), "sound")
    assert finding(sound, "above chance").passed is True
    one_user = [{**example, "user_id": 0} for example in examples()]
    assert finding(evaluate(States(torch.eye(N_ITEMS)), one_user, "one"), "above chance").passed is None


def test_a_shuffled_item_table_is_caught_by_encoding_a_few_rows_again():
    table = torch.randn(N_ITEMS, 8, generator=torch.Generator().manual_seed(0))
    fresh = {"sound": table, "rounded": table.bfloat16().float()}
    for states in fresh.values():
        assert check_item_table(table, states.__getitem__, "x").passed is True
    asked = []
    check_item_table(table, lambda rows: asked.append(rows) or table[rows], "x", rows=4)
    assert asked == [[0, 13, 26, 39]]
    with pytest.raises(ValueError, match="x: item 0, encoded again, is nearer to another row"):
        check_item_table(table.roll(1, 0), lambda rows: table[rows], "x")


def test_an_untrained_adapter_is_caught():
    states = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="x: with its adapter the model computes exactly what it computes without"):
        check_trained(states, states.clone(), "x")
    assert check_trained(states + 1e-3, states, "x").passed is True
