"""RecPO's loss, R²ec's Eqn 8: clipped policy gradient for the reasoning tokens, and for the best recommendation."""

from dataclasses import dataclass
from typing import Any

import torch

from rrec_lib.evaluation.scoring import score_items

TOKEN_NORMALIZATIONS = ("trajectory", "sum", "batch", "constant")


@dataclass(frozen=True)
class RecPOLoss:
    """The loss to minimise, its two terms, and what to log beside them. All are scalars.

    Attributes:
        total: token + item, carries the gradient.
        token: minus the clipped objective of the reasoning tokens.
        item: minus the clipped objective of the recommendations, over all R trajectories.
        token_clip_fraction: share of completion tokens whose gradient the clip removes.
        item_clip_fraction: share of best trajectories whose item gradient the clip removes.
        item_accuracy: share of trajectories whose target has the highest in-batch score, of ties an equal part.
    """

    total: torch.Tensor
    token: torch.Tensor
    item: torch.Tensor
    token_clip_fraction: torch.Tensor
    item_clip_fraction: torch.Tensor
    item_accuracy: torch.Tensor


def recpo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor | None,
    completion_mask: torch.Tensor,
    user_states: torch.Tensor,
    item_states: torch.Tensor,
    item_index: torch.Tensor,
    advantages: torch.Tensor,
    group_size: int,
    *,
    best_mask: torch.Tensor | None = None,
    sampling_weights: torch.Tensor | None = None,
    clip_eps: float = 0.2,
    clip_eps_high: float | None = None,
    token_normalization: str = "trajectory",
    **item_softmax: Any,
) -> RecPOLoss:
    """Minus R²ec's objective: every trajectory trains its tokens, the best of each group trains the recommendation.

    Args:
        logprobs, old_logprobs, completion_mask, sampling_weights: as in :func:`token_loss`.
        user_states, item_states, item_index: as in :func:`item_loss`.
        advantages: (R,) constants; 0 gives exactly no gradient.
        group_size: G; used only without ``best_mask``.
        best_mask: (R,) true for the best trajectory of each group, made when the group was scored. Without it rows
            are taken to be in group order, see :func:`best_trajectory_mask`.
        clip_eps: ε below 1; also above it unless ``clip_eps_high`` is given.
        clip_eps_high: ε above 1.
        token_normalization: as ``normalization`` in :func:`token_loss`.
        item_softmax: ``old_item_logprobs``, ``item_ids``, ``excluded_items``, ``log_q`` and ``temperature`` of
            :func:`item_loss`.

    Returns:
        The loss and its parts.

    Raises:
        ValueError: for an unknown normalisation, shapes that do not fit, or rows that do not make whole groups.

    Source: R²ec, Eqn 8.
    """
    best = best_trajectory_mask(advantages, group_size) if best_mask is None else best_mask
    clip = clip_eps, clip_eps if clip_eps_high is None else clip_eps_high
    token, token_clipped = token_loss(
        logprobs, old_logprobs, completion_mask, advantages, clip, token_normalization, sampling_weights
    )
    item, item_clipped, accuracy = item_loss(
        user_states, item_states, item_index, advantages, best, clip, **item_softmax
    )
    return RecPOLoss(token + item, token, item, token_clipped, item_clipped, accuracy)


