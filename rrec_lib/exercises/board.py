"""Checks for the teacher's exercises for the board: a few numbers each, found with a pencil."""

from collections.abc import Sequence
from math import isclose, sqrt

import torch

from rrec_lib.book.toy import toy_world
from rrec_lib.evaluation.metrics import hit_rate_at_k, ndcg_at_k
from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.exercises.base import report
from rrec_lib.recpo.advantages import rloo_advantages
from rrec_lib.recpo.rewards import ranking_reward


@report
def check_rank(answer: tuple[float, float]) -> None:
    """Right: the reward is the discount of the target's rank among what the user has not seen.

    Args:
        answer: R_d of user 2's two reasonings.
    """
    world = toy_world()
    scores = mask_items(score_items(world.user_states, world.item_states), world.histories, world.targets)
    _compare(answer, ranking_reward(scores, world.targets)[1].tolist(), ("first reasoning", "second reasoning"))


@report
def check_tie(answer: tuple[float, float]) -> None:
    """Right: half of the orders put the target first.

    Args:
        answer: expected NDCG@1 and Hit@1 of a target that ties for ranks 1 and 2.
    """
    tied, target = torch.tensor([2.0, 2.0, 1.0]), torch.tensor(1)
    _compare(answer, [ndcg_at_k(tied, target, 1).item(), hit_rate_at_k(tied, target, 1).item()], ("NDCG@1", "Hit@1"))


@report
def check_advantages(answer: Sequence[float]) -> None:
    """Right: each reward is measured against the others alone, so they sum to zero.

    Args:
        answer: RLOO advantages of the rewards 1, 0, 0 and 0.
    """
    right = rloo_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64))[0].tolist()
    _compare(answer, right, [f"advantage {i}" for i in (1, 2, 3, 4)])


@report
def check_half_widths(answer: tuple[float, float]) -> None:
    """Right: with so few hits neither rate is known to a half of itself.

    Args:
        answer: 95 % half-widths of 26 and of 20 hits in 1,000.
    """
    rates = [hits / 1000 for hits in (26, 20)]
    _compare(answer, [1.96 * sqrt(p * (1 - p) / 1000) for p in rates], ("26 hits", "20 hits"), 0.04)


def _compare(answer: Sequence[float], right: Sequence[float], names: Sequence[str], tolerance: float = 1e-3) -> None:
    """Assert that the reader's numbers are the right ones, to the three digits that a pencil gives."""
    assert len(answer) == len(right), f"{len(right)} numbers are asked for, you gave {len(answer)}"
    wrong = [
        name
        for name, given, number in zip(names, answer, right, strict=True)
        if not isclose(float(given), number, rel_tol=tolerance)
    ]
    assert not wrong, f"not right yet: {', '.join(wrong)}"
