"""Notebook 08's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import re
from typing import Any

import exercise_cells
import pytest
import torch

from rrec_lib.book import official
from rrec_lib.exercises import nb08
from rrec_lib.recpo.advantages import grpo_advantages, rloo_advantages

EXERCISES = {"my_token_loss": nb08.check_token_loss, "my_advantage_test": nb08.check_advantage_test}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("08_reading_the_official_code")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], lambda *_: None).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb08.{EXERCISES[name].__name__}({name});"


COMPANION = "08_reading_the_official_code_exercises"


def lined_up_from_the_left(left, right):
    axes = max(len(left), len(right))
    left, right = left + (1,) * (axes - len(left)), right + (1,) * (axes - len(right))
    if any(a != b and 1 not in (a, b) for a, b in zip(left, right, strict=True)):
        raise ValueError
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def never_refuses(left, right):
    axes = max(len(left), len(right))
    left, right = (1,) * (axes - len(left)) + left, (1,) * (axes - len(right)) + right
    return tuple(max(a, b) for a, b in zip(left, right, strict=True))


def wants_equal_axes(left, right):
    if len(left) != len(right):
        raise ValueError("other numbers of axes")
    return never_refuses(left, right)


def by_pytorch(left, right):
    try:
        return torch.broadcast_shapes(left, right)
    except RuntimeError as problem:
        raise ValueError from problem


def test_the_shape_of_a_product(holds):
    wrong = {
        "from the left": (lined_up_from_the_left, "from the right"),
        "the larger size": (never_refuses, "neither is 1"),
        "other axes refused": (wants_equal_axes, "an axis that isn't there"),
        "the longer shape": (lambda left, right: max(left, right, key=len), "is (6, 6, 4)"),
        "always refused": (lambda left, right: by_pytorch((2,), (3,)), "fit"),
    }
    holds(COMPANION, "my_product_shape", nb08.check_broadcast, wrong, by_pytorch)


def means(advantages, rows, divide=lambda part, rows: len(part)):
    return torch.cat([(part.sum() / divide(part, rows)).expand(len(part)) for part in advantages.split(rows)])


def test_whose_luck_it_is(holds):
    def by_index(advantages, rows):
        found = [advantages[i // rows * rows : i // rows * rows + rows].mean() for i in range(len(advantages))]
        return torch.stack(found)

    wrong = {
        "the paper's": (lambda advantages, rows: advantages, "the paper's"),
        "no cut": (lambda advantages, rows: advantages.mean().expand(len(advantages)), "its own rows alone"),
        "sums": (lambda advantages, rows: means(advantages, rows, lambda *_: 1), "divides by the rows"),
        "a short one taken for full": (lambda a, rows: means(a, rows, lambda part, rows: rows), "the last mini-batch"),
        "the short one dropped": (lambda a, rows: means(a[: len(a) // rows * rows], rows), "weights, got"),
        "nothing": (lambda advantages, rows: torch.zeros(len(advantages)), "the weights are"),
    }
    holds(COMPANION, "my_weights", nb08.check_weights, wrong, by_index)


def test_the_weights_are_those_of_the_official_loss():
    a, logprobs = torch.randn(6, dtype=torch.float64), torch.zeros(6, 1, dtype=torch.float64, requires_grad=True)
    row, none = torch.ones(6, 2, dtype=torch.float64), torch.zeros(6, dtype=torch.long)
    for part in (slice(0, 4), slice(4, 6)):
        loss = official.batch_loss(logprobs[part], torch.ones_like(logprobs[part]), a[part], none[part], row[part],
                                   row[:1], none[part]).token  # fmt: skip
        found = torch.autograd.grad(loss, logprobs)[0][part, 0] * -len(a[part])
        torch.testing.assert_close(found, means(a, 4)[part])


def test_a_tie_that_is_none(holds):
    wrong = {
        "the difference itself": ((1e-6, 1e-6, "b"), "the size of the difference"),
        "the constant forgotten": ((1.5, 1.5, "b"), "what is added to it"),
        "both small": ((0.0075, 0.0075, "b"), "the official code: 0.0075 is off"),
        "rounding": ((1.5, 0.0075, "a"), "float64"),
        "baseline": ((1.5, 0.0075, "C"), "only shifts"),
        "clip": ((1.5, 0.0075, "d"), "the ratio"),
        "no letter": ((1.5, 0.0075, "because"), "one letter from a to d"),
        "a number too few": ((1.5, "b"), "three things"),
    }
    holds(COMPANION, "my_near_tie", nb08.check_near_tie, wrong, [(1.47, 0.0074, "B"), [1, 0.01, "b"]])


def test_the_last_real_token(holds):
    def from_the_back(mask):
        return mask.shape[1] - 1 - mask.flip(1).argmax(1)

    wrong = {
        "the length": (lambda mask: mask.sum(1) - 1, "first real token"),
        "one early": (lambda mask: from_the_back(mask) - 1, "one token early"),
        "the first": (lambda mask: mask.argmax(1), "the first real token"),
        "the last column": (lambda mask: torch.full((len(mask),), mask.shape[1] - 1), "padding in some rows"),
        "one number": (lambda mask: mask.sum() - 1, "one position a row"),
    }
    holds(COMPANION, "my_positions", nb08.check_positions, wrong, from_the_back)


@pytest.mark.parametrize("seed", ["1", "20240229"])
def test_solutions_pass_with_hidden_seeds(seed, exercises_of, verdict, monkeypatch):
    monkeypatch.setenv("RREC_CHECK_SEED", seed)
    for stem in ("08_reading_the_official_code", COMPANION):
        book = exercises_of(stem)
        for name, check in book.checks.items():
            assert verdict(getattr(nb08, re.findall(r"check_\w+", check)[0]), book.solutions[name]).startswith("✓")


def test_the_sample_answer_finds_what_it_says(exercises_of, capsys):
    exercises = {one.id: one for one in exercise_cells.read_exercises(exercise_cells.read_notebook(COMPANION))}
    code = exercises["08.7"].folded["A sample answer"].split("```python\n")[1].split("```")[0]
    generator = torch.Generator().manual_seed(0)
    batch = grpo_advantages(torch.rand(8, 4, generator=generator)).flatten()
    names: dict[str, Any] = {"torch": torch, "batch": batch, "generator": generator}
    exec(code, names)
    found = {rows: values.mean().item() for rows, values in names["draws"].items()}
    assert found[1] == pytest.approx(1)
    assert found[2] == pytest.approx(0.7, abs=0.05)
    assert 0 < found[16] < 0.2
    assert found[32] == 0
    assert min(values.min() for values in names["draws"].values()) >= 0
    assert "4 rows: in order 0.00" in capsys.readouterr().out


def clipped(ratio, a, eps):
    return torch.minimum(ratio * a, ratio.clamp(1 - eps, 1 + eps) * a)


def broken(logprobs, old, mask, advantages, eps):
    gain = clipped((logprobs - logprobs.detach()).exp(), advantages[:, None, None], eps)
    return -(gain * mask).sum() / mask.sum() / len(logprobs)


def ratio_of_one(logprobs, old, mask, advantages, eps):
    return -(clipped((logprobs - logprobs.detach()).exp(), advantages[:, None], eps) * mask).sum() / mask.sum()


def divided_by_rows_too(logprobs, old, mask, advantages, eps):
    return -(clipped((logprobs - old).exp(), advantages[:, None], eps) * mask).sum() / mask.sum() / len(logprobs)


def axis_left_in(logprobs, old, mask, advantages, eps):
    return -(clipped((logprobs - old).exp(), advantages[:, None, None], eps) * mask).sum() / mask.sum()


def no_clip(logprobs, old, mask, advantages, eps):
    return -((logprobs - old).exp() * advantages[:, None] * mask).sum() / mask.sum()


def clip_without_minimum(logprobs, old, mask, advantages, eps):
    return -((logprobs - old).exp().clamp(1 - eps, 1 + eps) * advantages[:, None] * mask).sum() / mask.sum()


def padding_too(logprobs, old, mask, advantages, eps):
    return -clipped((logprobs - old).exp(), advantages[:, None], eps).mean()


def mean_of_means(logprobs, old, mask, advantages, eps):
    gain = clipped((logprobs - old).exp(), advantages[:, None], eps) * mask
    return -(gain.sum(1) / mask.sum(1)).mean()


def turned_round(logprobs, old, mask, advantages, eps):
    return (clipped((logprobs - old).exp(), advantages[:, None], eps) * mask).sum() / mask.sum()


def per_row(logprobs, old, mask, advantages, eps):
    return -(clipped((logprobs - old).exp(), advantages[:, None], eps) * mask).sum(1) / mask.sum()


def shifted(logprobs, old, mask, advantages, eps):
    return 1 - (clipped((logprobs - old).exp(), advantages[:, None], eps) * mask).sum() / mask.sum()


def detached(logprobs, old, mask, advantages, eps):
    return divided_by_rows_too(logprobs.detach(), old, mask, advantages, eps)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (broken, "on policy, every token gets the same gradient"),
        (ratio_of_one, "after the policy has moved"),
        (divided_by_rows_too, "0.25 times"),
        (axis_left_in, "same gradient"),
        (no_clip, "past the clip"),
        (clip_without_minimum, "smaller of the two"),
        (padding_too, "padding"),
        (mean_of_means, "counts the same"),
        (turned_round, "sign"),
        (per_row, "one number"),
        (shifted, "the loss should be"),
        (detached, "doesn't depend"),
    ],
)
def test_wrong_token_losses(answer, hint, verdict):
    said = verdict(nb08.check_token_loss, answer)
    assert said.startswith("✗")
    assert hint in said


VARIED = torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.2, 0.8]])


def only_one_group(rule):
    return bool(rule(VARIED[:1]).sum().abs() < 1e-5 and rule(torch.full((1, 3), 0.7)).abs().max() < 1e-5)


def sum_of_the_batch(rule):
    return bool(rule(VARIED).sum().abs() < 1e-5 and rule(torch.full((2, 3), 0.7)).abs().max() < 1e-5)


def sums_alone(rule):
    return bool(rule(VARIED).sum(1).abs().max() < 1e-5)


def equal_rewards_alone(rule):
    return bool(rule(torch.full((2, 3), 0.7)).abs().max() < 1e-5)


def without_room_for_rounding(rule):
    return bool((rule(VARIED).sum(1) == 0).all())


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda rule: True, "lets through the rewards"),
        (lambda rule: False, "refuses RLOO"),
        (only_one_group, "mean of the whole batch"),
        (sum_of_the_batch, "mean of the whole batch"),
        (sums_alone, "ties broken by order"),
        (equal_rewards_alone, "mean of the whole batch"),
        (without_room_for_rounding, "rounding"),
        (lambda rule: torch.allclose(rule(VARIED), rloo_advantages(VARIED)), "refuses GRPO"),
        (lambda rule: torch.allclose(rule(VARIED), grpo_advantages(VARIED)), "refuses RLOO"),
    ],
)
def test_tests_that_notice_too_little_or_too_much(answer, hint, verdict):
    said = verdict(nb08.check_advantage_test, answer)
    assert said.startswith("✗")
    assert hint in said
