"""One pass over Amazon's item file, for either recipe: which records are usable, and their rows on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rrec_lib.data.amazon.raw import Reviews, read_items
from rrec_lib.data.arrow import Stream, record_batch, write_stream
from rrec_lib.data.events import copies
from rrec_lib.data.faults import MAX_SHOWN, Faults
from rrec_lib.data.records import valid_id

BATCH = 1024  # items held as Python objects at a time; with more, the garbage collector takes its share


def known_items(
    meta: Path, reviews: Reviews, described: np.ndarray, faults: Faults
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The item file's records with a usable id.

    Args:
        meta: ``meta_{category}.jsonl.gz``.
        reviews: the log.
        described: (I,) all false; each reviewed item that was met is marked after its record was handled.
        faults: where malformed records are counted.

    Yields:
        A record's line, its number in :attr:`Reviews.item_asins` (-1 if nobody reviewed it), and the record.
    """
    numbers = {asin: number for number, asin in enumerate(reviews.item_asins.to_pylist())}
    for line, record in read_items(meta, faults):
        asin = record.get("parent_asin")
        number = numbers.get(asin, -1) if isinstance(asin, str) else -1
        if number < 0 and not valid_id(asin):
            faults.add("bad_id", meta, line, asin)
            continue
        if number < 0:
            faults.add("item_without_review", meta, None)
        elif described[number]:
            faults.add("item_twice", meta, line, asin)
        yield line, number, record
        if number >= 0:
            described[number] = True


def log_faults(reviews: Reviews, described: np.ndarray, path: Path, faults: Faults) -> np.ndarray:
    """Count the reviews that stand in the log before, and those of an item without a description.

    Args:
        reviews: the log.
        described: (I,) which items the item file has.
        path: the review file.
        faults: where they are counted.

    Returns:
        Places of the repeated reviews, ascending.
    """
    again = copies(reviews.user, reviews.item, reviews.timestamp)
    for kind, places in (
        ("duplicate_event", again),
        ("review_without_item", np.flatnonzero(~described[reviews.item])),
    ):
        for place in places[:MAX_SHOWN].tolist():
            found = f"{reviews.user_ids[reviews.user[place]]}, {reviews.item_asins[reviews.item[place]]}"
            faults.add(kind, path, reviews.line(place), found)
        faults.add(kind, path, None, count=max(0, len(places) - MAX_SHOWN))
    return again


def write_items(rows: Iterator[tuple[int, dict[str, Any]]], schema: pa.Schema, path: Path) -> np.ndarray:
    """Write item rows to an Arrow stream as they come, ``BATCH`` held at a time.

    Args:
        rows: each with its number in :attr:`Reviews.item_asins`.
        schema: their columns.
        path: the file.

    Returns:
        (R,) int32, the rows' numbers.
    """
    numbers: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        held: list[dict[str, Any]] = []
        for number, row in rows:
            numbers.append(number)
            held.append(row)
            if len(held) == BATCH:
                yield record_batch(held, schema)
                held = []
        yield record_batch(held, schema)

    write_stream(Stream(schema, batches()), path)
    return np.array(numbers, dtype=np.int32)
