"""Evaluation: any recommender on next-item examples; whole catalogue, history masked, ties in expectation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rrec_lib.metrics import hit_rate_at_k, ndcg_at_k
from rrec_lib.ranking import Interval, bootstrap_mean_interval, mask_items, paired_bootstrap, repeated_targets

CUTOFFS = (5, 10, 20)
Example = Mapping[str, Any]


class Recommender(Protocol):
    """Anything that scores the whole catalogue for each example, without looking at its target."""

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) scores, higher is better."""
        ...


@dataclass(frozen=True)
class Report:
    """What one recommender reached on one set of examples.

    Attributes:
        name: of the recommender.
        values: per metric, such as ``"ndcg@20"``, (E,) values, one per example.
        users: (E,) user of each example; intervals resample users, not rows.
        repeats: how many targets their user had already seen.
        samples: bootstrap resamples of each interval.
        seed: of the bootstrap.
    """

    name: str
    values: dict[str, np.ndarray]
    users: np.ndarray
    repeats: int
    samples: int
    seed: int

    def interval(self, metric: str) -> Interval:
        """Mean of a metric with its 95 % interval over users."""
        return bootstrap_mean_interval(self.values[metric], self.users, self.samples, self.seed)

    def difference(self, other: "Report", metric: str) -> Interval:
        """Mean of self − other on the same examples, with its 95 % interval (paired bootstrap over users)."""
        if not np.array_equal(self.users, other.users):
            raise ValueError(f"{self.name} and {other.name} were evaluated on different examples")
        return paired_bootstrap(self.values[metric], other.values[metric], self.users, self.samples, self.seed)

    def figures(self) -> dict[str, Any]:
        """Means and intervals as plain numbers, for :func:`rrec_lib.results.record`."""
        metrics = {}
        for metric in self.values:
            interval = self.interval(metric)
            metrics[metric] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        users = len(np.unique(self.users))
        return {"rows": len(self.users), "users": users, "repeats": self.repeats, "metrics": metrics}


def evaluate(
    recommender: Recommender, examples: Sequence[Example], name: str, samples: int = 2000, seed: int = 0
) -> Report:
    """Rank the whole catalogue for each example and report Hit@k and NDCG@k for k in :data:`CUTOFFS`.

    Args:
        recommender: gives (E, N) scores.
        examples: E rows with ``user_id``, ``seen`` and ``target``.
        name: for tables.
        samples: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: if scores have the wrong shape or are not numbers.
    """
    scores = recommender.scores(examples).float().cpu()
    if scores.dim() != 2 or len(scores) != len(examples) or scores.isnan().any():
        raise ValueError(f"{name}: expected ({len(examples)}, N) scores without NaN, got {tuple(scores.shape)}")
    return evaluate_scores(scores, examples, name, samples, seed)


def evaluate_scores(
    scores: Tensor, examples: Sequence[Example], name: str, samples: int = 2000, seed: int = 0
) -> Report:
    """As :func:`evaluate`, from (E, N) scores."""
    targets = torch.tensor([example["target"] for example in examples])
    seen = [example["seen"] for example in examples]
    masked = mask_items(scores, seen, targets)
    values = {}
    for k in CUTOFFS:
        values[f"hit@{k}"] = hit_rate_at_k(masked, targets, k).numpy()
        values[f"ndcg@{k}"] = ndcg_at_k(masked, targets, k).numpy()
        # One target per example: a discounted gain above the hit rate means the metric code is broken.
        assert (values[f"ndcg@{k}"] <= values[f"hit@{k}"] + 1e-9).all()
    users = np.array([example["user_id"] for example in examples])
    return Report(name, values, users, int(repeated_targets(seen, targets).sum()), samples, seed)


def sample_examples(examples: Sequence[Example], size: int, max_rows_per_user: int, seed: int) -> list[Example]:
    """A fixed sample: shuffle by seed, cap the rows of each user, keep the first ``size``.

    Without the cap a handful of users would own most of it.
    """
    if size < 1 or max_rows_per_user < 1:
        raise ValueError(f"size and max_rows_per_user must be at least 1, got {size} and {max_rows_per_user}")
    taken: Counter[int] = Counter()
    sample: list[Example] = []
    for index in np.random.default_rng(seed).permutation(len(examples)).tolist():
        example = examples[index]
        if taken[example["user_id"]] < max_rows_per_user and len(sample) < size:
            taken[example["user_id"]] += 1
            sample.append(example)
    return sample
