"""Hit@k and NDCG@k with one relevant item per example, in expectation over ties."""

import torch

from rrec_lib.ranking import target_rank


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
    longest = int(last.max()) if last.numel() else 0
    ranks = torch.arange(1, longest + 1, dtype=torch.float64, device=n_greater.device)
    # cumulative[r] is the discount summed over ranks 1..r, so any run of places is one subtraction
    cumulative = torch.cat([ranks.new_zeros(1), torch.cumsum(1 / torch.log2(ranks + 1), 0)])
    return (cumulative[last] - cumulative[first]) / n_equal.clamp(min=1)


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _result_dtype(scores: torch.Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32
