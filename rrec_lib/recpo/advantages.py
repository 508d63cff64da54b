"""Advantages: each trajectory's reward against the others of its group."""

import torch


def grpo_advantages(rewards: torch.Tensor, eps: float = 1e-4) -> torch.Tensor:
    """A = (R − mean) / (std + eps) within the group, with the sample standard deviation.

    Args:
        rewards: (B, G), G >= 2.
        eps: keeps nearly tied groups from being blown up to unit size; 1e-4 as in TRL, the official code has 1e-8.

    Returns:
        (B, G) advantages, float32 or wider; each row sums to 0, and is exactly 0 where all rewards are equal.

    Raises:
        ValueError: if the shape is not (B, G) with G >= 2.

    Source: R²ec with GRPO.
    """
    offsets = _offsets(rewards)
    return (offsets - offsets.mean(dim=1, keepdim=True)) / (offsets.std(dim=1, keepdim=True) + eps)


def rloo_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """A_i = R_i − mean of the other G − 1 rewards, which is G/(G−1)·(R_i − mean).

    Args:
        rewards: (B, G), G >= 2.

    Returns:
        (B, G) advantages, float32 or wider; each row sums to 0, and is exactly 0 where all rewards are equal.

    Raises:
        ValueError: if the shape is not (B, G) with G >= 2.

    Source: R²ec with RLOO.
    """
    offsets = _offsets(rewards)
    group_size = rewards.shape[1]
    return group_size / (group_size - 1) * (offsets - offsets.mean(dim=1, keepdim=True))


def _offsets(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards minus the first of their group: advantages ignore a shift, and equal rewards become exact zeros.

    Without it the mean of equal rewards can differ from them in the last bit, and std + eps would magnify that.
    """
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards must be (B, G) with G >= 2, got {tuple(rewards.shape)}: one alone has no baseline")
    wide = rewards if rewards.dtype == torch.float64 else rewards.float()
    return wide - wide[:, :1]


ADVANTAGES = {"grpo": grpo_advantages, "rloo": rloo_advantages}
