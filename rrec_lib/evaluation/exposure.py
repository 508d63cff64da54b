"""What the lists hold: how much of the catalogue they show, and how popular it is; ties in expectation."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Exposure:
    """Adds up, batch by batch, how often each item stands in a list of the first k.

    Items that tie for the last places share them: each stands there with the probability that a random order gives
    it. So a recommender that scores all items the same covers the catalogue as random lists would.
    """

    def __init__(self, cutoffs: Sequence[int], n_items: int) -> None:
        self.cutoffs, self.n_items = tuple(cutoffs), n_items
        self.listed = torch.zeros(len(self.cutoffs), n_items, dtype=torch.float64)  # expected number of lists
        self.log_missed = torch.zeros(len(self.cutoffs), n_items, dtype=torch.float64)  # log P(in none of them)

    def add(self, scores: Tensor) -> None:
        """Count the lists of one batch.

        Args:
            scores: (B, N); −inf marks an item that cannot be recommended.
        """
        values, items = scores.topk(min(max(self.cutoffs) + 1, self.n_items))
        for row, k in enumerate(self.cutoffs):
            if k < self.n_items:
                last = values[:, k - 1]
                shared = last == values[:, k]  # the k-th place is open between equals, or the candidates ran out
            else:
                last = torch.full_like(values[:, 0], float("-inf"))
                shared = torch.ones_like(last, dtype=torch.bool)
            sure = items[~shared, :k].flatten().cpu().bincount(minlength=self.n_items)
            self.listed[row] += sure
            self.log_missed[row, sure > 0] = float("-inf")
            if shared.any():
                chances = _chances(scores[shared], last[shared], k)
                self.listed[row] += chances.sum(0).cpu()
                self.log_missed[row] += torch.log1p(-chances).sum(0).cpu()

    def coverage(self) -> dict[str, float]:
        """``coverage@k`` for each cutoff: the expected share of the catalogue that stands in at least one list."""
        shown = 1 - self.log_missed.exp()
        return {f"coverage@{k}": float(shown[row].mean()) for row, k in enumerate(self.cutoffs)}

    def popularity(self, train_counts: Tensor, targets: Tensor) -> dict[str, dict[str, float | None]]:
        """``popularity@k`` for each cutoff: how popular in training what is listed is.

        Args:
            train_counts: (N,) how often each item was a training target.
            targets: (E,) catalogue rows of the evaluated targets.

        Returns:
            ``mean`` count of a listed item, and that over the catalogue's mean and over the targets' mean (above 1:
            more popular than they are); None where the divisor is 0.
        """
        counts = train_counts.double()
        catalogue, wanted = float(counts.mean()), float(counts[targets].mean())
        result: dict[str, dict[str, float | None]] = {}
        for row, k in enumerate(self.cutoffs):
            mean = float(self.listed[row] @ counts / self.listed[row].sum().clamp(min=1))
            result[f"popularity@{k}"] = {
                "mean": mean,
                "over_catalogue": mean / catalogue if catalogue else None,
                "over_targets": mean / wanted if wanted else None,
            }
        return result


def _chances(scores: Tensor, last: Tensor, k: int) -> Tensor:
    """(B, N) probabilities of standing among the first k: 1 above the k-th score, a share at it, 0 below."""
    above = scores > last[:, None]
    equal = (scores == last[:, None]) & ~torch.isneginf(scores)
    left = k - above.sum(1, keepdim=True)
    return above.double() + equal * (left / equal.sum(1, keepdim=True).clamp(min=1)).double()
