"""Scores and masks."""

import json
from pathlib import Path

import pytest
import torch

from rrec_lib.evaluation.scoring import mask_items, repeated_targets, score_items, seen_items, unit_rows

SIMILARITY = json.loads((Path(__file__).parents[1] / "reference" / "similarity.json").read_text())
NEG_INF = float("-inf")


@pytest.mark.parametrize("case", SIMILARITY["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("config", ["default_normalised_dot_t0.02", "normalised_dot_t1"])
def test_scores_match_the_reference_similarity(case, config):
    expected = case["by_config"][config]
    user, item = (torch.tensor(case[name], dtype=torch.float64) for name in ("user", "item"))
    scores = score_items(user, item, expected["temperature"])
    torch.testing.assert_close(
        scores, torch.tensor(expected["paper_similarity"], dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


def test_scores_equal_a_brute_force_cosine():
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(2, 3, 5, generator=generator), torch.randn(4, 5, generator=generator)
    scores = score_items(users, items, 0.5)
    for b in range(2):
        for g in range(3):
            for n in range(4):
                u, v = users[b, g], items[n]
                assert scores[b, g, n].item() == pytest.approx((u @ v / (u.norm() * v.norm()) / 0.5).item(), rel=1e-5)
    torch.testing.assert_close(score_items(users * 7, items * 0.1, 0.5), scores)  # lengths do not matter
    torch.testing.assert_close(score_items(users, items), scores * 0.5)  # the temperature is 1 by default


def test_scores_stay_in_float32_inside_autocast_and_for_half_states():
    """Negative control beside it: the same product in bfloat16 is off by far more than float32 rounding."""
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(8, 64, generator=generator), torch.randn(50, 64, generator=generator)
    plain = score_items(users, items, 0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = score_items(users, items, 0.02)
        naive = unit_rows(users) @ unit_rows(items).T / 0.02
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)
    assert (naive.float() - plain).abs().max() > 1e-3
    assert score_items(users.bfloat16(), items.bfloat16()).dtype == torch.float32
    assert score_items(users, items.double()).dtype == score_items(users.double(), items).dtype == torch.float64


def test_a_zero_state_scores_zero():
    assert torch.equal(score_items(torch.zeros(1, 2), torch.eye(2)), torch.zeros(1, 2))


def test_score_items_refuses_bad_input():
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=rf"^temperature must be positive, got {temperature}$"):
            score_items(torch.ones(1, 2), torch.ones(1, 2), temperature)
    with pytest.raises(ValueError, match=r"^user states are 5 wide, item rows 4$"):
        score_items(torch.ones(2, 3, 5), torch.ones(6, 4))


def test_mask_removes_seen_items_and_keeps_the_target():
    scores = torch.zeros(3, 4)
    masked = mask_items(scores, [[0, 1], [], [3, 3]], torch.tensor([1, 2, 0]))
    expected = torch.zeros(3, 4)
    expected[0, 0] = expected[2, 3] = NEG_INF
    assert torch.equal(masked, expected)
    assert torch.equal(scores, torch.zeros(3, 4))  # the input is left alone
    assert mask_items(scores, [[0, 1], [], [3]])[0].tolist() == [NEG_INF, NEG_INF, 0.0, 0.0]


def test_mask_covers_every_reasoning_of_a_user():
    masked = mask_items(torch.zeros(2, 3, 4), [[0], [2]], torch.tensor([0, 1]))
    assert (masked[0] == 0).all()
    assert torch.equal(masked[1], torch.tensor([[0.0, 0.0, NEG_INF, 0.0]]).expand(3, 4))


def test_seen_items_are_what_the_mask_removes():
    seen, targets = [[0, 1], [], [3, 3]], torch.tensor([1, 2, 0])
    assert torch.equal(seen_items(seen, targets, 4), mask_items(torch.zeros(3, 4), seen, targets).isneginf())
    with pytest.raises(ValueError, match=r"^seen lie in 0..3, the catalogue has 0..2$"):
        seen_items(seen, targets, 3)


def test_mask_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"^seen has 1 entries for 2 rows of scores$"):
        mask_items(torch.zeros(2, 3), [[0]], torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"^seen lie in 0..3, the catalogue has 0..2$"):
        mask_items(torch.zeros(1, 3), [[0, 3]], torch.tensor([0]))
    with pytest.raises(ValueError, match=r"^seen lie in -1..0, the catalogue has 0..2$"):
        mask_items(torch.zeros(1, 3), [[-1, 0]], torch.tensor([0]))


def test_repeated_targets_and_masks_name_items_of_their_own_row_only():
    assert repeated_targets([[1, 1], [], [0]], torch.tensor([1, 1, 1])).tolist() == [True, False, False]
    masked = mask_items(torch.zeros(2, 3), [[1, 2], [1]], torch.tensor([1, 2]))
    assert masked.tolist() == [[0, 0, NEG_INF], [0, NEG_INF, 0]]


def test_nobody_has_seen_anything():
    assert torch.equal(mask_items(torch.ones(2, 3), [[], []]), torch.ones(2, 3))
    repeated = repeated_targets([[], []], torch.tensor([0, 1]))
    assert repeated.tolist() == [False, False]
    assert repeated.dtype == torch.bool


def test_items_are_counted_along_the_last_axis_of_grouped_scores():
    masked = mask_items(torch.zeros(1, 2, 5), [[4]])
    assert torch.isneginf(masked).nonzero().tolist() == [[0, 0, 4], [0, 1, 4]]
    with pytest.raises(ValueError, match=r"^seen lie in 2..2, the catalogue has 0..1$"):
        mask_items(torch.zeros(1, 5, 2), [[2]])


def test_a_mask_lets_gradients_of_what_it_leaves_through():
    scores = torch.ones(1, 3, requires_grad=True)
    masked = mask_items(scores, [[1]])
    masked[~torch.isneginf(masked)].sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [[1, 0, 1]]


def test_repeats_are_found_wherever_the_larger_number_stands():
    assert repeated_targets([[1], [2, 9]], torch.tensor([7, 9])).tolist() == [False, True]
    assert repeated_targets([[12], [2]], torch.tensor([7, 2])).tolist() == [False, True]
    assert repeated_targets([[1], [2]], torch.tensor([7, 2])).tolist() == [False, True]
    assert repeated_targets([], torch.zeros(0, dtype=torch.long)).tolist() == []
