"""Histories: in, a log as arrays; out, which earlier events of its user each example shows, as Arrow lists.

One implementation serves MovieLens, Amazon and any CSV: events lie in order, so a history is a span of places, and
spans are gathered batch by batch into Arrow lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

BATCH_ROWS = 16_384
BATCH_EVENTS = 1 << 21  # events in the lists of a batch, so that one user's long past doesn't fill the memory


@dataclass(frozen=True)
class ExamplePlan:
    """Events by user, time and item, and which of them are targets.

    ``user`` (index into ``user_ids``), ``item``, ``rating``, ``timestamp`` (whole seconds), ``start`` (place of the
    user's first event), ``past`` (the place behind the last strictly earlier one, by the log's own clock) and
    ``repeat`` (the user had the item strictly earlier) are (E,); ``rows`` (R,) are the targets' places, by time, user
    and item.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    start: np.ndarray
    past: np.ndarray
    repeat: np.ndarray
    rows: np.ndarray
    window: int
    user_ids: pa.Array

    @property
    def schema(self) -> pa.Schema:
        """Columns of an example; ``user_id`` has the type of the source's ids."""
        return pa.schema(
            [
                ("user_id", self.user_ids.type),
                ("history", pa.list_(pa.int32())),
                ("history_ratings", pa.list_(pa.float64())),
                ("history_timestamps", pa.list_(pa.int64())),
                ("seen", pa.list_(pa.int32())),
                ("target", pa.int64()),
                ("target_rating", pa.float64()),
                ("target_timestamp", pa.int64()),
                ("repeat", pa.bool_()),
            ]
        )


def plan_examples(
    user: np.ndarray,
    item: np.ndarray,
    rating: np.ndarray,
    timestamp: np.ndarray,
    user_ids: pa.Array,
    window: int,
    min_target_rating: float,
    per_second: int = 1,
) -> ExamplePlan:
    """Sort a log and find its targets: events rated enough, with something strictly earlier.

    Args:
        user: (E,) index into ``user_ids``, which are in ascending order.
        item: (E,) numbers from 0.
        rating: (E,).
        timestamp: (E,); equal ones stand in no known order, so neither event is the other's past.
        user_ids: the users' ids.
        window: how many past events a history keeps, at least 1.
        min_target_rating: an event with a lower rating is history, never a target.
        per_second: how many units of ``timestamp`` make a second. All of them decide what is earlier; examples show
            whole seconds.

    Raises:
        ValueError: if the window is smaller than 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 or more")
    order = np.lexsort((item, timestamp, user))
    user, item, rating, timestamp = user[order], item[order], rating[order], timestamp[order]
    start = first_places(user)
    past = first_places(user, timestamp)
    rows = np.flatnonzero((rating >= min_target_rating) & (past > start))
    rows = rows[np.lexsort((item[rows], user[rows], timestamp[rows]))]
    repeat = _repeats(user, item, timestamp)
    return ExamplePlan(user, item, rating, timestamp // per_second, start, past, repeat, rows, window, user_ids)


def example_batches(plan: ExamplePlan, begin: int, end: int) -> Iterator[pa.RecordBatch]:
    """The examples ``plan.rows[begin:end]`` as Arrow, a bounded number of list entries at a time."""
    while begin < end:
        place = plan.rows[begin : min(begin + BATCH_ROWS, end)]
        entries = np.cumsum(plan.past[place] - plan.start[place])
        place = place[: max(1, int(np.searchsorted(entries, BATCH_EVENTS, side="right")))]
        begin += len(place)
        yield _batch(plan, place)


def spans(end: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gather spans of places.

    Args:
        end: (R,) the place behind each span.
        length: (R,) how many places each has.

    Returns:
        (R + 1,) int32 offsets of an Arrow list array, and the places of all spans one after the other.
    """
    offsets = np.concatenate(([0], np.cumsum(length)))
    return offsets.astype(np.int32), np.repeat(end - length - offsets[:-1], length) + np.arange(offsets[-1])


def first_places(*keys: np.ndarray) -> np.ndarray:
    """For each place of sorted columns, the first place with the same values; (E,) int64."""
    new = np.zeros(len(keys[0]), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))


def _repeats(user: np.ndarray, item: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    order = np.lexsort((item, user))  # stable, so that a user's events with an item stay in order of time
    first = first_places(user[order], item[order])
    repeat = np.empty(len(order), dtype=bool)
    repeat[order] = timestamp[order] > timestamp[order][first]
    return repeat


def _batch(plan: ExamplePlan, place: np.ndarray) -> pa.RecordBatch:
    end = plan.past[place]
    length = end - plan.start[place]
    offsets, past = spans(end, np.minimum(length, plan.window))
    seen_offsets, seen = spans(end, length)
    items = plan.item.astype(np.int32, copy=False)

    def lists(at: np.ndarray, values: np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(at), pa.array(values))

    columns = [
        plan.user_ids.take(pa.array(plan.user[place])),
        lists(offsets, items[past]),
        lists(offsets, plan.rating[past]),
        lists(offsets, plan.timestamp[past]),
        lists(seen_offsets, items[seen]),
        pa.array(plan.item[place].astype(np.int64)),
        pa.array(plan.rating[place]),
        pa.array(plan.timestamp[place]),
        pa.array(plan.repeat[place]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=plan.schema)
