"""From an event log to next-item examples, split by time.

One example asks: given what this user had rated so far, which item did they like next? :func:`prepare` runs the whole
station; :func:`next_item_examples` and :func:`temporal_split` are its two steps that deserve a look.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict

from rrec_lib.core.profiles import DataProfile, Profile
from rrec_lib.data.arrow import Stream
from rrec_lib.data.events import catalogue_cutoff, k_core, keep_recent_users, select_catalogue, validate_events
from rrec_lib.data.histories import ExamplePlan, example_batches, plan_examples
from rrec_lib.data.movielens import load_movielens, source_checksum
from rrec_lib.data.prepared import MANIFEST, load_prepared, save_prepared, write_prepared

SPLITS = ("train", "valid", "test")
Example = Mapping[str, Any]  # a row of a split: ``user_id``, ``history``, ``seen``, ``target``, times and ratings
Item = Mapping[str, Any]  # a row of the item table: ``title``, ``source_id`` and what else is known
LOADERS = {"movielens": load_movielens}
CHECKSUMS = {"movielens": source_checksum}
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
        user had rated before), ``target``, ``target_rating``, ``target_timestamp``, ``repeat`` (the target is among
        ``seen``).

    Raises:
        ValueError: if the window is smaller than 1.
    """
    plan = _plan(events, window, min_target_rating)
    return _table(plan, 0, len(plan.rows)).to_pandas()


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
    plan = _plan(numbered, data.window, data.min_target_rating)
    cuts = split_cuts(plan, "lower data.k_core or data.min_target_rating, or raise data.max_users or "
                      "data.catalogue_size")  # fmt: skip
    _check_catalogue(plan, cuts, cutoff if data.catalogue_size is not None else None)
    dataset = DatasetDict({name: Dataset(_table(plan, *cuts[name])) for name in SPLITS})
    table = catalogue.rename(columns={"item_id": "source_id"}).assign(item_id=catalogue.index)
    table = table.assign(year=table["year"].fillna(0).astype("int64"))
    items_table = pa.Table.from_pandas(table, schema=ITEM_SCHEMA, preserve_index=False)
    dataset["items"] = Dataset(items_table.replace_schema_metadata(None))
    return dataset


def split_cuts(plan: ExamplePlan, remedy: str) -> dict[str, tuple[int, int]]:
    """First row of every split and the one behind its last, by :func:`temporal_split`.

    Args:
        plan: all examples.
        remedy: what to do if a split has none.

    Raises:
        ValueError: naming a split without a row.
    """
    split = temporal_split(plan.timestamp[plan.rows])
    edges = [0, *np.searchsorted(split, [1, 2]).tolist(), len(split)]
    cuts = {name: (edges[number], edges[number + 1]) for number, name in enumerate(SPLITS)}
    for name, (begin, end) in cuts.items():
        if begin == end:
            raise ValueError(f"the filters leave no {name} example ({len(plan.rows):,} in all; each needs an event and "
                             f"a strictly earlier one of its user); {remedy}")  # fmt: skip
    return cuts


def save_examples(
    plan: ExamplePlan, items: Stream, out: Path | str, arguments: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write examples and items batch by batch, in the form of :func:`prepare`; the folder appears whole or not at all.

    Args:
        plan: all examples.
        items: the ``items`` split.
        out: where to; an older prepared dataset there is replaced.
        arguments: what it was prepared with, and
        facts: what else the manifest is to say.

    Returns:
        The manifest.

    Raises:
        FileExistsError: if the folder holds something that is not a prepared dataset.
        ValueError: naming a split without a row.
    """
    window = "widen the window with --start and --end, " if "start" in arguments else ""
    cuts = split_cuts(plan, f"give a longer log, {window}or lower --k-core or --min-target-rating")
    splits = {name: Stream(plan.schema, example_batches(plan, *cut)) for name, cut in cuts.items()}
    users = {name: len(np.unique(plan.user[plan.rows[begin:end]])) for name, (begin, end) in cuts.items()}
    repeats = {name: int(plan.repeat[plan.rows[begin:end]].sum()) for name, (begin, end) in cuts.items()}
    return write_prepared(out, {**splits, "items": items}, {**facts, "users": users, "repeats": repeats}, arguments)


def prepare_profile(profile: Profile) -> DatasetDict:
    """Load the dataset that a profile names and prepare it; or load one that `rrec prepare` has written.

    Args:
        profile: its ``data.dataset`` is a known name, or a folder of prepared data.

    Raises:
        ValueError: for an unknown dataset or a damaged folder, and as :func:`prepare`.
    """
    name = profile.data.dataset
    if name not in LOADERS:
        if (Path(name) / MANIFEST).is_file():
            return load_prepared(name)
        raise ValueError(f"unknown dataset {name!r} in profile {profile.name!r}; choose one of {', '.join(LOADERS)}, "
                         "or a folder that `rrec prepare` has written")  # fmt: skip
    events, items = LOADERS[name]()
    return prepare(events, items, profile.data)


def save_profile(profile: Profile, folder: Path | str) -> DatasetDict:
    """:func:`prepare_profile`, and the result written to a folder with the profile's sizes and the source's checksum.

    Raises:
        FileExistsError: if the folder holds something that is not a prepared dataset.
        ValueError: as :func:`prepare_profile`, and for data that are prepared already: sizes would change nothing.
    """
    name = profile.data.dataset
    if name not in LOADERS and (Path(name) / MANIFEST).is_file():
        raise ValueError(f"{name} is prepared already; copy the folder, or prepare its source with other settings")
    dataset = prepare_profile(profile)
    checksum = CHECKSUMS.get(profile.data.dataset)
    save_prepared(dataset, folder, asdict(profile.data), checksum and checksum())
    return dataset


def _check_catalogue(plan: ExamplePlan, cuts: dict[str, tuple[int, int]], cutoff: int | None) -> None:
    first = int(plan.timestamp[plan.rows[cuts["test"][0]]])
    if cutoff is not None and cutoff >= first:
        raise ValueError(f"the catalogue was chosen by ratings up to time {cutoff}, but test targets begin at {first}, "
                         "so it would know the future; raise data.max_users or data.catalogue_size")  # fmt: skip


def _plan(events: pd.DataFrame, window: int, min_target_rating: float) -> ExamplePlan:
    users, user = np.unique(events["user_id"].to_numpy(), return_inverse=True)
    item, rating, timestamp = (events[name].to_numpy() for name in ("item_id", "rating", "timestamp"))
    return plan_examples(user, item, rating, timestamp, pa.array(users), window, min_target_rating)


def _table(plan: ExamplePlan, begin: int, end: int) -> pa.Table:
    return pa.Table.from_batches(example_batches(plan, begin, end), plan.schema)
