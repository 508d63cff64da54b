"""Checks for the exercises of notebook 08, the official code beside the paper."""

from collections.abc import Callable

import torch

from rrec_lib.exercises.base import report
from rrec_lib.recpo.advantages import grpo_advantages, rloo_advantages
from rrec_lib.recpo.losses import recpo_loss

Rule = Callable[[torch.Tensor], torch.Tensor]


@report
def check_token_loss(
    answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor],
) -> None:
    """Right: every token has its own trajectory's advantage, and the clip binds once the policy has moved.

    Args:
        answer: takes log-probabilities (R, T), old ones (R, T), a mask (R, T), advantages (R,) and ε; returns the loss.
    """
    generator = torch.Generator().manual_seed(7)
    old = -torch.rand(4, 3, generator=generator, dtype=torch.float64) - 1
    moved = old + 0.4 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 3])[:, None]
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    for what, new in (("on policy", old), ("after the policy has moved", moved)):
        given, found = _loss_and_gradient(answer, new, old, mask, advantages)
        wanted, expected = _loss_and_gradient(_paper, new, old, mask, advantages)
        assert not found[~mask].any(), f"{what}, padding gets a gradient: use the mask"
        spread = found[mask].max() - found[mask].min()
        assert spread > 1e-9, f"{what}, every token gets the same gradient: an advantage should meet its own row only"
        assert torch.allclose(found, expected), (
            f"{what}, the gradient on the first row should be {_list(expected[0])}, yours is {_list(found[0])}"
            + _why(found, expected)
        )
        assert abs(given - wanted) < 1e-9, f"{what}, the gradient is right, but the loss should be {wanted:.4f}"


@report
def check_advantage_test(answer: Callable[[Rule], bool]) -> None:
    """Right: your test passes sound advantages and stops the broken ones.

    Args:
        answer: takes a function from rewards (B, G) to advantages (B, G); returns whether it can be trusted.
    """
    sound: dict[str, Rule] = {
        "RLOO": rloo_advantages,
        "GRPO": grpo_advantages,
        "rewards minus their group's mean": lambda r: r - _mean(r),
    }
    broken: dict[str, Rule] = {
        "the rewards themselves": lambda r: r,
        "the official leave-one-out": lambda r: r * (1 + 1 / r.shape[1]) - _mean(r),
        "rewards minus the mean of the whole batch": lambda r: r - r.mean(),
        "places in the group, ties broken by order": lambda r: (
            (places := r.argsort(1).argsort(1).to(r)) - _mean(places)
        ),
    }
    for name, rule in sound.items():
        assert answer(rule), f"your test refuses {name}, which is sound; did you leave room for rounding?"
    for name, rule in broken.items():
        assert not answer(rule), (
            f"your test lets through {name}; look at each group's sum, with groups of different means, and at a group "
            "of equal rewards"
        )


def _paper(
    logprobs: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, advantages: torch.Tensor, eps: float
) -> torch.Tensor:
    rows = len(logprobs)
    states = torch.ones(rows, 2, dtype=torch.float64)
    index = torch.zeros(rows, dtype=torch.long)
    return recpo_loss(
        logprobs, old, mask, states, states[:1], index, advantages, rows, clip_eps=eps, token_normalization="batch"
    ).token


def _loss_and_gradient(
    loss_of: Callable[..., torch.Tensor],
    new: torch.Tensor,
    old: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
) -> tuple[float, torch.Tensor]:
    leaf = new.clone().requires_grad_()
    loss = loss_of(leaf, old.clone(), mask.clone(), advantages.clone(), 0.2)
    assert isinstance(loss, torch.Tensor), "return the loss as a tensor"
    assert loss.shape == (), f"return the loss as one number, a tensor without axes, not {tuple(loss.shape)}"
    assert loss.requires_grad, "your loss doesn't depend on logprobs, so nothing would be learned from it"
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def _why(found: torch.Tensor, expected: torch.Tensor) -> str:
    """What a wrong gradient looks like it came from."""
    if torch.allclose(found, -expected):
        return "; the sign is turned round: a loss is minus what you want more of"
    clipped = (expected == 0) & (found != 0)
    if clipped.any():
        return "; a token past the clip should have no gradient left"
    if ((expected != 0) & (found == 0)).any():
        return "; a token pushed back towards ratio 1 should keep its gradient: take the smaller of the two products"
    scale = found / expected.where(expected != 0, torch.ones(()).to(expected))
    if torch.allclose(scale[expected != 0], scale[expected != 0][0]):
        return f"; yours is {scale[expected != 0][0]:.3g} times that everywhere: divide by the completion tokens alone"
    return "; every completion token of the batch counts the same, whatever its row's length"


def _mean(rows: torch.Tensor) -> torch.Tensor:
    return rows.mean(dim=1, keepdim=True)


def _list(row: torch.Tensor) -> list[float]:
    return [round(number, 3) for number in row.tolist()]
