"""Any log as two CSV files: events with user, item, rating and time; items with a title and what else is known."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rrec_lib.data.arrow import Stream, file_sha256, record_batch
from rrec_lib.data.csv.columns import Columns, CsvSource
from rrec_lib.data.csv.events import read_csv_events
from rrec_lib.data.csv.items import read_csv_items
from rrec_lib.data.event_log import Filters, numbered, save_log
from rrec_lib.data.faults import MAX_FAULTS, Faults
from rrec_lib.data.times import UNITS

__all__ = ["TIME_UNITS", "Columns", "CsvSource", "save_csv"]

TIME_UNITS = ("auto", *UNITS, "iso")
_OPTIONAL = {"year": pa.int64(), "genres": pa.list_(pa.string()), "description": pa.string()}


def save_csv(source: CsvSource, filters: Filters, out: Path | str, max_faults: float = MAX_FAULTS) -> dict[str, Any]:
    """Prepare two CSV files in the form of :func:`rrec_lib.data.examples.prepare`.

    Args:
        source: the files.
        filters: see :class:`rrec_lib.data.event_log.Filters`.
        out: where to; an older prepared dataset there is replaced.
        max_faults: share of a file's rows that may be malformed.

    Returns:
        The manifest.

    Raises:
        FileExistsError: if ``out`` holds something that is not a prepared dataset.
        FileNotFoundError: if a file is missing.
        ValueError: if a file is in another encoding, a column is missing, too many rows are malformed, no event names
            an item of the other file, or nothing is left.
    """
    if source.time_unit not in TIME_UNITS or not 0 < source.best_rating < float("inf"):
        raise ValueError(f"time_unit is {source.time_unit!r} and best_rating {source.best_rating}, expected one of "
                         f"{', '.join(TIME_UNITS)} and a positive number")  # fmt: skip
    if not source.kind.strip() or not source.kind.isprintable():
        raise ValueError(f"kind is {source.kind!r}, expected a word for an item, such as album")
    if source.delimiter is not None and (not source.delimiter or set(source.delimiter) & set('"\r\n')):
        raise ValueError(f"the delimiter is {source.delimiter!r}, expected a sign such as ; or tab, or several")
    same = source.events.name == source.items.name  # of two folders
    roles = {source.events: "events", source.items: "items"}
    faults = Faults(max_faults, {path: f"{path.name} ({role})" for path, role in roles.items()} if same else {})
    items = read_csv_items(source, faults)
    rows = {source.key(row["source_id"]): at for at, row in enumerate(items)}
    events, unit, dropped = read_csv_events(source, rows, faults)
    schema = pa.schema([("item_id", pa.int64()), *_schema(items)])
    table = record_batch(items, _schema(items))
    facts = {
        "recipe": "csv",
        "source_sha256": {faults.name(path): file_sha256(path) for path in roles},
        "dropped": dropped,
        "faults": faults.as_dict(),
    }
    options = {name: getattr(source, name) for name in ("kind", "best_rating", "delimiter", "encoding", "integer_ids")}
    arguments = {**options, "time_unit": unit, "columns": asdict(source.columns), "max_faults": max_faults}
    return save_log(
        events,
        np.arange(len(events.user)),
        np.arange(len(items)),
        lambda wanted: Stream(schema, numbered(iter([table]), wanted, schema)),
        filters,
        out,
        arguments,
        facts,
    )


def _schema(items: list[dict[str, Any]]) -> pa.Schema:
    optional = [(name, kind) for name, kind in _OPTIONAL.items() if name in items[0]]
    return pa.schema([("source_id", pa.string()), ("kind", pa.string()), ("title", pa.string()), *optional])
