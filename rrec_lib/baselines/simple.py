"""Recommenders that count: chance, popularity, what followed what."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rrec_lib.baselines.registry import BASELINES, Baseline
from rrec_lib.baselines.user_logs import known_before, recent
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.evaluate import training_counts


class Chance:
    """All items score the same, so that tie-aware metrics are those of a random order, exactly."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) zeros."""
        return torch.zeros(len(examples), self.n_items)


class Popularity:
    """Score an item by how often it was a target: in training, or up to each example's own moment."""

    def __init__(
        self,
        train: Sequence[Example],
        n_items: int,
        days: float | None = None,
        later: Sequence[Example] | None = None,
    ) -> None:
        """Args:
        train: training examples.
        n_items: N.
        days: count the last days alone, before the end of training, or before the example with ``later``.
        later: valid and test examples; with them an item's count is what was known just before each example's time.
        """
        events = sorted((e["target_timestamp"], e["target"]) for e in [*train, *(later or [])])
        self.times = np.array([time for time, _ in events], dtype=np.int64)
        self.items = np.array([item for _, item in events], dtype=np.int64)
        self.n_items, self.time_aware = n_items, later is not None
        self.seconds = None if days is None else int(days * 86400)
        first = 0 if self.seconds is None else int(known_before(self.times, self.times[-1:] - self.seconds)[0])
        self.counts = torch.bincount(torch.from_numpy(self.items[first:]), minlength=n_items).float()

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N); the same row for everybody unless the counts follow time."""
        if not self.time_aware:
            return self.counts.expand(len(examples), -1)
        moments = np.array([example["target_timestamp"] for example in examples])
        ends = known_before(self.times, moments)
        begins = np.zeros_like(ends) if self.seconds is None else known_before(self.times, moments - self.seconds)
        spans = zip(begins, ends, strict=True)
        rows = [np.bincount(self.items[begin:end], minlength=self.n_items) for begin, end in spans]
        return torch.from_numpy(np.stack(rows)).float()


class WindowCooccurrence:
    """Score an item by how often it followed items of the history in training, nearer ones counting more.

    ``length`` 1 is the last item alone. Popularity breaks ties.
    """

    def __init__(
        self,
        train: Sequence[Example],
        n_items: int,
        length: int = 1,
        decay: float = 0.5,
        later: Sequence[Example] | None = None,
    ) -> None:
        """Args:
        train: training examples.
        n_items: N.
        length: how many of the last items are looked at.
        decay: weight of an item over that of the one after it, 0 to 1.
        later: valid and test examples; with them only what was known just before each example's time counts.
        """
        self.n_items, self.length, self.decay, self.time_aware = n_items, length, decay, later is not None
        self.events = sorted([*train, *(later or [])], key=lambda example: example["target_timestamp"])
        self.times = np.array([example["target_timestamp"] for example in self.events])
        popularity = training_counts(train, n_items).float()
        # Far below a co-occurrence, unless that has decayed a lot.
        self.tiebreak = 1e-3 * popularity / (popularity.max() + 1)
        self.follows = torch.zeros(n_items, n_items)
        if not self.time_aware:
            self._add(self.events)

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) decayed counts of transitions from the last items of each history."""
        if not self.time_aware:
            return torch.stack([self._score(example) for example in examples])
        known, rows = 0, torch.empty(len(examples), self.n_items)
        self.follows.zero_()
        for place in sorted(range(len(examples)), key=lambda i: examples[i]["target_timestamp"]):
            end = int(known_before(self.times, np.array([examples[place]["target_timestamp"]]))[0])
            self._add(self.events[known:end])
            known = max(known, end)
            rows[place] = self._score(examples[place])
        return rows

    def _weights(self, example: Example) -> list[tuple[int, float]]:
        items = recent(example, self.length)
        return [(item, self.decay**back) for back, item in enumerate(reversed(items))]

    def _add(self, events: Sequence[Example]) -> None:
        pairs = [(item, event["target"], weight) for event in events for item, weight in self._weights(event)]
        if pairs:
            items, targets, weights = zip(*pairs, strict=True)
            index = (torch.tensor(items), torch.tensor(targets))
            self.follows.index_put_(index, torch.tensor(weights, dtype=torch.float32), accumulate=True)

    def _score(self, example: Example) -> Tensor:
        items, weights = zip(*self._weights(example), strict=True)
        return torch.tensor(weights, dtype=torch.float32) @ self.follows[list(items)] + self.tiebreak


BASELINES |= {
    "chance": Baseline(lambda splits, seed: Chance(splits.n_items)),
    "popularity": Baseline(lambda splits, seed: Popularity(splits.train, splits.n_items)),
    "recent popularity": Baseline(
        lambda splits, seed, days: Popularity(splits.train, splits.n_items, days),
        {"days": (7, 30, 90, 180, 365, 730, 1460, 2920)},
    ),
    "co-occurrence": Baseline(lambda splits, seed: WindowCooccurrence(splits.train, splits.n_items)),
    "window co-occurrence": Baseline(
        lambda splits, seed, length, decay: WindowCooccurrence(splits.train, splits.n_items, length, decay),
        {"length": (2, 3, 5, 10, 20, 50), "decay": (0.3, 0.5, 0.7, 0.9, 1.0)},
    ),
}
