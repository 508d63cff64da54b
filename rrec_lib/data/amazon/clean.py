"""The recipe ``clean`` for Amazon Reviews 2023: what the official one loses or leaks, kept or left out.

The window is the one asked for. Items keep their long titles, missing prices and letters of every alphabet; a
description keeps its order. What people thought of an item after the window (average rating, number of buyers) stays
out unless asked for. Events of the same millisecond stand in no known order, and no second lies across a split.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rrec_lib.core.paths import room_named
from rrec_lib.data.amazon.categories import item_noun
from rrec_lib.data.amazon.raw import RawFiles, Reviews, read_reviews
from rrec_lib.data.amazon.scan import known_items, log_faults, write_items
from rrec_lib.data.amazon.window import month_ms, window_months
from rrec_lib.data.arrow import Stream, stored_batches
from rrec_lib.data.event_log import EventLog, Filters, numbered, save_log
from rrec_lib.data.faults import MAX_FAULTS, Faults
from rrec_lib.data.records import json_number
from rrec_lib.data.texts import count_repairs, plain_text

_TEXT_COLUMNS = [
    ("source_id", pa.string()),
    ("kind", pa.string()),
    ("title", pa.string()),
    ("description", pa.string()),
    ("categories", pa.list_(pa.string())),
]
_CRAWL_TIME_COLUMNS = [("average_rating", pa.float64()), ("rating_number", pa.int64())]


@dataclass(frozen=True)
class CleanRecipe:
    """Months are ``"2022-10"``; the window goes from the first of ``start`` to the first of ``end``, 00:00 UTC, without
    it. The other arguments are those of :class:`rrec_lib.data.event_log.Filters`.

    ``crawl_time_popularity`` keeps each item's average rating and number of buyers as they stood when the data was
    crawled, after every test target. ``description_words`` is how many words of a description are kept, all if None:
    fewer make items cheaper to encode.
    """

    start: str = "2022-10"
    end: str = "2023-10"
    k_core: int = 0
    window: int = 20
    min_target_rating: float = 0.0
    crawl_time_popularity: bool = False
    description_words: int | None = None

    def __post_init__(self) -> None:
        window_months(self.start, self.end)
        Filters(self.k_core, self.window, self.min_target_rating)
        if self.description_words is not None and self.description_words < 0:
            raise ValueError(f"description_words must be 0 (none) or more, got {self.description_words}")


def save_clean(raw: RawFiles, recipe: CleanRecipe, out: Path | str, max_faults: float = MAX_FAULTS) -> dict[str, Any]:
    """Prepare a category in the form of :func:`rrec_lib.data.examples.prepare`.

    Args:
        raw: the two files.
        recipe: the window and the filters.
        out: where to; an older prepared dataset there is replaced.
        max_faults: share of a file's records that may be malformed.

    Returns:
        The manifest, which says what was kept, repaired and dropped, and why.

    Raises:
        FileExistsError: if ``out`` holds something that is not a prepared dataset.
        ValueError: if the recipe or a raw file is wrong, or nothing is left.
    """
    start, end = map(month_ms, window_months(recipe.start, recipe.end))
    filters = Filters(recipe.k_core, recipe.window, recipe.min_target_rating)
    faults = Faults(max_faults)
    reviews = read_reviews(raw.reviews, faults)
    columns = _TEXT_COLUMNS + (_CRAWL_TIME_COLUMNS if recipe.crawl_time_popularity else [])
    schema = pa.schema([("item_id", pa.int64()), *columns])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "items.arrow")
        described = np.zeros(len(reviews.item_asins), dtype=bool)
        rows = _item_rows(raw, reviews, described, faults, recipe.description_words)
        with room_named(path.parent):
            written = write_items(rows, pa.schema(columns), path)
        again = log_faults(reviews, described, raw.reviews, faults)
        kept, dropped = _choose(reviews, described, again, start, end)
        item_row = np.full(len(described), -1, dtype=np.int64)
        item_row[written] = np.arange(len(written))
        log = EventLog(reviews.user, reviews.item, reviews.rating, reviews.timestamp, 1000, reviews.user_ids)
        facts = {
            "recipe": "clean",
            "category": raw.category,
            **raw.checksums(),
            "reviews": len(reviews.user),
            "dropped": dropped,
            "faults": faults.as_dict(),
        }
        arguments = {**asdict(recipe), "max_faults": max_faults}
        return save_log(
            log,
            kept,
            item_row,
            lambda wanted: Stream(schema, numbered(stored_batches(path), wanted, schema)),
            filters,
            out,
            arguments,
            facts,
        )


def clean_item(
    record: dict[str, Any], kind: str, path: Path, line: int, faults: Faults, description_words: int | None = None
) -> dict[str, Any]:
    """One row of the item table, its repairs counted.

    Args:
        record: one object of the meta file, with a text as ``parent_asin``.
        kind: what prompts call the item.
        path: the meta file, and
        line: the record's line, for the report.
        faults: where repairs are counted.
        description_words: how many words of the description are kept; all if None.
    """
    raw_title = record.get("title")
    title = plain_text(raw_title) if isinstance(raw_title, str) else ""
    description = [part for part in _texts(record.get("description")) if part]
    parts = dict.fromkeys(plain_text(part) for part in description)
    if not title:
        faults.add("empty_title", path, line, raw_title)
    count_repairs(raw_title if title and isinstance(raw_title, str) else "", description, path, line, faults)
    if _is_bad_price(record.get("price")):
        faults.add("bad_price", path, line, record["price"])
    return {
        "source_id": record["parent_asin"],
        "kind": kind,
        "title": title or f"Untitled ({record['parent_asin']})",
        "description": " ".join(" ".join(parts).split()[:description_words]),
        "categories": [text for text in map(plain_text, _texts(record.get("categories"))) if text],
        "average_rating": json_number(record.get("average_rating"), float),
        "rating_number": json_number(record.get("rating_number"), int),
    }


def _item_rows(
    raw: RawFiles, reviews: Reviews, described: np.ndarray, faults: Faults, words: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    kind = item_noun(raw.category)
    for line, number, record in known_items(raw.meta, reviews, described, faults):
        if number >= 0 and not described[number]:  # of two descriptions the first is used
            yield number, clean_item(record, kind, raw.meta, line, faults, words)


def _choose(
    reviews: Reviews, described: np.ndarray, again: np.ndarray, start: int, end: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Places of the events to be used, and how many are not, by the first reason that holds."""
    known = described[reviews.item]
    inside = (reviews.timestamp >= start) & (reviews.timestamp < end)
    first = np.ones(len(known), dtype=bool)
    first[again] = False
    dropped = {
        "review_without_item": int((~known).sum()),
        "outside_the_window": int((known & ~inside).sum()),
        "duplicate_event": int((known & inside & ~first).sum()),
    }
    return np.flatnonzero(known & inside & first), dropped


def _is_bad_price(value: Any) -> bool:
    if value is None or isinstance(value, int | float):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return True
    return False


def _texts(value: Any) -> list[str]:
    """The texts of a field that is a text, a list of them, or neither."""
    return [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str)]
