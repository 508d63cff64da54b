"""``rrec_lib.book.official`` returns the official code's literal values, and no part of the library uses it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rrec_lib.book import official
from rrec_lib.evaluation.scoring import score_items

FOLDER = Path(__file__).parents[1] / "reference"
LOSSES = {case["name"]: case for case in json.loads((FOLDER / "recpo_loss.json").read_text())["cases"]}
REWARDS = {case["name"]: case for case in json.loads((FOLDER / "reward_advantage.json").read_text())["cases"]}
SLICES = json.loads((FOLDER / "forward_slice.json").read_text())
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def loss_and_leaves(case, dtype):
    leaves = [torch.tensor(case[key], dtype=dtype).requires_grad_() for key in ("per_token_logps", "user", "item")]
    loss = official.batch_loss(
        leaves[0],
        torch.tensor(case["completion_mask"]),
        torch.tensor(case["advantages"], dtype=dtype),
        torch.tensor(case["relabel_mask"]),
        leaves[1],
        leaves[2],
        torch.tensor(case["in_batch_labels"]),
        case["eps_low"],
        case["eps_high"],
        case["temperature"],
    )
    return loss, leaves


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_and_its_gradients_are_the_official_ones(name):
    case = LOSSES[name]
    expected = case["official_float64"]
    loss, leaves = loss_and_leaves(case, torch.float64)
    assert list(loss.token_products) == expected["per_token_loss_shape"]
    for key, value in (("loss", loss.total), ("token_loss", loss.token), ("item_loss", loss.item)):
        torch.testing.assert_close(value.item(), expected[key], **EXACT)
    gradients = torch.autograd.grad(loss.total, leaves)
    for key, gradient in zip(("grad_logps", "grad_user", "grad_item"), gradients, strict=True):
        torch.testing.assert_close(gradient, torch.tensor(expected[key], dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_losses_are_the_official_ones(name):
    loss, _ = loss_and_leaves(LOSSES[name], torch.float32)
    for key, value in (("loss", loss.total), ("token_loss", loss.token), ("item_loss", loss.item)):
        assert value.item() == pytest.approx(LOSSES[name]["official_float32"][key], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", REWARDS)
def test_advantages_are_the_official_ones(name):
    expected = REWARDS[name]["official"]
    rewards = torch.tensor(expected["rewards"])
    gaussian = torch.tensor(expected["advantages"]["gaussian"])
    one_out = torch.tensor(expected["advantages"]["leave-one-out"])
    torch.testing.assert_close(official.gaussian_advantages(rewards), gaussian, rtol=0, atol=6e-5)
    torch.testing.assert_close(official.leave_one_out_advantages(rewards), one_out, rtol=0, atol=1e-6)
    sums = official.leave_one_out_advantages(rewards).sum(1)
    torch.testing.assert_close(sums, rewards.mean(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [n for n, c in REWARDS.items() if not c["ties_with_target"]])
def test_ranking_rewards_are_the_official_ones(name):
    case = REWARDS[name]
    group_size = 1 if case["train_eval"] == "eval" else case["G"]
    targets = torch.tensor(case["target"]).repeat_interleave(group_size)
    if "user" in case:
        scores = score_items(torch.tensor(case["user"]), torch.tensor(case["item"]), temperature=0.02)
    else:
        scores = torch.tensor(case["similarity"])
    if case["through_history_mask"]:
        history = torch.tensor(case["history_padded_with_0"]).repeat_interleave(group_size, 0)
        scores = official.mask_history(scores, history)
    ndcg = official.ranking_reward(scores, targets, case["ndcg_k"])
    probability = scores.softmax(1).gather(1, targets[:, None]).squeeze(1)
    clear = ~torch.tensor(case["target_masked_row"])  # a masked target's place is whatever topk makes of equals
    assert clear.any()
    for value, key in ((ndcg, "ndcg"), (probability, "softmax_prob")):
        torch.testing.assert_close(
            value[clear], torch.tensor(case["official"][key]).flatten()[clear], rtol=1e-5, atol=1e-6
        )


def test_a_cutoff_above_the_catalogue_fails_as_there():
    with pytest.raises(RuntimeError):
        official.ranking_reward(torch.rand(2, 5), torch.tensor([0, 1]), k=6)


@pytest.mark.parametrize("case", SLICES["cases"], ids=lambda case: case["name"])
def test_the_longest_row_loses_its_last_token_and_is_read_early(case):
    seen, positions = official.forward_slice(torch.tensor(case["input_ids"]), torch.tensor(case["attention_mask"]))
    assert seen.tolist() == case["official"]["input_ids_seen_by_model"]
    assert positions.tolist() == case["official"]["hidden_state_position"]
    table = torch.tensor(SLICES["embedding_table"])
    states = table[seen] + torch.arange(seen.shape[1])[:, None] / 8
    read = states[torch.arange(len(seen)), positions]
    torch.testing.assert_close(read, torch.tensor(case["official"]["last_hidden"]))


def test_nothing_in_the_library_uses_it_but_the_exercises_about_it():
    for path in Path(official.__file__).parents[1].rglob("*.py"):
        if path.name == "nb08.py":
            continue
        assert not re.search(r"^\s*(from|import)\b.*\bbook\b.*\bofficial\b", path.read_text(), re.MULTILINE), path
