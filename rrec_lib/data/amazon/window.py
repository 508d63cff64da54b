"""Time windows: in, a recipe's months; out, moments, and where the official recipe lets its window open."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from rrec_lib.data.amazon.raw import Reviews
from rrec_lib.data.events import k_core_places

MIN_ITEMS = 10_000  # with fewer, the window opens three months earlier
ROLL_BACK_MONTHS = 3


@dataclass(frozen=True)
class Window:
    """A start that was tried, ``"2022-10-01"``, and what was left after the k-core."""

    start: str
    users: int
    items: int
    reviews: int


def window_months(start: str, end: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """(year, month) of both ends of a recipe's window, such as ``"2022-10"``.

    Raises:
        ValueError: naming the month that is wrong.
    """
    months = []
    for text in (start, end):
        try:
            month = datetime.strptime(text, "%Y-%m")
        except ValueError as error:
            raise ValueError(f"month {text!r} is not of the form 2022-10") from error
        months.append((month.year, month.month))
    if months[0] > months[1]:
        raise ValueError(f"the window starts in {start} and ends in {end}; swap them")
    return months[0], months[1]


def first_of(year: int, month: int) -> datetime:
    """The first of a month, 00:00 UTC."""
    return datetime(year, month, 1, tzinfo=UTC)


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970."""
    return int(time.timestamp()) * 1000


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
        start = first_of(year, month)
        inside = (reviews.timestamp >= to_ms(start)) & (reviews.timestamp <= to_ms(first_of(*end)))
        kept = k_core_places(reviews.user, reviews.item, np.flatnonzero(loaded & inside), k)
        counts = [len(np.unique(codes[kept])) for codes in (reviews.user, reviews.item)]
        tried.append(Window(f"{start:%Y-%m-%d}", counts[0], counts[1], len(kept)))
        stopped = year <= earliest
        if counts[1] >= MIN_ITEMS or stopped:
            break
        year, month = (year, month - ROLL_BACK_MONTHS) if month > ROLL_BACK_MONTHS else (year - 1, month + 9)
    if not len(kept):
        raise ValueError(f"no review is left between {tried[-1].start} and {first_of(*end):%Y-%m-%d} with k_core {k}; "
                         "choose other months or a lower k_core")  # fmt: skip
    return kept, tuple(tried), stopped
