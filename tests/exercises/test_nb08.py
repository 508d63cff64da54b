"""Notebook 08's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import pytest
import torch

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
