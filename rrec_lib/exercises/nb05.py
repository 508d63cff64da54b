"""Checks for the exercises of notebook 05, the reward and its advantages."""

import math
from collections.abc import Callable

import torch

from rrec_lib.evaluation.metrics import ndcg_at_k
from rrec_lib.exercises.base import report
from rrec_lib.recpo.advantages import rloo_advantages


@report
def check_rloo(answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Right: each reward is measured against the others of its group, and each group sums to zero.

    Args:
        answer: takes rewards (B, G), returns RLOO advantages (B, G).
    """
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0.9, 0.7, 0.2, 0.2]], dtype=torch.float64)
    for group in (rewards, rewards[:, :3], 2 * rewards[:, 1:3] - 1):
        expected, given = rloo_advantages(group), torch.as_tensor(answer(group.clone()), dtype=torch.float64)
        assert given.shape == group.shape, f"expected one advantage per reward, {tuple(group.shape)}, not {given.shape}"
        sums = given.sum(1).abs().max().item()
        assert sums < 1e-9, f"the advantages of a group should sum to 0; one of yours sums to ±{sums:.3g}"
        size = group.shape[1]
        centred = torch.allclose(given, expected * (size - 1) / size, atol=1e-9)
        assert not centred, "your baseline still contains the reward itself: average the other G − 1 only"
        assert torch.allclose(given, expected, atol=1e-9), (
            f"for rewards {_list(group[0])} expected {_list(expected[0])}, got {_list(given[0])}; RLOO subtracts a "
            "baseline and divides by no standard deviation"
        )


@report
def check_tie_aware_ndcg(answer: Callable[[torch.Tensor, int, int], float]) -> None:
    """Right: the discount is averaged over all the places that the tie covers.

    Args:
        answer: takes scores (N,), the target's index and k, returns the expected NDCG@k.
    """
    cases = [
        ([0.9, 0.5, 0.1], 0, 3, "no tie, first place"),
        ([0.9, 0.5, 0.1], 2, 2, "no tie, just beyond k"),
        ([0.5, 0.5, 0.5, 0.1], 1, 3, "three items share places 1 to 3"),
        ([0.9, 0.5, 0.5, 0.5], 3, 2, "three items share places 2 to 4, and k cuts through them"),
        ([0.2] * 6, 5, 10, "all items tie, k above N"),
    ]
    for scores, target, k, what in cases:
        tensor = torch.tensor(scores, dtype=torch.float64)
        value = answer(tensor.clone(), target, k)
        expected, given = ndcg_at_k(tensor, torch.tensor(target), k).item(), float(value)
        greater, equal = sum(s > scores[target] for s in scores), sum(s == scores[target] for s in scores)
        problem = f"{what}: scores {scores}, target {target}, k {k}: expected {expected:.4f}, got {given:.4f}"
        if not math.isclose(given, expected, rel_tol=1e-9, abs_tol=1e-12):
            raise AssertionError(problem + _why(given, greater, equal, k))


def _why(given: float, greater: int, equal: int, k: int) -> str:
    """What a wrong value looks like it came from."""
    readings = {
        "; you gave the target the best place of its tie": greater + 1,
        "; you gave the target the worst place of its tie": greater + equal,
        "; the discount of the mean place is not the mean of the discounts": greater + (1 + equal) / 2,
    }
    for sentence, rank in readings.items():
        value = 1 / math.log2(1 + rank) if rank <= k else 0.0
        if math.isclose(given, value, rel_tol=1e-6, abs_tol=1e-9):
            return sentence
    return ""


def _list(row: torch.Tensor) -> list[float]:
    return [round(number, 3) for number in row.tolist()]