def token_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor | None,
    completion_mask: torch.Tensor,
    advantages: torch.Tensor,
    clip: tuple[float, float] = (0.2, 0.2),
    normalization: str = "trajectory",
    sampling_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus the first term of Eqn 8, Σ_t ℓ_ε(r_t, A): every trajectory trains its tokens.

    Args:
        logprobs: (R, T) log-probabilities of the sampled tokens under the current policy.
        old_logprobs: (R, T) the same under the policy that sampled them; None means on policy (ratio 1).
        completion_mask: (R, T) 1 for tokens that the policy chose, 0 for padding and appended text.
        advantages: (R,) constants.
        clip: ε below and above 1.
        normalization: ``"trajectory"`` (mean over each trajectory's tokens, then over trajectories), ``"sum"`` (over
            tokens, then mean over trajectories), ``"batch"`` (mean over all tokens of the batch) or ``"constant"``
            (sum over R·T, T the longest of the step). Eqn 8 as read prints none: ``"sum"``.
        sampling_weights: (R, T) constants that multiply each token's gain, where another engine sampled the tokens, see
            :func:`rrec_lib.recpo.vllm.importance_weights`; None means that the policy itself did.

    Returns:
        The loss, and the share of completion tokens whose gradient the clip removes.

    Raises:
        ValueError: for an unknown normalisation, or shapes that do not fit.
    """
    mask, advantages = completion_mask.bool(), advantages.detach()
    _check_shapes(
        completion_mask=(mask, logprobs.shape),
        old_logprobs=(old_logprobs, logprobs.shape),
        advantages=(advantages, logprobs.shape[:1]),
        sampling_weights=(sampling_weights, logprobs.shape),
    )
    # A masked token, or a trajectory that teaches nothing, gets ratio 1: its old value may be anything.
    ratio = _ratio(logprobs, old_logprobs, mask & (advantages != 0)[:, None])
    gain, clipped = clipped_gain(ratio, advantages[:, None], *clip)
    if sampling_weights is not None:
        gain = gain * sampling_weights.detach()
    loss = -_token_mean(torch.where(mask, gain, 0.0), mask, normalization)
    return loss, (clipped & mask).sum() / mask.sum().clamp(min=1)


def item_loss(
    user_states: torch.Tensor,
    item_states: torch.Tensor,
    item_index: torch.Tensor,
    advantages: torch.Tensor,
    best_mask: torch.Tensor,
    clip: tuple[float, float] = (0.2, 0.2),
    *,
    old_item_logprobs: torch.Tensor | None = None,
    **softmax: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Minus the second term of Eqn 8, δ_{i,i*}·ℓ_ε(r_{T+1}, A): the best of each group trains the recommendation.

    Args:
        user_states: (R, d) last hidden states at the marker.
        item_states: (M, d) rows of the in-batch softmax; they receive gradient.
        item_index: (R,) row of ``item_states`` that is each trajectory's target.
        advantages: (R,) constants.
        best_mask: (R,) true for the trajectories that train.
        clip: ε below and above 1.
        old_item_logprobs: (R,) in-batch log-probability of the target under the old policy; None means on policy.
        softmax: ``item_ids``, ``temperature``, ``log_q`` and ``excluded_items`` of :func:`item_log_softmax`.

    Returns:
        The loss, a mean over all R; the share of best trajectories whose gradient the clip removes; and the share of
        trajectories whose target has the highest in-batch score, of ties an equal part.

    Raises:
        ValueError: for shapes that do not fit.
    """
    best, advantages, rows = best_mask.bool(), advantages.detach(), advantages.shape[:1]
    _check_shapes(
        user_states=(user_states[:, 0], rows),
        item_index=(item_index, rows),
        best_mask=(best, rows),
        old_item_logprobs=(old_item_logprobs, rows),
    )
    logprobs = item_log_softmax(user_states, item_states, item_index, **softmax)
    target = logprobs.gather(1, item_index[:, None]).squeeze(1)
    gain, clipped = clipped_gain(_ratio(target, old_item_logprobs, best & (advantages != 0)), advantages, *clip)
    loss = -torch.where(best, gain, 0.0).mean()
    first = logprobs == logprobs.max(dim=1, keepdim=True).values
    hits = first.gather(1, item_index[:, None]).squeeze(1) / first.sum(dim=1).clamp(min=1)
    return loss, (clipped & best).sum() / best.sum().clamp(min=1), hits.mean()


def clipped_gain(
    ratio: torch.Tensor, advantages: torch.Tensor, clip_eps: float, clip_eps_high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """ℓ_ε(r, A) = min(r·A, clip(r, 1−ε, 1+ε)·A), and where the clip removes the gradient.

    Args:
        ratio: probability under the new policy over that under the old one; any shape.
        advantages: broadcastable to it.
        clip_eps: ε below 1.
        clip_eps_high: ε above 1.

    Returns:
        The gain and a boolean, both of the broadcast shape: true above 1+ε with A > 0, and below 1−ε with A < 0.

    Source: R²ec, Eqn 8 (PPO's clip).
    """
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps_high)
    removed = ((ratio > 1 + clip_eps_high) & (advantages > 0)) | ((ratio < 1 - clip_eps) & (advantages < 0))
    return torch.minimum(ratio * advantages, clipped * advantages), removed


