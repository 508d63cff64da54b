"""Notebook 05's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from rrec_lib.exercises import nb05
from rrec_lib.recpo.advantages import grpo_advantages

CHAPTER, COMPANION = "05_recpo_reward_design", "05_recpo_reward_design_exercises"


def _mean(rewards):
    return rewards.mean(dim=1, keepdim=True)


def test_rloo(holds):
    holds(
        CHAPTER,
        "my_rloo",
        nb05.check_rloo,
        {
            "as the official code has it": (lambda r: r * (1 + 1 / r.shape[1]) - _mean(r), "sum to 0"),
            "GRPO": (grpo_advantages, "standard deviation"),
            "own reward in the baseline": (lambda r: r - _mean(r), "other G − 1"),
            "sum of the others, not their mean": (lambda r: r - (r.sum(1, keepdim=True) - r), "sum to 0"),
            "divided by G": (lambda r: (r - _mean(r)) / r.shape[1], "expected"),
            "wrong sign": (lambda r: (_mean(r) - r) * r.shape[1] / (r.shape[1] - 1), "expected"),
            "one number per user": (lambda r: r.sum(1) * 0, "one advantage per reward"),
            "a crash": (lambda r: r @ r, "raised"),
        },
        lambda r: r.shape[1] / (r.shape[1] - 1) * (r - _mean(r)),
    )


def _discount(rank, k):
    return 1 / math.log2(1 + rank) if rank <= k else 0.0


def _counts(scores, target):
    return int((scores > scores[target]).sum()), int((scores == scores[target]).sum())


def _best_place(scores, target, k):
    return _discount(_counts(scores, target)[0] + 1, k)


def _worst_place(scores, target, k):
    return _discount(sum(_counts(scores, target)), k)


def _mean_place(scores, target, k):
    above, equal = _counts(scores, target)
    return _discount(above + (1 + equal) / 2, k)


def _no_cutoff(scores, target, k):
    return _mean_discount(scores, target, 10**9)


def _mean_discount(scores, target, k):
    above, equal = _counts(scores, target)
    return sum(_discount(rank, k) for rank in range(above + 1, above + equal + 1)) / equal


def _average_inside_k_only(scores, target, k):
    above, equal = _counts(scores, target)
    inside = [_discount(rank, k) for rank in range(above + 1, above + equal + 1) if rank <= k]
    return sum(inside) / len(inside) if inside else 0.0


def _from_a_sort(scores, target, k):
    return _discount(int((torch.argsort(scores, descending=True, stable=True) == target).nonzero()) + 1, k)


def _hit_rate(scores, target, k):
    above, equal = _counts(scores, target)
    return max(0, min(k, above + equal) - above) / equal


def test_tie_aware_ndcg(holds):
    holds(
        CHAPTER,
        "my_ndcg",
        nb05.check_tie_aware_ndcg,
        {
            "optimistic": (_best_place, "best place"),
            "pessimistic": (_worst_place, "worst place"),
            "discount of the mean rank": (_mean_place, "mean place"),
            "no cutoff": (_no_cutoff, "beyond k"),
            "average over the places inside k": (_average_inside_k_only, "cuts through"),
            "whatever a sort gives": (_from_a_sort, "expected"),
            "hit rate": (_hit_rate, "expected"),
            "always zero": (lambda *_: 0.0, "expected"),
        },
        _mean_discount,
    )


def test_product(holds):
    holds(
        COMPANION,
        "my_product",
        nb05.check_product,
        {
            "as it was meant": (((6, 4), 0.0, "a"), "lined up from the right"),
            "an axis is lost": (((6, 1, 4), 0.0, "a"), "(6, 4) is treated as (1, 6, 4)"),
            "tokens are lost": (((6, 6, 1), 0.0, "a"), "that of the tokens"),
            "some axes": (((6, 4, 4), 0.0, "a"), "1 meets 4, 1 meets 6"),
            "a gradient of its own": (((6, 6, 4), 0.03, "a"), "meets all six advantages"),
            "from the left": (((6, 6, 4), 0, "b"), "would meet its own advantage"),
            "refused": (((6, 6, 4), 0, "c"), "nothing is refused"),
            "a constant": (((6, 6, 4), 0, "d"), "still has a gradient"),
            "no letter": (((6, 6, 4), 0), "three things"),
            "no shape": ((6, 0, "a"), "raised TypeError"),
        },
        (torch.Size([6, 6, 4]), 1e-9, "A"),
    )


def test_the_product_and_its_gradient_are_as_asked():
    advantages = torch.tensor([1.0, 0.5, -1.5, -2.0, 0.0, 2.0], dtype=torch.float64)
    logprobs = torch.full((6, 4), -1.0, dtype=torch.float64, requires_grad=True)
    product = advantages.reshape(6, 1, 1) * (logprobs - logprobs.detach()).exp()
    (gradient,) = torch.autograd.grad(product.mean(), logprobs)
    assert product.shape == (6, 6, 4)
    assert gradient.abs().max() < 1e-12


def weights(lengths, width, how, **changes):
    """Weights by counting what one token adds to the mean, with another normalisation or none."""
    n, how = len(lengths), changes.get(how, how)
    by = {"sum": [n] * n, "batch": [sum(lengths)] * n, "constant": [n * width] * n}
    return torch.tensor([1 / d for d in by.get(how, [n * length for length in lengths])], dtype=torch.float64)


def test_token_weights(holds):
    holds(
        COMPANION,
        "my_token_weights",
        nb05.check_token_weights,
        {
            "sum for trajectory": (lambda *g: weights(*g, trajectory="sum"), "the normalisation 'sum'"),
            "padding in the batch": (lambda *g: weights(*g, batch="constant"), "the normalisation 'constant'"),
            "batch for constant": (lambda *g: weights(*g, constant="batch"), "the normalisation 'batch'"),
            "no mean": (lambda lengths, width, how: weights(lengths, width, how) * len(lengths), "mean over the traj"),
            "whole reasonings": (
                lambda lengths, *g: weights(lengths, *g) * torch.tensor(lengths),
                "normalisation 'sum'",
            ),
            "one weight": (lambda *g: weights(*g).sum(), "2 weights"),
        },
        weights,
    )


def step(place):
    return 1 / math.log2(1 + place) - 1 / math.log2(2 + place)


def natural(place, spread):
    gap = 1 / math.log(1 + place) - 1 / math.log(2 + place)
    return gap / (gap + spread)


def safe(place, spread):
    return 1 / (1 + spread / step(place))


def test_safe_beta(holds):
    holds(
        COMPANION,
        "my_safe_beta",
        nb05.check_safe_beta,
        {
            "a share of 1": (lambda place, spread: step(place) / spread, "1 − β, not 1"),
            "the other weight": (lambda place, spread: 1 - safe(place, spread), "that is 1 − β"),
            "the step": (lambda place, spread: step(place), "step of R_d alone"),
            "a place too deep": (lambda place, spread: safe(place + 1, spread), "one place too deep"),
            "natural logarithms": (natural, "base 2"),
            "the paper's": (lambda *_: 0.05, "expected"),
        },
        safe,
        np=np,
    )


def test_where_the_papers_beta_is_safe_as_the_solution_says():
    assert [place for place in range(1, 9) if safe(place, 1) >= 0.05] == [1, 2, 3]
    assert max(place for place in range(1, 99) if safe(place, 1 / (place + 1)) >= 0.05) == 35
    assert step(36) < 0.002


def logits(users, items, tau):
    return normalize(users, dim=1) @ normalize(items, dim=1).T / tau


def chosen(values, rows, ids, keep="own"):
    """Log-softmax at the targets, where other rows of the same film are masked, or all, or none."""
    own = torch.arange(len(ids)) == rows[:, None]
    same = ids == ids[rows][:, None]
    gone = {"own": same & ~own, "nothing": same, "all": torch.zeros_like(own)}[keep]
    return values.masked_fill(gone, -torch.inf).log_softmax(1).gather(1, rows[:, None])[:, 0]


def one_by_one(users, items, rows, ids, log_q, tau):
    result = []
    for user, row in zip(users, rows.tolist(), strict=True):
        scores = [
            float(user @ item / user.norm() / item.norm() / tau - q) for item, q in zip(items, log_q, strict=True)
        ]
        kept = [s for i, s in enumerate(scores) if i == row or ids[i] != ids[row]]
        result.append(scores[row] - math.log(sum(math.exp(s) for s in kept)))
    return torch.tensor(result)


@pytest.mark.filterwarnings("error")
def test_item_logprobs(holds):
    holds(
        COMPANION,
        "my_item_logprobs",
        nb05.check_item_logprobs,
        {
            "added": (lambda u, v, r, i, q, tau: chosen(logits(u, v, tau) + q, r, i), "subtracted, not added"),
            "left out": (lambda u, v, r, i, q, tau: chosen(logits(u, v, tau), r, i), "not in it"),
            "before τ": (lambda u, v, r, i, q, tau: chosen(logits(u, v, tau) - q / tau, r, i), "behind the division"),
            "twins stay": (lambda u, v, r, i, q, tau: chosen(logits(u, v, tau) - q, r, i, "all"), "its own negative"),
            "the target goes": (
                lambda u, v, r, i, q, tau: chosen(logits(u, v, tau) - q, r, i, "nothing"),
                "its own id",
            ),
            "probabilities": (lambda u, v, r, i, q, tau: chosen(logits(u, v, tau) - q, r, i).exp(), "its logarithm"),
            "logits": (
                lambda u, v, r, i, q, tau: (logits(u, v, tau) - q).gather(1, r[:, None])[:, 0],
                "a softmax is missing",
            ),
            "all rows": (lambda u, v, r, i, q, tau: (logits(u, v, tau) - q).log_softmax(1), "five log-probabilities"),
        },
        one_by_one,
    )
