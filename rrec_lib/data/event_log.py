"""Numbered logs: in, an event log of any source as arrays; out, a prepared folder, by the same steps as MovieLens."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rrec_lib.data.arrow import Stream
from rrec_lib.data.events import k_core_places
from rrec_lib.data.examples import save_examples
from rrec_lib.data.histories import plan_examples

_REMEDIES = {
    "review_without_item": "give the two files of one set",
    "outside_the_window": "choose other months with --start and --end",
    "k_core": "lower --k-core",
}


@dataclass(frozen=True)
class EventLog:
    """Events of any source: ``user``, ``item`` (E,) numbers from 0; ``rating`` (E,), out of 5; ``time`` (E,) since
    1970, UTC, of which ``per_second`` make a second; ``user_ids`` the users' names."""

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    time: np.ndarray
    per_second: int
    user_ids: pa.Array


@dataclass(frozen=True)
class Filters:
    """Fewest events of a user and an item, events in a history, and the lowest rating of a target.

    Raises:
        ValueError: for fewer than 0 and 1 events.
    """

    k_core: int = 0
    window: int = 20
    min_target_rating: float = 0.0

    def __post_init__(self) -> None:
        if self.k_core < 0 or self.window < 1:
            raise ValueError(f"k_core is {self.k_core} and window {self.window}, expected 0 or more and 1 or more")


def save_log(
    log: EventLog,
    kept: np.ndarray,
    item_row: np.ndarray,
    items: Callable[[np.ndarray], Stream],
    filters: Filters,
    out: Path | str,
    arguments: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Filter a log, number its items in the order of their table, and write examples and items.

    Args:
        log: all events.
        kept: (K,) places of those to be used, ascending.
        item_row: (I,) row of each item number in the item table; -1 for one that is not in it, which no kept event has.
        items: from the catalogue's (N,) table rows, ascending, to the ``items`` split.
        filters: see :class:`Filters`.
        out: where to; an older prepared dataset there is replaced.
        arguments: for the manifest: what it was prepared with.
        facts: for the manifest: what was counted; ``dropped`` gains what the k-core takes.

    Returns:
        The manifest.

    Raises:
        FileExistsError: if the folder holds something that is not a prepared dataset.
        ValueError: if a filter leaves nothing.
    """
    core = k_core_places(log.user, log.item, kept, filters.k_core)
    dropped = {**facts["dropped"], "k_core": len(kept) - len(core)}
    if not len(core):
        counted = ", ".join(f"{n:,} {why}" for why, n in dropped.items() if n)
        remedies = " or ".join(text for why, text in _REMEDIES.items() if dropped.get(why))
        raise ValueError(f"no event is left (dropped: {counted}); {remedies or 'give a longer log'}")
    rows = np.unique(item_row[log.item[core]])
    numbers = np.zeros(len(item_row), dtype=np.int32)
    numbers[item_row >= 0] = np.searchsorted(rows, item_row[item_row >= 0])
    users, user = np.unique(log.user[core], return_inverse=True)
    names = log.user_ids.take(pa.array(users))
    order = pc.sort_indices(names).to_numpy()
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    plan = plan_examples(
        place[user],
        numbers[log.item[core]],
        log.rating[core],
        log.time[core],
        names.take(pa.array(order)),
        filters.window,
        filters.min_target_rating,
        log.per_second,
    )
    counts = {"events": len(core), "users": len(users), "items": len(rows), "events_that_are_no_target":
              len(core) - len(plan.rows)}  # fmt: skip
    found = {**facts, "dropped": {why: n for why, n in dropped.items() if n}, "counts": counts}
    return save_examples(plan, items(rows), out, {**arguments, **asdict(filters)}, found)


def numbered(batches: Iterator[pa.RecordBatch], rows: np.ndarray, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The wanted rows of an item table with their number in front.

    Args:
        batches: of the table, without ``item_id``.
        rows: (N,) wanted rows, ascending.
        schema: the result's, ``item_id`` first.
    """
    done = 0
    for batch in batches:
        first, last = np.searchsorted(rows, [done, done + batch.num_rows])
        here = batch.take(pa.array(rows[first:last] - done))
        done += batch.num_rows
        yield pa.RecordBatch.from_arrays([pa.array(np.arange(first, last)), *here.columns], schema=schema)
