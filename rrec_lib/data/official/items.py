"""Amazon's item table under the official recipe: which items stay, and what becomes of their texts."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rrec_lib.data.amazon.raw import Reviews
from rrec_lib.data.amazon.scan import known_items, write_items
from rrec_lib.data.arrow import to_json
from rrec_lib.data.faults import Faults
from rrec_lib.data.records import json_number

MAX_TITLE_WORDS = 20
ITEM_SCHEMA = pa.schema(
    [
        ("main_category", pa.string()),
        ("title", pa.string()),
        ("average_rating", pa.float64()),
        ("rating_number", pa.int64()),
        ("features", pa.list_(pa.string())),
        ("description", pa.list_(pa.string())),
        ("price", pa.float64()),
        ("store", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("details", pa.string()),
        ("parent_asin", pa.string()),
        ("subtitle", pa.string()),
    ]
)
PAD_ITEM = {
    "main_category": "pad_category", "title": "pad_title", "average_rating": 0.0, "rating_number": 0, "features": [],
    "description": [], "price": 0.0, "store": "pad_store", "categories": [], "details": "{}",
    "parent_asin": "pad_asin", "subtitle": "pad_subtitle",
}  # fmt: skip
REMOVALS = ("num_no_title", "num_invalid_title", "num_too_long_title", "num_invalid_price")  # as the script prints them
_TAG = re.compile(r"<[^>]*>")
_SPACES = re.compile(r" {2,}")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class LoadedItems:
    """What :func:`load_items` found.

    ``review_item`` (R,) int32: for each row on disk its number in :attr:`Reviews.item_asins`; ``loaded`` counts the
    items that pass the filters, reviewed or not; ``removals`` counts the others by reason; ``described`` (I,): which
    reviewed items the file has, whatever became of them.
    """

    path: Path
    review_item: np.ndarray
    loaded: int
    removals: dict[str, int]
    described: np.ndarray


def load_items(meta: Path | str, reviews: Reviews, path: Path, faults: Faults | None = None) -> LoadedItems:
    """Filter and clean the item table, and write the items that have a review to an Arrow stream.

    Args:
        meta: ``meta_{category}.jsonl.gz``.
        reviews: the log; the text of an item nobody reviewed is never kept.
        path: the Arrow file to write, in file order, with the columns of ``ITEM_SCHEMA``.
        faults: where malformed records are counted; a new one with the usual limit if None.

    Returns:
        Where the items lie and what was counted.

    Raises:
        ValueError: as :func:`rrec_lib.data.amazon.raw.read_items`.
    """
    meta, faults = Path(meta), Faults() if faults is None else faults
    removals = dict.fromkeys(REMOVALS, 0)
    described = np.zeros(len(reviews.item_asins), dtype=bool)
    loaded = 0

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        nonlocal loaded
        for _, number, record in known_items(meta, reviews, described, faults):
            found = filter_item(record)
            if isinstance(found, str):
                removals[found] += 1
                continue
            loaded += 1
            if number >= 0:
                yield number, clean_item(record, *found)

    review_item = write_items(rows(), ITEM_SCHEMA, path)
    return LoadedItems(path, review_item, loaded, removals, described)


def filter_item(record: dict[str, Any]) -> tuple[str, float] | str:
    """Decide whether the official recipe keeps an item.

    Args:
        record: one object of the meta file.

    Returns:
        The trimmed title and the price, or the name of the count in ``REMOVALS`` under which the item is dropped.
    """
    title = record.get("title")
    if title is None:
        return "num_no_title"
    title = str(title)
    if "<span id" in title:
        return "num_invalid_title"
    title = title.replace("&quot;", '"').replace("&amp;", "&").strip(" ").strip('"')
    if title.count(" ") >= MAX_TITLE_WORDS:  # pieces between single spaces, empty ones included
        return "num_too_long_title"
    if len(title) <= 1:
        return "num_no_title"
    try:
        return title, float(record.get("price"))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return "num_invalid_price"


def clean_text(text: str) -> str:
    """Unescape HTML, trim, delete tags, join lines, collapse spaces, blank every non-ASCII character: in this order.

    The result may begin with a space, hold two in a row, or be empty: nothing is trimmed afterwards.
    """
    # The tests come first because most texts need none of the steps.
    if "&" in text:
        text = html.unescape(text)
    text = text.strip()
    if "<" in text:
        text = _TAG.sub("", text)
    text = text.replace("\n", " ").replace("\t", " ")
    if "  " in text:
        text = _SPACES.sub(" ", text)
    return text if text.isascii() else _NON_ASCII.sub(" ", text)


def clean_item(record: dict[str, Any], title: str, price: float) -> dict[str, Any]:
    """One row of the item table.

    Args:
        record: one object of the meta file.
        title: as :func:`filter_item` returned it.
        price: likewise.

    Returns:
        The columns of ``ITEM_SCHEMA``. The official script puts ``description`` through a set, so its order changes
        with the hash seed; here each entry stands where it first stood. ``details`` is JSON text, as its keys differ
        from item to item.
    """
    subtitle = record.get("subtitle")
    description = record.get("description")
    return {
        "main_category": _cleaned(record.get("main_category")),
        "title": clean_text(title),
        "average_rating": json_number(record.get("average_rating"), float),
        "rating_number": json_number(record.get("rating_number"), int),
        "features": _texts(record.get("features")),
        "description": list(dict.fromkeys(_texts(description) or [])) if description is not None else None,
        "price": price,
        "store": _cleaned(record.get("store")),
        "categories": _texts(record.get("categories")),
        "details": to_json(record["details"]) if record.get("details") is not None else None,
        "parent_asin": record["parent_asin"],
        "subtitle": "" if subtitle is None or subtitle == "nan" else _cleaned(subtitle),
    }


def _cleaned(value: Any) -> str | None:
    return None if value is None else clean_text(str(value))


def _texts(value: Any) -> list[str] | None:
    if value is None:
        return None
    entries = value if isinstance(value, list) else [value]
    return [entry if isinstance(entry, str) else to_json(entry) for entry in entries]
