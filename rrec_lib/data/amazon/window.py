"""Time windows: in, a recipe's months; out, moments, and where the official recipe lets its window open."""

from dataclasses import dataclass
from datetime import datetime

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


def window_months(start: str, end: str) -> tuple[np.datetime64, np.datetime64]:
    """Both ends of a recipe's window, such as ``"2022-10"``, as months.

    Raises:
        ValueError: naming the month that is wrong.
    """
    months = []
    for text in (start, end):
        try:
            months.append(np.datetime64(datetime.strptime(text, "%Y-%m"), "M"))
        except ValueError as error:
            raise ValueError(f"month {text!r} is not of the form 2022-10") from error
    if months[0] > months[1]:
        raise ValueError(f"the window starts in {start} and ends in {end}; swap them")
    return months[0], months[1]


def month_ms(month: np.datetime64) -> int:
    """A month's first moment, UTC, in milliseconds since 1970."""
    return int(month.astype("datetime64[ms]").astype(np.int64))


def choose_window(
    reviews: Reviews, loaded: np.ndarray, months: tuple[np.datetime64, np.datetime64], k: int
) -> tuple[np.ndarray, tuple[Window, ...], bool]:
    """Find the latest start, going back three months at a time, that leaves 10,000 items.

    It gives up once the start lies in the year of the earliest review of a loaded item: what was reviewed earlier in
    that year is lost.

    Args:
        reviews: the log.
        loaded: (E,) whether a review's item passed the filters.
        months: start and end.
        k: fewest reviews of a user and of an item.

    Returns:
        (K,) the kept reviews' places in the log, ascending; every window tried; whether it gave up.

    Raises:
        ValueError: if no review has a loaded item, or none is left in the last window.
    """
    if not loaded.any():
        raise ValueError("no review names an item that passes the filters; check that both files are of one category")
    earliest = reviews.timestamp[loaded].min().astype("datetime64[ms]").astype("datetime64[Y]")
    (start, end), day = months, "datetime64[D]"
    tried: list[Window] = []
    while True:
        inside = (reviews.timestamp >= month_ms(start)) & (reviews.timestamp <= month_ms(end))
        kept = k_core_places(reviews.user, reviews.item, np.flatnonzero(loaded & inside), k)
        counts = [len(np.unique(codes[kept])) for codes in (reviews.user, reviews.item)]
        tried.append(Window(str(start.astype(day)), counts[0], counts[1], len(kept)))
        stopped = bool(start.astype("datetime64[Y]") <= earliest)
        if counts[1] >= MIN_ITEMS or stopped:
            break
        start -= ROLL_BACK_MONTHS
    if not len(kept):
        raise ValueError(f"no review is left between {tried[-1].start} and {end.astype(day)} with k_core {k}; choose "
                         "other months or a lower k_core")  # fmt: skip
    return kept, tuple(tried), stopped
