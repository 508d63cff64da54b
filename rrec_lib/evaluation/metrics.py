"""Hit@k, NDCG@k and MRR with one relevant item per example, in expectation over ties."""

import torch

from rrec_lib.evaluation.ranks import target_rank


def hit_rate_at_k(scores: torch.Tensor, targets: torch.Tensor, k: int) -> torch.Tensor:
    """Probability that the target is among the first k, ties broken at random.

    Args:
        scores: (..., N); −inf marks an item that cannot be recommended.
        targets: (...) catalogue rows.
        k: cutoff; above N it is N.

    Returns:
        (...) values in [0, 1], float32 or wider. A masked target counts as a miss.

    Raises:
        ValueError: for k below 1, NaN scores, or shapes and targets that do not fit.
    """
    return expected_hit(*target_rank(scores, targets), k).to(_result_dtype(scores))


def ndcg_at_k(scores: torch.Tensor, targets: torch.Tensor, k: int) -> torch.Tensor:
    """Expected 1 / log2(1 + rank) of the target, 0 beyond k, ties broken at random.

    Args:
        scores: (..., N); −inf marks an item that cannot be recommended.
        targets: (...) catalogue rows.
        k: cutoff; above N it is N.

    Returns:
        (...) values in [0, 1], float32 or wider; one relevant item, so the ideal DCG is 1.

    Raises:
        ValueError: for k below 1, NaN scores, or shapes and targets that do not fit.
    """
    return expected_ndcg(*target_rank(scores, targets), k).to(_result_dtype(scores))


def expected_hit(n_greater: torch.Tensor, n_equal: torch.Tensor, k: int) -> torch.Tensor:
    """Hit@k from a tie-aware rank: the share of its places n_greater+1 .. n_greater+n_equal within k, in float64."""
    _check_cutoff(k)
    inside = (n_greater + n_equal).clamp(max=k) - n_greater.clamp(max=k)
    return inside.double() / n_equal.clamp(min=1)


def expected_ndcg(n_greater: torch.Tensor, n_equal: torch.Tensor, k: int) -> torch.Tensor:
    """NDCG@k from a tie-aware rank: the mean discount over those places, 0 beyond k, in float64."""
    _check_cutoff(k)
    first, last = n_greater.clamp(max=k), (n_greater + n_equal).clamp(max=k)
    discounts = 1 / torch.log2(_ranks(last) + 1)
    return _sum_over_places(discounts, first, last) / n_equal.clamp(min=1)


def expected_reciprocal_rank(n_greater: torch.Tensor, n_equal: torch.Tensor) -> torch.Tensor:
    """1 / rank from a tie-aware rank, averaged over those places, in float64; its mean over examples is MRR.

    A masked target, (N, 0), counts 0.
    """
    last = n_greater + n_equal
    return _sum_over_places(1 / _ranks(last), n_greater, last) / n_equal.clamp(min=1)


def _ranks(last: torch.Tensor) -> torch.Tensor:
    """1, 2, … up to the largest of ``last``."""
    longest = int(last.max()) if last.numel() else 0
    return torch.arange(1, longest + 1, dtype=torch.float64, device=last.device)


def _sum_over_places(weights: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Weights of the places first+1 .. last, added up; cumulative sums make any run of places one subtraction."""
    cumulative = torch.cat([weights.new_zeros(1), torch.cumsum(weights, 0)])
    return cumulative[last] - cumulative[first]


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _result_dtype(scores: torch.Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32
