"""Notebook 06's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import pytest
import torch

from rrec_lib.exercises import nb06

EXERCISES = {"my_loss_mask": nb06.check_loss_mask, "my_clip_fraction": nb06.check_clip_fraction}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("06_gpu_training")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb06.{EXERCISES[name].__name__}({name});"


WRONG_MASKS = {
    "the appended marker too": (lambda total, sampled, width: torch.arange(width) < total[:, None], "appended marker"),
    "one too many": (lambda total, sampled, width: torch.arange(width) <= sampled[:, None], "expected"),
    "from the right": (lambda total, sampled, width: torch.arange(width) >= width - sampled[:, None], "first ones"),
    "transposed": (lambda total, sampled, width: (torch.arange(width) < sampled[:, None]).T, "shape"),
}


@pytest.mark.parametrize("name", WRONG_MASKS)
def test_wrong_masks(name, verdict):
    answer, hint = WRONG_MASKS[name]
    said = verdict(nb06.check_loss_mask, answer)
    assert said.startswith("✗")
    assert hint in said


def either_side(logprobs, old, advantages, mask, eps):
    return (((((logprobs - old).exp() - 1).abs() > eps) & mask).sum() / mask.sum()).item()


def with_padding(logprobs, old, advantages, mask, eps):
    ratio, a = (logprobs - old).exp(), advantages[:, None]
    return (((ratio > 1 + eps) & (a > 0)) | ((ratio < 1 - eps) & (a < 0))).double().mean().item()


def upper_only(logprobs, old, advantages, mask, eps):
    ratio, a = (logprobs - old).exp(), advantages[:, None]
    return ((((ratio > 1 + eps) & (a > 0)) & mask).sum() / mask.sum()).item()


@pytest.mark.parametrize(
    ("answer", "hint"), [(either_side, "pushed back"), (with_padding, "padding"), (upper_only, "")]
)
def test_wrong_clip_fractions(answer, hint, verdict):
    said = verdict(nb06.check_clip_fraction, answer)
    assert said.startswith("✗")
    assert hint in said
