"""Checks for the exercises of notebook 05, the reward and its advantages."""

import math
from collections.abc import Callable

import torch

from rrec_lib.evaluation.metrics import ndcg_at_k
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.exercises.base import draws, hint, near, report, require_reason
from rrec_lib.recpo.advantages import rloo_advantages
from rrec_lib.recpo.losses import TOKEN_NORMALIZATIONS, item_logprobs, token_loss


@report
def check_rloo(answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Right: each reward is measured against the others of its group, and each group sums to zero.

    Args:
        answer: takes rewards (B, G), returns RLOO advantages (B, G).
    """
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0.9, 0.7, 0.2, 0.2]], dtype=torch.float64)
    drawn = torch.rand(2, 5, generator=draws(), dtype=torch.float64)
    for group in (rewards, rewards[:, :3], 2 * rewards[:, 1:3] - 1, drawn):
        expected, given = rloo_advantages(group), torch.as_tensor(answer(group.clone()), dtype=torch.float64)
        assert given.shape == group.shape, f"expected one advantage per reward, {tuple(group.shape)}, not {given.shape}"
        sums = given.sum(1).abs().max().item()
        assert near(sums, 0), f"the advantages of a group should sum to 0; one of yours sums to ±{sums:.3g}"
        size = group.shape[1]
        centred = torch.allclose(given, expected * (size - 1) / size, atol=1e-6)
        assert not centred, "your baseline still contains the reward itself: average the other G − 1 only"
        assert torch.allclose(given, expected, atol=1e-6), (
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
    generator = draws()
    for k in (1, 2, 4):
        levels = torch.randint(0, 3, (7,), generator=generator).double() / 2
        cases.append((levels.tolist(), int(torch.randint(0, 7, (), generator=generator)), k, "drawn scores with ties"))
    for scores, target, k, what in cases:
        tensor = torch.tensor(scores, dtype=torch.float64)
        value = answer(tensor.clone(), target, k)
        expected, given = ndcg_at_k(tensor, torch.tensor(target), k).item(), float(value)
        greater, equal = sum(s > scores[target] for s in scores), sum(s == scores[target] for s in scores)
        problem = f"{what}: scores {scores}, target {target}, k {k}: expected {expected:.4f}, got {given:.4f}"
        if not near(given, expected):
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


@report
def check_product(answer: tuple[tuple[int, ...], float, str]) -> None:
    """Right: every advantage meets every trajectory, and together they are nothing.

    Args:
        answer: the product's shape, the gradient on one token, and the letter of the reason.
    """
    assert len(answer) == 3, f"three things, a shape, a number and a letter, not {len(answer)}"
    shape, gradient, letter = answer
    given = tuple(int(size) for size in shape)
    assert given == (6, 6, 4), f"{given} is not the shape" + hint(
        {
            "it is what was meant, but the axes are lined up from the right": given == (6, 4),
            "(6, 4) is treated as (1, 6, 4), and the first axis of the advantages stays": given
            in ((6, 1, 4), (1, 6, 4)),
            "the last axis is that of the tokens": given == (6, 6, 1),
            "line the axes up from the right: 1 meets 4, 1 meets 6, and 6 meets nothing": len(given) == 3,
        }
    )
    assert near(float(gradient), 0.0), (
        f"the shape is right, a gradient of {gradient:g} isn't: a token meets all six advantages, and a group's sum to "
        "zero"
    )
    require_reason(
        letter,
        "a",
        {
            "b": "then each trajectory would meet its own advantage, and have a gradient",
            "c": "an axis of 1 fits any, so nothing is refused",
            "d": "a ratio that is 1 still has a gradient: d exp(x) / dx at 0 is 1",
        },
    )


@report
def check_token_weights(answer: Callable[[list[int], int, str], list[float]]) -> None:
    """Right: the normalisation decides whether a long reasoning's token counts less, and whether its text counts more.

    Args:
        answer: takes the R reasonings' lengths, the width T that they are padded to, and a normalisation; returns how
            much one token of each reasoning weighs in the loss.
    """
    generator = draws()
    cases = [([2, 4], 4), ([1, 3, 8], 10)]
    cases += [(torch.randint(1, 9, (4,), generator=generator).tolist(), 12) for _ in range(2)]
    for lengths, width in cases:
        weights = {how: _token_weights(lengths, width, how) for how in TOKEN_NORMALIZATIONS}
        for how, expected in weights.items():
            given = torch.as_tensor(answer(list(lengths), width, how), dtype=torch.float64)
            assert given.shape == expected.shape, (
                f"{len(lengths)} reasonings need {len(lengths)} weights, got shape {tuple(given.shape)}"
            )
            signs = {
                f"that is the normalisation {other!r}": torch.allclose(given, weights[other])
                for other in weights
                if not torch.allclose(weights[other], expected)
            }
            signs |= {
                "the mean over the trajectories is missing": torch.allclose(given, expected * len(lengths)),
                "that is the weight of a whole reasoning, not of one of its tokens": torch.allclose(
                    given, expected * torch.tensor(lengths)
                ),
            }
            assert torch.allclose(given, expected), (
                f"lengths {lengths}, padded to {width}, {how!r}: expected {_list(expected)}, got {_list(given)}"
                + hint(signs)
            )


def _token_weights(lengths: list[int], width: int, how: str) -> torch.Tensor:
    """Minus the gradient on each reasoning's first token, where all advantages are 1."""
    logprobs = torch.zeros(len(lengths), width, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    loss, _ = token_loss(logprobs, None, mask, torch.ones(len(lengths), dtype=torch.float64), normalization=how)
    return -torch.autograd.grad(loss, logprobs)[0][:, 0]


@report
def check_safe_beta(answer: Callable[[int, float], float]) -> None:
    """Right: ranks decide as long as β's share of the spread stays below the rest's share of the step.

    Args:
        answer: takes a place (1 is the first) and the largest difference of two R_c; returns the largest β at which
            that place still earns at least as much as the next one.
    """
    generator = draws()
    drawn = torch.randint(1, 40, (4,), generator=generator).tolist()
    for place, spread in [(1, 0.5), (3, 1.0), (4, 1.0), (10, 0.05), *((r, 1 / (r + 1)) for r in drawn)]:
        value = float(answer(place, spread))
        step = 1 / math.log2(1 + place) - 1 / math.log2(2 + place)
        shifted = 1 / math.log2(2 + place) - 1 / math.log2(3 + place)
        natural = 1 / math.log(1 + place) - 1 / math.log(2 + place)
        expected = step / (step + spread)
        assert abs(value - expected) < 1e-6, (
            f"place {place}, R_c apart by at most {spread:.3f}: expected {expected:.4f}, got {value:.4f}"
            + hint(
                {
                    "the ranks' share of the reward is 1 − β, not 1": near(value, step / spread),
                    "that is 1 − β": near(value, 1 - expected),
                    "that is the step of R_d alone": near(value, step),
                    "that is one place too deep: rank 1 earns 1 / log2(2)": near(value, shifted / (shifted + spread)),
                    "the discount's logarithm has base 2": near(value, natural / (natural + spread)),
                }
            )
        )


@report
def check_item_logprobs(
    answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor],
) -> None:
    """Right: cosine over τ, less how often a film is drawn, and a film is no negative of itself.

    Args:
        answer: takes user states (R, d), item states (M, d), each trajectory's row among them (R,), the films' ids
            (M,), log Q (M,) and τ; returns log-probabilities (R,).
    """
    generator = draws()
    ids = torch.tensor([7, 3, 9, 3])
    for tau in (1.0, 0.1):
        users, items = (torch.randn(size, 3, generator=generator, dtype=torch.float64) for size in (5, 4))
        log_q = torch.randn(4, generator=generator, dtype=torch.float64)
        for rows in (torch.tensor([0, 2, 0, 2, 2]), torch.tensor([0, 1, 2, 3, 1])):  # at first no target has a twin
            value = torch.as_tensor(answer(users.clone(), items.clone(), rows.clone(), ids.clone(), log_q.clone(), tau))
            expected = item_logprobs(users, items, rows, ids, tau, log_q)
            assert value.shape == (5,), f"five trajectories have five log-probabilities, got {tuple(value.shape)}"
            given = value.double()
            probability = torch.allclose(given, expected.exp(), atol=1e-6)
            assert torch.isfinite(given).all(), (
                "a target must not be masked by its own id: some of yours are −inf or NaN"
            )
            signs = {
                "that is a probability; take its logarithm": probability,
                "the film that stands in two rows is its own negative there": torch.allclose(
                    given, item_logprobs(users, items, rows, None, tau, log_q), atol=1e-6
                ),
                "log Q is subtracted, not added": torch.allclose(
                    given, item_logprobs(users, items, rows, ids, tau, -log_q), atol=1e-6
                ),
                "log Q is not in it": torch.allclose(given, item_logprobs(users, items, rows, ids, tau), atol=1e-6),
                "log Q is subtracted behind the division by τ": torch.allclose(
                    given, item_logprobs(users, items, rows, ids, tau, log_q / tau), atol=1e-6
                ),
                "those are the logits: a softmax is missing": torch.allclose(
                    given, (score_items(users, items, tau) - log_q)[torch.arange(5), rows], atol=1e-6
                ),
            }
            assert torch.allclose(given, expected, atol=1e-6), (
                f"τ = {tau}, targets in rows {rows.tolist()}, films {ids.tolist()}: expected {_list(expected)}, got "
                f"{_list(given)}" + hint(signs)
            )
