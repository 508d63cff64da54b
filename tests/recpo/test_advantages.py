"""GRPO and RLOO advantages: by hand, invariants, and against the reference values."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rrec_lib.recpo.advantages import grpo_advantages, rloo_advantages

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "reward_advantage.json").read_text())
GROUPS = [
    (case["name"], candidates)
    for case in REFERENCE["cases"]
    for candidates in case["paper"]
    if case["G"] > 1 and "rloo" in case["paper"][candidates]["advantages"]
]
CASES = {case["name"]: case for case in REFERENCE["cases"]}
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def reference(name, candidates):
    paper = CASES[name]["paper"][candidates]
    values = {key: torch.tensor(value, dtype=torch.float64) for key, value in paper["advantages"].items()}
    return torch.tensor(paper["R"], dtype=torch.float64), values


def random_rewards(groups=50, size=6):
    return torch.rand(groups, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(("name", "candidates"), GROUPS)
def test_advantages_match_the_reference(name, candidates):
    rewards, expected = reference(name, candidates)
    torch.testing.assert_close(grpo_advantages(rewards), expected["grpo_ddof1_eps1e-4"], **EXACT)
    torch.testing.assert_close(grpo_advantages(rewards, eps=1e-8), expected["grpo_ddof1_eps1e-8"], **EXACT)
    torch.testing.assert_close(rloo_advantages(rewards), expected["rloo"], **EXACT)


def test_other_readings_of_the_formulas_would_be_noticed():
    """Negative control: population standard deviation, no division, and the official leave-one-out all differ."""
    rewards, expected = reference("hidden_states_masked", "history_and_pad_excluded")
    assert (grpo_advantages(rewards, eps=1e-8) - expected["grpo_ddof0_eps1e-8"]).abs().max() > 0.05
    assert (rloo_advantages(rewards) - expected["mean_centred_no_std"]).abs().max() > 0.01
    assert (rloo_advantages(rewards) - expected["repo_formula_leave_one_out_float64"]).abs().max() > 0.05


def test_worked_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.5, 0.5]], dtype=torch.float64)
    # mean 1/2; squared deviations 1/4 + 1/4 over G-1 = 3 give a variance of 1/6
    std = (1 / 6) ** 0.5
    assert grpo_advantages(rewards).tolist()[0] == pytest.approx([0.5 / (std + 1e-4), -0.5 / (std + 1e-4), 0.0, 0.0])
    # the others' means: 1/3, 2/3, 1/2, 1/2
    assert rloo_advantages(rewards).tolist()[0] == pytest.approx([2 / 3, -2 / 3, 0.0, 0.0])


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
def test_advantages_sum_to_zero_in_a_group(advantages):
    rewards = random_rewards()
    assert advantages(rewards).sum(1).abs().max() < 1e-12
    wrong = rewards * (1 + 1 / rewards.shape[1]) - rewards.mean(1, keepdim=True)  # as the official code has it
    assert wrong.sum(1).abs().min() > 0.1


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.7, 1.0])
def test_equal_rewards_give_exactly_zero(advantages, dtype, value):
    for size in range(2, 12):
        assert torch.equal(advantages(torch.full((3, size), value, dtype=dtype)), torch.zeros(3, size, dtype=dtype))


def test_the_plain_formula_is_not_exactly_zero_for_equal_rewards():
    """Why the rewards are shifted first: the mean of equal numbers need not be that number."""
    rewards = torch.full((1, 3), 0.1, dtype=torch.float64)
    plain = [(rewards - rewards.mean(1, keepdim=True)).abs().max().item() for rewards in [rewards, rewards * 7]]
    assert max(plain) > 0


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
def test_a_shift_changes_nothing_and_order_is_kept(advantages):
    rewards = random_rewards()
    torch.testing.assert_close(advantages(rewards + 3), advantages(rewards), rtol=0, atol=1e-12)
    assert torch.equal(advantages(rewards).argsort(1), rewards.argsort(1))


def test_epsilon_keeps_near_ties_small():
    rewards = torch.tensor([[0.5, 0.5 + 1e-6]], dtype=torch.float64)
    assert grpo_advantages(rewards).abs().max() < 0.01
    assert grpo_advantages(rewards, eps=1e-8).abs().max() > 0.6


def test_low_precision_and_integers_are_widened():
    assert grpo_advantages(torch.tensor([[0, 1]])).dtype == torch.float32
    assert rloo_advantages(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16)).tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
@pytest.mark.parametrize("shape", [(3, 1), (3, 0), (4,), (2, 2, 2)])
def test_bad_shapes_are_refused(advantages, shape):
    with pytest.raises(ValueError, match=r"^rewards must be \(B, G\) with G >= 2, got .*: one alone has no baseline$"):
        advantages(torch.zeros(shape))
