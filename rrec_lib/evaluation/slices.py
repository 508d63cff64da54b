"""Parts of a test set: by length of the history, popularity of the target, cold items, and time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from rrec_lib.data.examples import Example

LENGTH_BANDS = (1, 6, 11, 21, 51)  # where the bands of the history's length begin


def example_slices(
    examples: Sequence[Example], train_counts: np.ndarray | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Split examples in several ways.

    - ``history length``: how many events of the user came before.
    - ``target popularity``, if training counts are given: items that were never a training target; and of the others
      the head, the most popular items that took a third of the training targets, the middle third, and the tail.
    - ``cold items``, if training counts are given: target never in training, or in training.
    - ``time``, if the examples carry it: four quarters of equally many rows, by the target's time.

    Args:
        examples: E rows with ``seen`` and ``target``, and ``target_timestamp`` in seconds where known.
        train_counts: (N,) how often each item was a training target.

    Returns:
        Per way of splitting and band, (E,) booleans; bands without rows are left out.
    """
    lengths = np.array([len(example["seen"]) for example in examples])
    ways = {"history length": _bands(np.searchsorted(LENGTH_BANDS, lengths, side="right"), _length_labels())}
    if train_counts is not None:
        targets = np.array([example["target"] for example in examples])
        thirds = popularity_thirds(np.asarray(train_counts))[targets]
        ways["target popularity"] = _bands(thirds, ["never in training", "tail", "middle", "head"])
        ways["cold items"] = _bands((thirds > 0).astype(int), ["never in training", "in training"])
    if all("target_timestamp" in example for example in examples):
        times = np.array([example["target_timestamp"] for example in examples])
        starts = np.quantile(times, [0, 0.25, 0.5, 0.75], method="higher")
        labels = [
            f"quarter {number}, from {datetime.fromtimestamp(int(start), UTC):%Y-%m-%d %H:%M}"
            for number, start in enumerate(starts, 1)
        ]
        ways["time"] = _bands(np.searchsorted(starts, times, side="right") - 1, labels)
    return ways


def popularity_thirds(train_counts: np.ndarray) -> np.ndarray:
    """Sort items by popularity into parts that took about a third of the training targets each.

    Args:
        train_counts: (N,) how often each item was a training target.

    Returns:
        (N,) 0 for an item that was never one, 1 for the tail, 2 for the middle, 3 for the head. Items of the same
        count stay together.
    """
    counts, inverse = np.unique(train_counts, return_inverse=True)
    mass = counts * np.bincount(inverse)
    before = (np.cumsum(mass) - mass / 2) / max(mass.sum(), 1)  # the middle of each count's share, from the tail
    part = 1 + np.minimum((before * 3).astype(int), 2)
    return np.where(counts > 0, part, 0)[inverse]


def _bands(numbers: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    return {label: numbers == i for i, label in enumerate(labels) if (numbers == i).any()}


def _length_labels() -> list[str]:
    closed = [f"{start} to {end - 1}" for start, end in pairwise(LENGTH_BANDS)]
    return ["0", *closed, f"{LENGTH_BANDS[-1]} or more"]