def best_trajectory_mask(advantages: torch.Tensor, group_size: int) -> torch.Tensor:
    """Mark the trajectory with the highest advantage of each group, the first of equals.

    Args:
        advantages: (R,) advantages or rewards, in group order.
        group_size: G, divides R.

    Returns:
        (R,) booleans, one true per group.
    """
    if group_size < 1 or advantages.shape[0] % group_size:
        raise ValueError(f"{advantages.shape[0]} trajectories do not make whole groups of {group_size}; pass best_mask")
    groups = advantages.reshape(-1, group_size)
    return (groups.argmax(dim=1, keepdim=True) == torch.arange(group_size, device=advantages.device)).reshape(-1)


def item_logprobs(
    user_states: torch.Tensor, item_states: torch.Tensor, item_index: torch.Tensor, *softmax: Any, **options: Any
) -> torch.Tensor:
    """Log-probability (R,) of each target; arguments as in :func:`item_log_softmax`."""
    logprobs = item_log_softmax(user_states, item_states, item_index, *softmax, **options)
    return logprobs.gather(1, item_index[:, None]).squeeze(1)


def item_log_softmax(
    user_states: torch.Tensor,
    item_states: torch.Tensor,
    item_index: torch.Tensor,
    item_ids: torch.Tensor | None = None,
    temperature: float = 0.02,
    log_q: torch.Tensor | None = None,
    excluded_items: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-probabilities (R, M) of every row in the in-batch softmax.

    Args:
        user_states: (R, d) last hidden states at the marker, L2-normalised here.
        item_states: (M, d) rows of the softmax, L2-normalised here.
        item_index: (R,) row of ``item_states`` that is each trajectory's target.
        item_ids: (M,) catalogue ids of the rows; another row with the target's id is no negative.
        temperature: τ of the softmax.
        log_q: (M,) logarithm of how likely each row is to be in a batch, up to a constant. Subtracted from the
            logits, it makes up for popular items being negatives more often (logQ correction); None, as in the paper,
            leaves it out.
        excluded_items: (R, M) true at rows that are no negatives for a trajectory, such as what its user has seen.

    Raises:
        ValueError: for shapes that do not fit.

    Source: R²ec, the item ratio's π(v⁺|·). logQ correction: Yi et al. (2019).
    """
    _check_shapes(
        item_ids=(item_ids, item_states.shape[:1]),
        excluded_items=(excluded_items, (len(user_states), len(item_states))),
        log_q=(log_q, item_states.shape[:1]),
    )
    logits = score_items(user_states, item_states, temperature)
    if log_q is not None:
        logits = logits - log_q
    if item_ids is not None:
        own = torch.arange(len(item_ids), device=logits.device) == item_index[:, None]
        twin = (item_ids == item_ids[item_index][:, None]) & ~own
        logits = logits.masked_fill(twin, float("-inf"))
    if excluded_items is not None:
        logits = logits.masked_fill(excluded_items, float("-inf"))
    return torch.log_softmax(logits, dim=1)


def _ratio(new: torch.Tensor, old: torch.Tensor | None, active: torch.Tensor) -> torch.Tensor:
    """exp(new − old) in float32 or wider where active, exactly 1 without gradient elsewhere."""
    new = new if new.dtype == torch.float64 else new.float()
    reference = new.detach() if old is None else old.detach().to(new.dtype)
    return torch.exp(torch.where(active, new - reference, 0.0))


def _token_mean(gain: torch.Tensor, mask: torch.Tensor, normalization: str) -> torch.Tensor:
    """Bring (R, T) gains, 0 outside the completion, to a scalar."""
    lengths = mask.sum(dim=1)
    if normalization == "trajectory":
        return (gain.sum(dim=1) / lengths.clamp(min=1)).mean()
    if normalization == "sum":
        return gain.sum(dim=1).mean()
    if normalization == "batch":
        return gain.sum() / lengths.sum().clamp(min=1)
    if normalization == "constant":
        return gain.mean()
    raise ValueError(f"unknown token_normalization {normalization!r}; choose one of {', '.join(TOKEN_NORMALIZATIONS)}")


def _check_shapes(**tensors: tuple[torch.Tensor | None, tuple[int, ...]]) -> None:
    """Refuse what broadcasting would accept: advantages one axis too long cost the official code its token gradient."""
    for name, (tensor, expected) in tensors.items():
        if tensor is not None and tuple(tensor.shape) != tuple(expected):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected)} to go with the rest")
