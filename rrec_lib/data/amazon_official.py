"""The official preprocessing of Amazon Reviews 2023, row for row, odd rules included.

What it does was found by running it, and is stated here in code of our own. Three things differ on purpose: the order
of ``description`` (there it changes with the hash seed), ``details`` (JSON text instead of one column per key), and
the absence of ``__index_level_0__``, a left-over of pandas. Where the official script stops with a traceback, such as
at a price that is a parseable text, this one goes on by the stated rules.
"""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
from datasets import DatasetDict, load_from_disk

from rrec_lib.data.amazon import Reviews, appearance, raw_files, read_reviews
from rrec_lib.data.amazon_items import LoadedItems, load_items
from rrec_lib.data.amazon_tables import (
    ITEM_INFO_SCHEMA,
    ROW_SCHEMA,
    RowPlan,
    create_folder,
    seal_folder,
    write_item_info,
    write_rows,
)

MIN_ITEMS = 10_000  # with fewer, the window opens three months earlier
ROLL_BACK_MONTHS = 3
SPLITS = ("train", "valid", "test")
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


@dataclass(frozen=True)
class Window:
    """A start that was tried, ``"2022-10-01"``, and what was left after the k-core."""

    start: str
    users: int
    items: int
    reviews: int


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
    """The prepared splits ``train``, ``valid``, ``test`` and ``item_info``, and the counts."""

    dataset: DatasetDict
    counts: OfficialCounts


def prepare_official(folder: Path | str, category: str, recipe: OfficialRecipe, out: Path | str) -> OfficialData:
    """Prepare a category as the official script does.

    Every row repeats the titles of its history, so rows are written batch by batch into the saved ``DatasetDict``
    and mapped from there: memory holds the review log as numbers and each item's title, never the rows.

    Args:
        folder: where ``{category}.csv.gz`` and ``meta_{category}.jsonl.gz`` lie.
        category: their name.
        recipe: the window and the filters.
        out: an existing folder for the result, which ``datasets.load_from_disk`` can read later. After an error it
            may hold half of it: give a folder that can be thrown away, and move it when all is well.

    Returns:
        The splits, with the official column names, and the counts. Stored order is the official one too: rows by
        time, ``item_info`` in file order with the pad item (id 0) last.

    Raises:
        FileNotFoundError: if a raw file or the folder is missing.
        ValueError: if the recipe or a raw file is wrong, or nothing is left.
    """
    months = _check(recipe)
    raw, out = raw_files(folder, category), Path(out)
    if not out.is_dir():
        raise FileNotFoundError(f"{out} is no folder; make it first")
    reviews = read_reviews(raw.reviews)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        items = load_items(raw.meta, reviews, Path(scratch, "items.arrow"))
        loaded = np.isin(np.arange(len(reviews.item_asins)), items.review_item)[reviews.item]
        kept, windows, stopped = choose_window(reviews, loaded, months, recipe.k_core)
        ids, first_rows = _item_ids(reviews.item[kept], items)
        files = create_folder(out, {**dict.fromkeys(SPLITS, ROW_SCHEMA), "item_info": ITEM_INFO_SCHEMA})
        titles = write_item_info(items, ids, first_rows, files["item_info"])
    plan = _plan(reviews, kept, ids, recipe.window)
    cuts = [0, *(int(share * len(plan.rows)) for share in CUTS), len(plan.rows)]
    for name, begin, end in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
        write_rows(plan, titles, (begin, end), files[name])
    seal_folder(files)
    dataset = cast(DatasetDict, load_from_disk(str(out)))
    counts = _counts(reviews, loaded, items, windows, stopped, _first_of(*months[1]), dataset)
    return OfficialData(dataset, counts)


