"""RecPO's rewards: how well a reasoning lets the model rank the item that was chosen next."""

import torch

from rrec_lib.evaluation.metrics import ndcg_at_k
from rrec_lib.evaluation.scoring import check_items


def ranking_reward(scores: torch.Tensor, targets: torch.Tensor, k: int = 1000) -> torch.Tensor:
    """R_d: NDCG@k of the target's rank, in expectation over ties.

    Args:
        scores: (B, G, N) similarities of each trajectory to every item; −inf marks masked items.
        targets: (B,) the item each user chose next. Keep it rankable (``scoring.mask_items``); masked, it earns 0.
        k: cutoff; may exceed N.

    Returns:
        (B, G) rewards in [0, 1], float32 or wider.

    Raises:
        ValueError: for k below 1, NaN scores, or shapes and targets that do not fit.

    Source: R²ec, R_d; ties as in its reference values, the official code takes the order that ``topk`` gives.
    """
    return ndcg_at_k(scores, _per_trajectory(scores, targets), k)


def similarity_reward(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """R_c: softmax probability of the target among all candidates.

    Args:
        scores: (B, G, N) similarities already divided by τ; −inf marks masked items.
        targets: (B,) the item each user chose next; masked, it earns 0.

    Returns:
        (B, G) rewards in [0, 1], float32 or wider.

    Raises:
        ValueError: for NaN scores or shapes and targets that do not fit.

    Source: R²ec, R_c.
    """
    if torch.isnan(scores).any():
        raise ValueError("scores hold NaN; no reward can be read from them")
    wide = scores if scores.dtype == torch.float64 else scores.float()
    target = _per_trajectory(wide, targets).unsqueeze(-1)
    probability = torch.softmax(wide, dim=-1).gather(-1, target)  # NaN where nothing at all can be recommended
    return probability.masked_fill(torch.isneginf(wide.gather(-1, target)), 0.0).squeeze(-1)


def fused_reward(ranking: torch.Tensor, similarity: torch.Tensor, beta: float = 0.05) -> torch.Tensor:
    """R = β·R_c + (1 − β)·R_d.

    Args:
        ranking: (B, G) R_d.
        similarity: (B, G) R_c.
        beta: weight of R_c in [0, 1]; the paper takes about 0.05.

    Returns:
        (B, G) rewards in [0, 1].

    Raises:
        ValueError: if β is outside [0, 1] or the shapes differ.

    Source: R²ec, the fused reward.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie in [0, 1], got {beta}")
    if ranking.shape != similarity.shape:
        raise ValueError(f"ranking {tuple(ranking.shape)} and similarity {tuple(similarity.shape)} must agree")
    return beta * similarity + (1 - beta) * ranking


def _per_trajectory(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B, G) targets, one per trajectory."""
    if scores.dim() != 3 or targets.shape != scores.shape[:1]:
        raise ValueError(f"need scores (B, G, N) and targets (B,), got {tuple(scores.shape)}, {tuple(targets.shape)}")
    check_items(targets, scores.shape[-1], "targets")
    return targets.to(scores.device)[:, None].expand(scores.shape[:2])
