"""Means with bootstrap intervals over users."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval, and how much data stood behind it."""

    mean: float
    low: float
    high: float
    level: float
    users: int
    rows: int

    def __format__(self, spec: str) -> str:
        """``f"{i:.3f}"`` gives ``"0.012 [0.004, 0.020]"``, ``f"{i:.3f to}"`` the bounds alone, ``"0.004 to 0.020"``."""
        number = spec.removesuffix(" to")
        mean, low, high = (with_minus(value, number) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if number == spec else f"{low} to {high}"


def with_minus(value: float, spec: str) -> str:
    """A number in print, with a true minus, and none before a zero."""
    text = format(value, spec)
    return (text if text.strip("-0.%") else text.removeprefix("-")).replace("-", "−")


def bootstrap_mean_interval(
    values: ArrayLike, users: ArrayLike, samples: int, seed: int, level: float = 0.95
) -> Interval:
    """Percentile interval for a mean over examples when a user's examples hang together.

    Users are drawn with replacement and bring all their rows, because the rows of one user are not independent.

    Args:
        values: (E,) a metric per example.
        users: (E,) whose example it is; any labels.
        samples: number of resamples.
        seed: of the resampling.
        level: coverage, 0.95 by default.

    Returns:
        The mean over the E examples and the interval of that mean.

    Raises:
        ValueError: if the inputs do not fit each other, hold NaN, or come from fewer than two users.
    """
    values, users = np.asarray(values), np.asarray(users)
    if values.shape != users.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape} and users {users.shape} must be two lists of the same length")
    return bootstrap_mean_intervals(values[:, None], users, samples, seed, level)[0]


def bootstrap_mean_intervals(
    values: ArrayLike, users: ArrayLike, samples: int, seed: int, level: float = 0.95
) -> list[Interval]:
    """As :func:`bootstrap_mean_interval`, for (E, M) values: one interval for each metric, all from the same draws."""
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"need samples >= 1 and 0 < level < 1, got {samples} and {level}")
    sums, counts = user_totals(values, users)
    drawn = resampled_totals(np.column_stack([sums, counts]), samples, np.random.default_rng(seed))
    means, rows = sums.sum(0) / counts.sum(), int(counts.sum())
    bounds = np.quantile(drawn[:, :-1] / drawn[:, -1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Interval(float(mean), float(low), float(high), level, len(counts), rows)
        for mean, low, high in zip(means, *bounds, strict=True)
    ]


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, users: ArrayLike, samples: int, seed: int, level: float = 0.95
) -> Interval:
    """Interval of mean(a − b) for two systems measured on the same examples; arguments as in the single case."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same examples, got {a.shape} and {b.shape}")
    return bootstrap_mean_interval(a - b, users, samples, seed, level)


def user_totals(values: ArrayLike, users: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Sum metrics over the rows of each user, and count the rows.

    Args:
        values: (E, M) metrics of each example.
        users: (E,) whose example it is; any labels.

    Returns:
        (U, M) sums and (U,) counts, both float64, users in the order of their labels.

    Raises:
        ValueError: as :func:`bootstrap_mean_interval`.
    """
    values, users = np.asarray(values), np.asarray(users)
    if values.ndim != 2 or values.shape[:1] != users.shape:
        raise ValueError(f"values {values.shape} need one row for each of the users {users.shape}")
    if np.isnan(values).any():
        raise ValueError("values hold NaN; leave those rows out, and say how many, before taking an interval")
    names, owner = np.unique(users, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"an interval over users needs at least two of them, got {len(names)}")
    sums = np.stack([np.bincount(owner, weights=column) for column in values.T], 1)
    return sums, np.bincount(owner).astype(np.float64)


def resampled_totals(columns: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Totals over users drawn with replacement; all columns share the draws.

    A draw of U users is kept as how often each of them came, so that one product gives the totals of every column.

    Args:
        columns: (U, M) totals of each user, such as sums of a metric and numbers of rows.
        samples: number of resamples.
        rng: of the draws; where they take several chunks each has a child of its own, so that the result doesn't
            depend on threads.

    Returns:
        (samples, M) totals.
    """
    size = len(columns)
    chunk = max(1, 1_000_000 // size)  # users drawn at a time, so that memory stays at a few megabytes
    counts = [min(chunk, samples - start) for start in range(0, samples, chunk)]

    def draw(child: np.random.Generator, count: int) -> list[np.ndarray]:
        drawn = child.integers(0, size, (count, size), dtype=np.int32)
        return [np.bincount(users, minlength=size) @ columns for users in drawn]

    if len(counts) == 1:
        return np.array(draw(rng, samples))
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # NumPy draws and counts without the lock
        return np.array(list(chain.from_iterable(threads.map(draw, rng.spawn(len(counts)), counts))))