def choose_window(
    reviews: Reviews, loaded: np.ndarray, months: tuple[tuple[int, int], tuple[int, int]], k: int
) -> tuple[np.ndarray, tuple[Window, ...], bool]:
    """Find the latest start, going back three months at a time, that leaves 10,000 items.

    It gives up once the start lies in the year of the earliest review of a loaded item: what was reviewed earlier in
    that year is lost.

    Args:
        reviews: the log.
        loaded: (E,) whether a review's item passed the filters.
        months: (year, month) of start and end.
        k: fewest reviews of a user and of an item.

    Returns:
        (K,) the kept reviews' places in the log, ascending; every window tried; whether it gave up.

    Raises:
        ValueError: if no review has a loaded item, or none is left in the last window.
    """
    if not loaded.any():
        raise ValueError("no review names an item that passes the filters; check that both files are of one category")
    earliest = datetime.fromtimestamp(int(reviews.timestamp[loaded].min()) / 1000, UTC).year
    (year, month), end = months
    tried: list[Window] = []
    while True:
        start = _first_of(year, month)
        inside = (reviews.timestamp >= _ms(start)) & (reviews.timestamp <= _ms(_first_of(*end)))
        kept = k_core(reviews, np.flatnonzero(loaded & inside), k)
        counts = [len(np.unique(codes[kept])) for codes in (reviews.user, reviews.item)]
        tried.append(Window(f"{start:%Y-%m-%d}", counts[0], counts[1], len(kept)))
        stopped = year <= earliest
        if counts[1] >= MIN_ITEMS or stopped:
            break
        year, month = (year, month - ROLL_BACK_MONTHS) if month > ROLL_BACK_MONTHS else (year - 1, month + 9)
    if not len(kept):
        raise ValueError(f"no review is left between {tried[-1].start} and {_first_of(*end):%Y-%m-%d} with k_core {k}; "
                         "choose other months or a lower k_core")  # fmt: skip
    return kept, tuple(tried), stopped


def k_core(reviews: Reviews, kept: np.ndarray, k: int) -> np.ndarray:
    """Drop users and items with fewer than k reviews until nothing changes.

    Args:
        reviews: the log.
        kept: (K,) places in the log; a repeated review counts each time.
        k: 0 or 1 keeps all.

    Returns:
        The places that stay.
    """
    while k > 1:
        users, items = reviews.user[kept], reviews.item[kept]
        enough = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k) if len(kept) else kept > 0
        if enough.all():
            break
        kept = kept[enough]
    return kept


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
    position = np.arange(len(places))
    new = np.diff(user, prepend=-1) != 0
    start = np.maximum.accumulate(np.where(new, position, 0))
    rows = np.flatnonzero(~new)
    timestamp = reviews.timestamp[places]
    rows = rows[np.argsort(timestamp[rows], kind="stable")]
    users = reviews.user[places]
    return RowPlan(users, ids[reviews.item[places]], reviews.rating[places], timestamp, start, rows, window,
                   reviews.user_ids)  # fmt: skip


def _counts(
    reviews: Reviews,
    loaded: np.ndarray,
    items: LoadedItems,
    windows: tuple[Window, ...],
    stopped: bool,
    end: datetime,
    dataset: DatasetDict,
) -> OfficialCounts:
    last = windows[-1]
    return OfficialCounts(
        loaded_items=items.loaded,
        removals=items.removals,
        reviews=len(reviews.user),
        reviews_with_a_loaded_item=int(loaded.sum()),
        windows_tried=windows,
        effective_start=last.start,
        end=f"{end:%Y-%m-%d}",
        stopped_by_minimum_year=stopped,
        density=last.reviews / (last.users * last.items),
        rows={name: split.num_rows for name, split in dataset.items()},
    )


def _check(recipe: OfficialRecipe) -> tuple[tuple[int, int], tuple[int, int]]:
    if recipe.k_core < 0 or recipe.window < 1:
        raise ValueError(f"k_core is {recipe.k_core} and window {recipe.window}, expected 0 or more and 1 or more")
    months = []
    for text in (recipe.start, recipe.end):
        try:
            month = datetime.strptime(text, "%Y-%m")
        except ValueError as error:
            raise ValueError(f"month {text!r} is not of the form 2022-10") from error
        months.append((month.year, month.month))
    if months[0] > months[1]:
        raise ValueError(f"the window starts in {recipe.start} and ends in {recipe.end}; swap them")
    return months[0], months[1]


def _first_of(year: int, month: int) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
