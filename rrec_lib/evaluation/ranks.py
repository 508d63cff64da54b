"""What follows from the order of scores: tie-aware ranks and top lists."""

from typing import NamedTuple

import numpy as np
import torch

from rrec_lib.evaluation.scoring import check_items


class TopK(NamedTuple):
    """The best k items of each row, best first: ``scores (..., k)`` and catalogue rows ``items (..., k)``."""

    scores: torch.Tensor
    items: torch.Tensor


def target_rank(scores: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Place the target among the items, ties kept apart from order.

    Args:
        scores: (..., N); −inf marks an item that cannot be recommended.
        targets: (...) catalogue rows.

    Returns:
        ``(n_greater, n_equal)``, both (...): items scored above the target, and items scored the same, the target
        included. Its rank lies in n_greater+1 .. n_greater+n_equal. A masked target has (N, 0): it holds no place.

    Raises:
        ValueError: for NaN scores, shapes that do not fit, or a target outside the catalogue.
    """
    size = scores.shape[-1]
    if scores.shape[:-1] != targets.shape:
        raise ValueError(f"scores {tuple(scores.shape)} need targets {tuple(scores.shape[:-1])}, got {targets.shape}")
    _refuse_nan(scores)
    check_items(targets, size, "targets")
    own = scores.gather(-1, targets.to(scores.device).unsqueeze(-1))
    greater, equal = count_true(scores > own), count_true(scores == own)
    masked = torch.isneginf(own.squeeze(-1))
    return greater.masked_fill(masked, size), equal.masked_fill(masked, 0)


def top_k(scores: torch.Tensor, k: int) -> TopK:
    """List the k best items of each row.

    Args:
        scores: (..., N); −inf marks an item that cannot be recommended.
        k: length of the list; cut to N. Places for which no candidate is left carry the score −inf.

    Returns:
        Scores and items, (..., min(k, N)); equal scores keep the catalogue's order, so that a run can be repeated.

    Raises:
        ValueError: for k below 1, or NaN scores, which would come out in the catalogue's order.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    _refuse_nan(scores)
    values, order = torch.sort(scores, dim=-1, descending=True, stable=True)
    return TopK(values[..., :k], order[..., :k])


def count_true(flags: torch.Tensor) -> torch.Tensor:
    """How many are true along the last axis; on a processor NumPy counts booleans about ten times as fast."""
    return torch.as_tensor(np.count_nonzero(flags, axis=-1)) if flags.device.type == "cpu" else flags.sum(-1)


def _refuse_nan(scores: torch.Tensor) -> None:
    if scores.amax(-1).isnan().any():  # a maximum hands NaN on, and needs no second copy of the scores
        raise ValueError("scores hold NaN; a ranking of them would mean nothing")
