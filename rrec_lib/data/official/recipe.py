"""The official preprocessing of Amazon Reviews 2023, row for row, odd rules included.

What it does was found by running it, and is stated here in code of our own. Three things differ on purpose: the order
of ``description`` (there it changes with the hash seed), ``details`` (JSON text instead of one column per key), and
the absence of ``__index_level_0__``, a left-over of pandas. Where the official script stops with a traceback, such as
at a price that is a parseable text, this one goes on by the stated rules.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import DatasetDict, load_from_disk

from rrec_lib.data.amazon.raw import RawFiles, Reviews, appearance, read_reviews
from rrec_lib.data.amazon.scan import log_faults
from rrec_lib.data.amazon.window import Window, choose_window, window_months
from rrec_lib.data.arrow import create_folder, seal_folder
from rrec_lib.data.event_log import Filters
from rrec_lib.data.examples import SPLITS
from rrec_lib.data.faults import MAX_FAULTS, Faults
from rrec_lib.data.histories import first_places
from rrec_lib.data.official.items import LoadedItems, load_items
from rrec_lib.data.official.tables import ITEM_INFO_SCHEMA, ROW_SCHEMA, RowPlan, write_item_info, write_rows
from rrec_lib.data.prepared import FORMAT, staged, write_manifest

CUTS = (0.8, 0.9)


@dataclass(frozen=True)
class OfficialRecipe:
    """The official script's arguments; months are ``"2022-10"``.

    The window goes from the first of ``start`` to the first of ``end``, 00:00 UTC, both included. Users and items
    need ``k_core`` reviews, and a history holds at most ``window`` events.
    """

    start: str = "2022-10"
    end: str = "2023-10"
    k_core: int = 0
    window: int = 20

    def __post_init__(self) -> None:
        window_months(self.start, self.end)
        Filters(self.k_core, self.window)


@dataclass(frozen=True)
class OfficialCounts:
    """What was counted on the way, for a manifest."""

    loaded_items: int
    removals: dict[str, int]
    reviews: int
    reviews_with_a_loaded_item: int
    windows_tried: tuple[Window, ...]
    effective_start: str
    end: str
    stopped_by_minimum_year: bool
    density: float
    rows: dict[str, int]


@dataclass(frozen=True)
class OfficialData:
    """The prepared splits ``train``, ``valid``, ``test`` and ``item_info``, the counts, and the Arrow files' sha256."""

    dataset: DatasetDict
    counts: OfficialCounts
    arrow_sha256: dict[str, str]


def prepare_official(
    raw: RawFiles, recipe: OfficialRecipe, out: Path | str, faults: Faults | None = None
) -> OfficialData:
    """Prepare a category as the official script does.

    Every row repeats the titles of its history, so rows are written batch by batch into the saved ``DatasetDict``
    and mapped from there: memory holds the review log as numbers and each item's title, never the rows.

    Args:
        raw: the two files.
        recipe: the window and the filters.
        out: an existing folder for the result, which ``datasets.load_from_disk`` can read later. After an error it
            may hold half of it: give a folder that can be thrown away, and move it when all is well,
            as :func:`save_official` does.
        faults: where malformed records are counted; a new one with the usual limit if None.

    Returns:
        The splits, with the official column names, and the counts. Stored order is the official one too: rows by
        time, ``item_info`` in file order with the pad item (id 0) last.

    Raises:
        FileNotFoundError: if the folder is missing.
        ValueError: if the recipe or a raw file is wrong, or nothing is left.
    """
    months = window_months(recipe.start, recipe.end)
    filters = Filters(recipe.k_core, recipe.window)
    out = Path(out)
    faults = Faults() if faults is None else faults
    if not out.is_dir():
        raise FileNotFoundError(f"{out} is no folder; make it first")
    reviews = read_reviews(raw.reviews, faults)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        items = load_items(raw.meta, reviews, Path(scratch, "items.arrow"), faults)
        log_faults(reviews, items.described, raw.reviews, faults)
        loaded = np.isin(np.arange(len(reviews.item_asins)), items.review_item)[reviews.item]
        kept, windows, stopped = choose_window(reviews, loaded, months, filters.k_core)
        ids, first_rows = _item_ids(reviews.item[kept], items)
        files = create_folder(out, {**dict.fromkeys(SPLITS, ROW_SCHEMA), "item_info": ITEM_INFO_SCHEMA})
        titles = write_item_info(items, ids, first_rows, files["item_info"])
    plan = _plan(reviews, kept, ids, filters.window)
    cuts = [0, *(int(share * len(plan.rows)) for share in CUTS), len(plan.rows)]
    for name, begin, end in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
        write_rows(plan, titles, (begin, end), files[name])
    digests = seal_folder(files)
    dataset = cast(DatasetDict, load_from_disk(str(out)))
    last = windows[-1]
    counts = OfficialCounts(
        loaded_items=items.loaded,
        removals=items.removals,
        reviews=len(reviews.user),
        reviews_with_a_loaded_item=int(loaded.sum()),
        windows_tried=windows,
        effective_start=last.start,
        end=str(months[1].astype("datetime64[D]")),
        stopped_by_minimum_year=stopped,
        density=last.reviews / (last.users * last.items),
        rows={name: split.num_rows for name, split in dataset.items()},
    )
    return OfficialData(dataset, counts, digests)


