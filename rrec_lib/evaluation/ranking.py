"""Scores and what follows from their order: masks, tie-aware ranks, top lists, intervals over users."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike


class TopK(NamedTuple):
    """The best k items of each row, best first: ``scores (..., k)`` and catalogue rows ``items (..., k)``."""

    scores: torch.Tensor
    items: torch.Tensor


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval, and how much data stood behind it."""

    mean: float
    low: float
    high: float
    level: float
    users: int
    rows: int


def score_items(user_states: torch.Tensor, item_embeddings: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Score every item for every user state: cosine similarity over a temperature.

    Args:
        user_states: (..., d) last hidden states; any length, they are L2-normalised here.
        item_embeddings: (N, d) item rows, L2-normalised here too.
        temperature: τ > 0; cosines lie in [-1, 1], scores in [-1/τ, 1/τ].

    Returns:
        (..., N) scores, float32 or wider even inside autocast: in bfloat16 most scores would tie.

    Raises:
        ValueError: if the temperature is not positive or the widths differ.

    Source: R²ec's rec_head; the cosine form is that of the official code (the paper writes an inner product).
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if user_states.shape[-1] != item_embeddings.shape[-1]:
        raise ValueError(f"user states are {user_states.shape[-1]} wide, item rows {item_embeddings.shape[-1]}")
    with torch.autocast(user_states.device.type, enabled=False):
        users, items = unit_rows(user_states), unit_rows(item_embeddings)
        dtype = torch.promote_types(users.dtype, items.dtype)
        return users.to(dtype) @ items.to(dtype).T / temperature


def unit_rows(states: torch.Tensor) -> torch.Tensor:
    """Divide each last-dimension vector by its length, in float32 or wider; a zero vector stays zero."""
    wide = states if states.dtype == torch.float64 else states.float()
    return torch.nn.functional.normalize(wide, dim=-1, eps=1e-12)


def mask_items(
    scores: torch.Tensor, seen: Sequence[Sequence[int]], targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Take the items that a user has already seen out of the ranking.

    Args:
        scores: (B, N) or (B, G, N).
        seen: for each of the B users, catalogue rows to remove; repeats are harmless.
        targets: (B,) rows that stay rankable even where ``seen`` names them, since people do return to a film;
            :func:`repeated_targets` counts those. None when recommending to somebody whose next item is unknown.

    Returns:
        A new tensor of the shape of ``scores``, −inf at the removed items.

    Raises:
        ValueError: if ``seen`` has not one entry per user, or names an item outside the catalogue.
    """
    if len(seen) != scores.shape[0]:
        raise ValueError(f"seen has {len(seen)} entries for {scores.shape[0]} rows of scores")
    rows, columns = _seen_pairs(seen, targets, scores.shape[-1])
    masked = scores.clone()
    masked.movedim(-1, 1)[rows.to(scores.device), columns.to(scores.device)] = float("-inf")
    return masked


def seen_items(seen: Sequence[Sequence[int]], targets: torch.Tensor, catalogue: int) -> torch.Tensor:
    """(B, N) what :func:`mask_items` takes out of the ranking, as booleans on the device of the targets.

    Args:
        seen, targets: as there.
        catalogue: N.
    """
    rows, columns = _seen_pairs(seen, targets, catalogue)
    mask = torch.zeros(len(seen), catalogue, dtype=torch.bool, device=targets.device)
    mask[rows.to(mask.device), columns.to(mask.device)] = True
    return mask


def _seen_pairs(
    seen: Sequence[Sequence[int]], targets: torch.Tensor | None, catalogue: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of what was seen, without the targets."""
    rows, columns = _pairs(seen)
    check_items(columns, catalogue, "seen")
    if targets is None:
        return rows, columns
    kept = columns != targets.cpu()[rows]
    return rows[kept], columns[kept]


def repeated_targets(seen: Sequence[Sequence[int]], targets: torch.Tensor) -> torch.Tensor:
    """Say which targets their own user had already seen.

    Args:
        seen: for each of the B users, the catalogue rows seen before the target.
        targets: (B,) catalogue rows.

    Returns:
        (B,) booleans; their sum is the number of repeats to report beside a metric.
    """
    rows, columns = _pairs(seen)
    repeated = torch.zeros(len(seen), dtype=torch.bool)
    repeated[rows[columns == targets.cpu()[rows]]] = True
    return repeated


def _pairs(seen: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of every item that a list names."""
    rows = torch.repeat_interleave(torch.tensor([len(items) for items in seen], dtype=torch.long))
    return rows, torch.tensor(list(chain.from_iterable(seen)), dtype=torch.long)


def target_rank(scores: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Place the target among the items, ties kept apart from order.

    Args:
        scores: (..., N); −inf marks an item that cannot be recommended.
        targets: (...) catalogue rows.

    Returns:
        ``(n_greater, n_equal)``, both (...): items scored above the target, and items scored the same, the target
        included. Its rank lies in n_greater+1 .. n_greater+n_equal. A masked target has (N, 0): it holds no place.

    Raises:
        ValueError: for NaN scores, shapes that do not fit, or a target outside the catalogue.
    """
    size = scores.shape[-1]
    if scores.shape[:-1] != targets.shape:
        raise ValueError(f"scores {tuple(scores.shape)} need targets {tuple(scores.shape[:-1])}, got {targets.shape}")
    _refuse_nan(scores)
    check_items(targets, size, "targets")
    own = scores.gather(-1, targets.to(scores.device).unsqueeze(-1))
    greater, equal = count_true(scores > own), count_true(scores == own)
    masked = torch.isneginf(own.squeeze(-1))
    return greater.masked_fill(masked, size), equal.masked_fill(masked, 0)


def count_true(flags: torch.Tensor) -> torch.Tensor:
    """How many are true along the last axis; on a processor NumPy counts booleans about ten times as fast."""
    return torch.as_tensor(np.count_nonzero(flags, axis=-1)) if flags.device.type == "cpu" else flags.sum(-1)


def check_items(items: torch.Tensor, size: int, name: str) -> None:
    """Raise ``ValueError`` naming the range of ``items`` if one is not a row of a catalogue of ``size``."""
    if items.numel() and (int(items.min()) < 0 or int(items.max()) >= size):
        raise ValueError(f"{name} lie in {int(items.min())}..{int(items.max())}, the catalogue has 0..{size - 1}")


def top_k(scores: torch.Tensor, k: int) -> TopK:
    """List the k best items of each row.

    Args:
        scores: (..., N); −inf marks an item that cannot be recommended.
        k: length of the list; cut to N. Places for which no candidate is left carry the score −inf.

    Returns:
        Scores and items, (..., min(k, N)); equal scores keep the catalogue's order, so that a run can be repeated.

    Raises:
        ValueError: for k below 1, or NaN scores, which would come out in the catalogue's order.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    _refuse_nan(scores)
    values, order = torch.sort(scores, dim=-1, descending=True, stable=True)
    return TopK(values[..., :k], order[..., :k])


def _refuse_nan(scores: torch.Tensor) -> None:
    if scores.amax(-1).isnan().any():  # a maximum hands NaN on, and needs no second copy of the scores
        raise ValueError("scores hold NaN; a ranking of them would mean nothing")


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


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, users: ArrayLike, samples: int, seed: int, level: float = 0.95
) -> Interval:
    """Interval of mean(a − b) for two systems measured on the same examples; arguments as in the single case."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same examples, got {a.shape} and {b.shape}")
    return bootstrap_mean_interval(a - b, users, samples, seed, level)


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
