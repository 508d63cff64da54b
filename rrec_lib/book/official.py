"""What the official code computes where it differs from the paper. For notebook 08 alone: nothing else may import it.

Each function gives the literal values of YRYangang/RRec at commit 449a544, written anew from its description, so that a
difference can be shown, differentiated, and never creeps in elsewhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class OfficialLoss:
    """The loss and its two terms; all scalars. ``token_products`` is the shape that broadcasting made."""

    total: Tensor
    token: Tensor
    item: Tensor
    token_products: torch.Size


def batch_loss(
    logprobs: Tensor,
    completion_mask: Tensor,
    advantages: Tensor,
    relabel_mask: Tensor,
    user_states: Tensor,
    item_states: Tensor,
    item_index: Tensor,
    clip_eps: float = 0.2,
    clip_eps_high: float = 0.28,
    temperature: float = 0.02,
) -> OfficialLoss:
    """The loss of a mini-batch, with advantages one axis too long and a ratio that is always 1.

    Args:
        logprobs: (M, T) log-probabilities of the completion tokens.
        completion_mask: (M, T), 1 on completion tokens.
        advantages: (M,).
        relabel_mask: (M,) true for the trajectories that are meant to train the recommendation.
        user_states: (M, d).
        item_states: (B, d) targets of the mini-batch's prompts.
        item_index: (M,) row of ``item_states``.
        clip_eps: ε below 1; never binds.
        clip_eps_high: ε above 1; never binds.
        temperature: τ of the in-batch softmax.

    Returns:
        The loss; its gradient with respect to every completion token's log-probability is −ΣA/(M·n), n completion
        tokens, and with respect to every trajectory's target log-probability −Σ_w A/M², w the relabelled ones.

    Source: differences 1, 2 and 5 of the page *paper, official code, this book*.
    """
    advantages = advantages[:, None, None]  # (M, 1, 1) meets (M, T), and every advantage meets every trajectory
    mask = completion_mask.to(logprobs.dtype)
    token_products = _clipped((logprobs - logprobs.detach()).exp(), advantages, clip_eps, clip_eps_high)  # (M, M, T)
    token = -(token_products * mask).sum() / mask.sum() / len(logprobs)

    similarity = normalize(user_states, dim=1) @ normalize(item_states, dim=1).T / temperature
    target = similarity.log_softmax(dim=1).gather(1, item_index[:, None])  # (M, 1)
    chosen = relabel_mask.to(logprobs.dtype)[:, None, None]
    item_products = _clipped(
        (target - target.detach()).exp(), advantages * chosen, clip_eps, clip_eps_high
    )  # (M, M, 1)
    item = -item_products.sum(dim=(1, 2)).mean() / len(logprobs)
    return OfficialLoss(token + item, token, item, token_products.shape)


def gaussian_advantages(rewards: Tensor) -> Tensor:
    """(B, G) group-normalised rewards with an ε of 1e-8, so that a nearly tied group is blown up to unit size.

    A group of one has no spread and gets advantage 1. Source: difference 10.
    """
    if rewards.shape[1] == 1:
        return torch.ones_like(rewards)
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-8)


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """(B, G) values of R·(1 + 1/G) − mean; they sum to the group's mean reward, RLOO's sum to 0.

    A group of one keeps its reward. Source: difference 3.
    """
    group_size = rewards.shape[1]
    return rewards * (1 + 1 / group_size) - rewards.mean(1, keepdim=True)


def mask_history(scores: Tensor, padded_history: Tensor) -> Tensor:
    """Set the columns that each history row names to the lowest float32, its padding value 0 included.

    A history without padding leaves the pad item 0 a candidate, and a target in its own history is hidden.

    Args:
        scores: (R, N), column 0 the pad item.
        padded_history: (R, W) item numbers, filled up with 0.

    Source: difference 9.
    """
    return scores.scatter(1, padded_history, torch.finfo(torch.float32).min)


def ranking_reward(scores: Tensor, targets: Tensor, k: int = 1000) -> Tensor:
    """(R,) discount at the target's place in ``topk``; among equal scores the place is luck.

    Args:
        scores: (R, N).
        targets: (R,).
        k: at most N.

    Raises:
        RuntimeError: for k above N, as there.

    Source: difference 9.
    """
    hits = scores.topk(k, dim=1).indices == targets[:, None]
    return (hits / torch.arange(2, k + 2, device=scores.device).log2()).sum(1)


def forward_slice(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the model is given in training, and where the user state is read.

    Args:
        input_ids: (M, L), padded on the right.
        attention_mask: (M, L).

    Returns:
        (M, longest − 1) ids, so the longest rows lose their last token, and (M,) positions of the states: one token
        early for those rows.

    Source: difference 4.
    """
    lengths = attention_mask.sum(1)
    width = int(lengths.max()) - 1
    return input_ids[:, :width], (lengths - 1).clamp(max=width - 1)


def _clipped(ratio: Tensor, advantages: Tensor, clip_eps: float, clip_eps_high: float) -> Tensor:
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip_eps, 1 + clip_eps_high) * advantages)
