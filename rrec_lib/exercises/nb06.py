"""Checks for the exercises of notebook 06, training."""

from collections.abc import Callable

import torch

from rrec_lib.exercises.base import report
from rrec_lib.recpo.losses import clipped_gain


@report
def check_loss_mask(answer: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> None:
    """Right: only the tokens that the policy sampled train it.

    Args:
        answer: takes lengths (R,) with and without the appended marker, and the width; returns the mask (R, width).
    """
    total, sampled = torch.tensor([5, 4, 7, 3]), torch.tensor([5, 1, 4, 0])
    for width in (7, 9):
        mask = answer(total.clone(), sampled.clone(), width)
        mask = torch.as_tensor(mask)
        assert mask.shape == (4, width), f"expected shape (4, {width}), got {tuple(mask.shape)}"
        counts = mask.bool().sum(1)
        assert not torch.equal(counts, total), "your mask also trains the appended marker, which nobody sampled"
        assert torch.equal(counts, sampled), f"expected {sampled.tolist()} tokens per row, got {counts.tolist()}"
        assert bool((mask.bool() == (torch.arange(width) < counts[:, None])).all()), (
            "the right number of tokens, but not the first ones of each row"
        )


@report
def check_clip_fraction(
    answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], float],
) -> None:
    """Right: the clip binds only where the update would push further the way it already went.

    Args:
        answer: takes log-probabilities (R, T), old ones (R, T), advantages (R,), a mask (R, T) and ε; returns a share.
    """
    generator = torch.Generator().manual_seed(7)
    old = -torch.rand(6, 5, generator=generator, dtype=torch.float64) - 1
    logprobs = old + 0.5 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 2.0], dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 2, 5, 1])[:, None]
    for eps in (0.2, 0.05):
        value = answer(logprobs.clone(), old.clone(), advantages.clone(), mask.clone(), eps)
        ratio = (logprobs - old).exp()
        removed = clipped_gain(ratio, advantages[:, None], eps, eps)[1]
        expected = ((removed & mask).sum() / mask.sum()).item()
        outside = (((ratio - 1).abs() > eps) & mask).sum().item() / mask.sum().item()
        given = float(value)
        assert abs(given - outside) > 1e-6, (
            "you counted every ratio outside 1 ± ε; a token pushed back towards 1 keeps its gradient"
        )
        assert abs(given - removed.double().mean().item()) > 1e-6, "you counted padding: use the mask"
        assert abs(given - expected) < 1e-6, f"for ε = {eps} expected {expected:.4f}, got {given:.4f}"
