"""From an event log to next-item examples, split by time.

One example asks: given what this user had rated so far, which film did they like next? :func:`prepare` runs the whole
station; :func:`next_item_examples` and :func:`temporal_split` are its two steps that deserve a look.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict

from rrec_lib.data.events import catalogue_cutoff, k_core, keep_recent_users, select_catalogue, validate_events
from rrec_lib.data.movielens import load_movielens
from rrec_lib.data.store import catalogue_hash, load_prepared, save_prepared
from rrec_lib.profiles import DataProfile, Profile

__all__ = [
    "SPLITS",
    "catalogue_hash",
    "load_prepared",
    "next_item_examples",
    "prepare",
    "prepare_profile",
    "save_prepared",
    "temporal_split",
]

SPLITS = ("train", "valid", "test")
LOADERS = {"movielens": load_movielens}
EXAMPLE_SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()),
        ("history", pa.list_(pa.int32())),
        ("history_ratings", pa.list_(pa.float64())),
        ("history_timestamps", pa.list_(pa.int64())),
        ("seen", pa.list_(pa.int32())),
        ("target", pa.int64()),
        ("target_rating", pa.float64()),
        ("target_timestamp", pa.int64()),
    ]
)
ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("source_id", pa.int64()),
        ("title", pa.string()),
        ("year", pa.int64()),
        ("genres", pa.list_(pa.string())),
    ]
)


def next_item_examples(events: pd.DataFrame, window: int, min_target_rating: float) -> pd.DataFrame:
    """Turn each event that was liked into an example: what came before it, and the item itself.

    "Before" means strictly earlier: films rated in the same second stand in no known order, so none of them may be
    another's history.

    Args:
        events: columns ``user_id``, ``item_id``, ``rating``, ``timestamp``.
        window: how many past events the history keeps, at least 1.
        min_target_rating: an event with a lower rating is history, never a target.

    Returns:
        One row per example, sorted by target time, user and target, with columns ``user_id``, ``history``,
        ``history_ratings``, ``history_timestamps`` (oldest first, whatever the rating), ``seen`` (every item the
        user had rated before), ``target``, ``target_rating``, ``target_timestamp``.

    Raises:
        ValueError: if the window is smaller than 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 or more")
    rows = []
    ordered = events.sort_values(["user_id", "timestamp", "item_id"])
    for user, log in ordered.groupby("user_id", sort=True):
        items, ratings, times = (log[name].to_numpy() for name in ("item_id", "rating", "timestamp"))
        past = np.searchsorted(times, times, side="left")  # how many of the user's events are strictly earlier
        for index in np.flatnonzero((ratings >= min_target_rating) & (past > 0)):
            end = past[index]
            recent = slice(max(0, end - window), end)
            rows.append((user, items[recent], ratings[recent], times[recent], items[:end],
                         items[index], ratings[index], times[index]))  # fmt: skip
    examples = pd.DataFrame(rows, columns=EXAMPLE_SCHEMA.names)
    return examples.sort_values(["target_timestamp", "user_id", "target"], ignore_index=True)


def temporal_split(timestamps: np.ndarray, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> np.ndarray:
    """Assign each example to train, valid or test by the time of its target, for all users at once.

    All targets of one second go to the earlier of the splits they touch, so that what is evaluated always lies
    strictly after what was learned from.

    Args:
        timestamps: (E,) target times, in any order.
        shares: of train, valid and test; positive, adding up to 1. R²ec, App. B, takes 8:1:1.

    Returns:
        (E,) 0 for train, 1 for valid, 2 for test.

    Raises:
        ValueError: if the shares are not positive or don't add up to 1.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares are {shares}, expected three positive numbers that add up to 1")
    timestamps = np.asarray(timestamps)
    ordered = np.sort(timestamps)
    split = np.zeros(len(timestamps), dtype=np.int64)
    for share in (shares[0], shares[0] + shares[1]):
        count = int(share * len(ordered) + 1e-9)  # rounded down, as the paper's counts are
        split += timestamps > ordered[count - 1] if count else 1
    return split


def prepare(events: pd.DataFrame, items: pd.DataFrame, data: DataProfile) -> DatasetDict:
    """Filter an event log, number its items, and build the examples of every split.

    Args:
        events: an event log as :func:`rrec_lib.data.movielens.load_movielens` returns it.
        items: its item table.
        data: the profile's sizes and filters.

    Returns:
        Splits ``train``, ``valid`` and ``test`` (see :func:`next_item_examples`; items are row numbers of ``items``)
        and ``items`` with columns ``item_id`` (0 to N-1), ``source_id``, ``title``, ``year`` and ``genres``.

    Raises:
        ValueError: if the log is malformed, if the filters leave a split empty, or if the catalogue was chosen by
            ratings that are not older than the first test target.
    """
    validate_events(events, items)
    kept = keep_recent_users(events, data.max_users)
    cutoff = catalogue_cutoff(kept)
    kept = k_core(select_catalogue(kept, data.catalogue_size), data.k_core)
    catalogue = items[items["item_id"].isin(kept["item_id"])].sort_values("item_id", ignore_index=True)
    numbers = pd.Series(catalogue.index, index=catalogue["item_id"])
    numbered = kept.assign(item_id=kept["item_id"].map(numbers).astype("int64"))
    examples = next_item_examples(numbered, data.window, data.min_target_rating)
    split = temporal_split(examples["target_timestamp"].to_numpy())
    parts = {name: examples[split == number] for number, name in enumerate(SPLITS)}
    _check_parts(parts, cutoff if data.catalogue_size is not None else None)
    dataset = DatasetDict({name: _dataset(part, EXAMPLE_SCHEMA) for name, part in parts.items()})
    table = catalogue.rename(columns={"item_id": "source_id"}).assign(item_id=catalogue.index)
    dataset["items"] = _dataset(table.assign(year=table["year"].fillna(0).astype("int64")), ITEM_SCHEMA)
    return dataset


def prepare_profile(profile: Profile) -> DatasetDict:
    """Load the dataset that a profile names and prepare it.

    Raises:
        ValueError: for an unknown dataset, and as :func:`prepare`.
    """
    name = profile.data.dataset
    if name not in LOADERS:
        raise ValueError(f"unknown dataset {name!r} in profile {profile.name!r}; choose one of {', '.join(LOADERS)}")
    events, items = LOADERS[name]()
    return prepare(events, items, profile.data)


def _check_parts(parts: dict[str, pd.DataFrame], cutoff: int | None) -> None:
    for name, part in parts.items():
        if part.empty:
            raise ValueError(f"the filters leave no {name} example; lower data.k_core or data.min_target_rating, or "
                             "raise data.max_users or data.catalogue_size")  # fmt: skip
    first = int(parts["test"]["target_timestamp"].min())
    if cutoff is not None and cutoff >= first:
        raise ValueError(f"the catalogue was chosen by ratings up to time {cutoff}, but test targets begin at {first}, "
                         "so it would know the future; raise data.max_users or data.catalogue_size")  # fmt: skip


def _dataset(table: pd.DataFrame, schema: pa.Schema) -> Dataset:
    return Dataset(pa.Table.from_pandas(table, schema=schema, preserve_index=False).replace_schema_metadata(None))
