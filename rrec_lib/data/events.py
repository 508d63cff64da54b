"""Event logs: in, a table of ratings; out, an error that names its fault, or the rows that the filters keep."""

import numpy as np
import pandas as pd

from rrec_lib.data.times import END, SECOND

EVENT_COLUMNS = {"user_id": "iu", "item_id": "iu", "rating": "f", "timestamp": "iu"}
ITEM_COLUMNS = ("item_id", "title", "year", "genres")
CATALOGUE_SHARE = 0.8  # of the log, by time: what select_catalogue may look at


def validate_events(events: pd.DataFrame, items: pd.DataFrame) -> None:
    """Check an event log against its item table.

    Args:
        events: columns ``user_id``, ``item_id``, ``timestamp`` (integers) and ``rating`` (float).
        items: columns ``item_id``, ``title``, ``year``, ``genres``, one row per item.

    Raises:
        ValueError: naming the first thing that is wrong: a column or its type, no rows, a missing or infinite value,
            times that can't be seconds since 1970, an item described twice, not at all or without a title, the same
            event twice.
    """
    _check_columns(events, items)
    if events.empty:
        raise ValueError("the event log is empty; expected at least one row")
    if events[list(EVENT_COLUMNS)].isna().to_numpy().any() or not np.isfinite(events["rating"]).all():
        raise ValueError("the event log has a missing or infinite value; drop or repair those rows first")
    if (late := events["timestamp"] >= END // SECOND).any():
        raise ValueError(f"{int(late.sum())} timestamps lie after 2099, such as {events['timestamp'][late].iloc[0]}; "
                         "they are seconds since 1970, so divide milliseconds by 1,000")  # fmt: skip
    if items["title"].isna().any():
        raise ValueError(f"item_id {_first(items, items['title'].isna())} has no title; give it one or drop its events")
    if items["item_id"].duplicated().any():
        raise ValueError(f"the item table describes item_id {_first(items, items['item_id'].duplicated())} twice")
    unknown = ~events["item_id"].isin(items["item_id"])
    if unknown.any():
        raise ValueError(f"{int(unknown.sum())} events name an item that the item table lacks, such as item_id "
                         f"{_first(events, unknown)}; add its row or drop the events")  # fmt: skip
    repeated = events.duplicated(["user_id", "item_id", "timestamp"])
    if repeated.any():
        raise ValueError(f"{int(repeated.sum())} events stand in the log twice (same user, item and time), the first "
                         f"with item_id {_first(events, repeated)}; drop the copies")  # fmt: skip


def keep_recent_users(events: pd.DataFrame, max_users: int | None) -> pd.DataFrame:
    """Keep the users whose last event is the most recent.

    Args:
        events: an event log.
        max_users: how many users to keep, at least 1; None keeps all. Equal times keep the smaller ``user_id``.

    Returns:
        The kept rows, in their order.
    """
    if max_users is None:
        return events
    _at_least_one("max_users", max_users)
    last = events.groupby("user_id")["timestamp"].max().reset_index()
    last = last.sort_values(["timestamp", "user_id"], ascending=[False, True])
    return events[events["user_id"].isin(last["user_id"].head(max_users))]


def select_catalogue(events: pd.DataFrame, size: int | None) -> pd.DataFrame:
    """Keep the events of the films rated most often in the first 80 % of the log by time.

    What became popular later must not choose the catalogue: at training time nobody knew it.

    Args:
        events: an event log.
        size: number of films, at least 1; None keeps all. Equal counts keep the smaller ``item_id``.

    Returns:
        The kept rows, in their order.
    """
    if size is None:
        return events
    _at_least_one("catalogue size", size)
    early = events[events["timestamp"] <= catalogue_cutoff(events)]
    counts = early.groupby("item_id").size().rename("count").reset_index()
    counts = counts.sort_values(["count", "item_id"], ascending=[False, True])
    return events[events["item_id"].isin(counts["item_id"].head(size))]


def catalogue_cutoff(events: pd.DataFrame) -> int:
    """Last timestamp that :func:`select_catalogue` looks at: that of the event 80 % into the log."""
    times = np.sort(events["timestamp"].to_numpy())
    return int(times[int(np.ceil(CATALOGUE_SHARE * len(times))) - 1])


def k_core(events: pd.DataFrame, k: int) -> pd.DataFrame:
    """Drop users and items with fewer than k events until none is left to drop.

    Dropping a rare item may leave a user with too few events, so one pass is not enough.

    Args:
        events: an event log.
        k: fewest events a user or an item may have; 0 or 1 keeps all.

    Returns:
        The kept rows, in their order: the largest log in which every user and every item has k events or more.
    """
    if k < 0:
        raise ValueError(f"k_core is {k}, expected 0 or more")
    if k <= 1:
        return events
    user, item = (np.unique(events[name].to_numpy(), return_inverse=True)[1] for name in ("user_id", "item_id"))
    return events.iloc[k_core_places(user, item, np.arange(len(events)), k)]


def k_core_places(user: np.ndarray, item: np.ndarray, kept: np.ndarray, k: int) -> np.ndarray:
    """:func:`k_core` on numbered users and items.

    Args:
        user: (E,) numbers from 0.
        item: likewise.
        kept: (K,) places in the log; a repeated event counts each time.
        k: 0 or 1 keeps all.

    Returns:
        The places that stay, in their order.
    """
    while k > 1 and len(kept):
        users, items = user[kept], item[kept]
        enough = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k)
        if enough.all():
            break
        kept = kept[enough]
    return kept


def copies(user: np.ndarray, item: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """Places of events that stand in the log before, with the same user, item and time; ascending."""
    order = np.lexsort((timestamp, item, user))  # stable: the first in the log stays
    again = np.ones(len(order), dtype=bool)
    again[:1] = False
    for key in (user, item, timestamp):
        ordered = key[order]
        again[1:] &= ordered[1:] == ordered[:-1]
    return np.sort(order[again])


def _check_columns(events: pd.DataFrame, items: pd.DataFrame) -> None:
    for name, kinds in EVENT_COLUMNS.items():
        if name not in events.columns:
            raise ValueError(f"the event log has no column {name!r}; expected {', '.join(EVENT_COLUMNS)}")
        if events[name].dtype.kind not in kinds:
            expected = "floating-point" if kinds == "f" else "integer"
            raise ValueError(f"the event log's column {name!r} is {events[name].dtype}, expected {expected}")
    for name in ITEM_COLUMNS:
        if name not in items.columns:
            raise ValueError(f"the item table has no column {name!r}; expected {', '.join(ITEM_COLUMNS)}")


def _first(table: pd.DataFrame, mask: pd.Series) -> int:
    return int(table.loc[mask, "item_id"].iloc[0])


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}, expected 1 or more, or null for all")