def save_official(
    raw: RawFiles, recipe: OfficialRecipe, out: Path | str, max_faults: float = MAX_FAULTS
) -> dict[str, Any]:
    """:func:`prepare_official` into a folder that appears whole or not at all, with a ``manifest.json``.

    Args:
        raw: the two files.
        recipe: the window and the filters.
        out: where to; an older prepared dataset there is replaced.
        max_faults: share of a file's records that may be malformed.

    Returns:
        The manifest.

    Raises:
        FileExistsError: if ``out`` holds something that is not a prepared dataset.
        FileNotFoundError, ValueError: as :func:`prepare_official`.
    """
    faults = Faults(max_faults)
    with staged(out) as new:
        data = prepare_official(raw, recipe, new, faults)
        found = {
            "format": FORMAT,
            "recipe": "official",
            "category": raw.category,
            "arguments": {**asdict(recipe), "max_faults": max_faults},
            **raw.checksums(),
            "counts": asdict(data.counts),
            "rows": data.counts.rows,
            "arrow_sha256": data.arrow_sha256,
            "faults": faults.as_dict(),
        }
        write_manifest(new, found)
    return found


def _item_ids(used: np.ndarray, items: LoadedItems) -> tuple[np.ndarray, np.ndarray]:
    """Ids 1 to N in file order over the items that occur, by review item (0: none); and their first rows on disk."""
    occurs = np.zeros(int(used.max()) + 1, dtype=bool)
    occurs[used] = True
    rows = np.flatnonzero((items.review_item < len(occurs)) & occurs[np.minimum(items.review_item, len(occurs) - 1)])
    _, first = appearance(items.review_item[rows])
    ids = np.zeros(len(occurs), dtype=np.int32)
    ids[items.review_item[rows[first]]] = np.arange(1, len(first) + 1, dtype=np.int32)
    return ids, rows[first]


def _plan(reviews: Reviews, kept: np.ndarray, ids: np.ndarray, window: int) -> RowPlan:
    """Users in order of first appearance, each user's events by time; equal times keep the file's order throughout."""
    user, _ = appearance(reviews.user[kept])
    order = np.lexsort((reviews.timestamp[kept], user))
    user, places = user[order], kept[order]
    start = first_places(user)
    rows = np.flatnonzero(start < np.arange(len(start)))
    timestamp = reviews.timestamp[places]
    rows = rows[np.argsort(timestamp[rows], kind="stable")]
    users = reviews.user[places]
    return RowPlan(users, ids[reviews.item[places]], reviews.rating[places], timestamp, start, rows, window,
                   reviews.user_ids)  # fmt: skip
