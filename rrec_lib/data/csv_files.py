"""Any log as two CSV files: events with user, item, rating and time; items with a title and what else is known."""

import csv
import gzip
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from rrec_lib.data.amazon_clean import plain_text
from rrec_lib.data.amazon_rows import valid_id
from rrec_lib.data.amazon_scan import record_batch
from rrec_lib.data.arrow_files import Stream, file_sha256
from rrec_lib.data.faults import MAX_FAULTS, Faults
from rrec_lib.data.logs import EventLog, Filters, numbered, save_log

TIME_UNITS = ("auto", "s", "ms", "iso")
MILLISECONDS = 1e11  # a number of seconds this large lies in the year 5138, so it must be milliseconds
SECONDS = (788_918_400, 4_102_444_800)  # from 1995, and before 2100
_OPTIONAL = {"year": pa.int64(), "genres": pa.list_(pa.string()), "description": pa.string()}


@dataclass(frozen=True)
class Columns:
    """What the files call their columns. Year, genres (parted by ``|``) and description may be missing."""

    user: str = "user_id"
    item: str = "item_id"
    rating: str = "rating"
    time: str = "timestamp"
    title: str = "title"
    year: str = "year"
    genres: str = "genres"
    description: str = "description"


@dataclass(frozen=True)
class CsvSource:
    """Two files, plain or gzipped.

    Attributes:
        events: a row per event.
        items: a row per item.
        columns: their names; the item's id has the same one in both files.
        kind: what prompts call an item, such as ``"album"``; its plural takes an s.
        best_rating: the scale's highest rating; ratings are brought to a scale of 5.
        time_unit: ``"s"``, ``"ms"``, ``"iso"`` (without a zone: UTC), or ``"auto"``: that of the first event.
    """

    events: Path
    items: Path
    columns: Columns = Columns()
    kind: str = "item"
    best_rating: float = 5.0
    time_unit: str = "auto"


def save_csv(source: CsvSource, filters: Filters, out: Path | str, max_faults: float = MAX_FAULTS) -> dict[str, Any]:
    """Prepare two CSV files in the form of :func:`rrec_lib.data.examples.prepare`.

    Args:
        source: the files.
        filters: see :class:`rrec_lib.data.logs.Filters`.
        out: where to; an older prepared dataset there is replaced.
        max_faults: share of a file's rows that may be malformed.

    Returns:
        The manifest.

    Raises:
        FileExistsError: if ``out`` holds something that is not a prepared dataset.
        FileNotFoundError: if a file is missing.
        ValueError: if a column is missing, too many rows are malformed, or nothing is left.
    """
    if source.time_unit not in TIME_UNITS or not source.best_rating > 0:
        raise ValueError(f"time_unit is {source.time_unit!r} and best_rating {source.best_rating}, expected one of "
                         f"{', '.join(TIME_UNITS)} and a positive number")  # fmt: skip
    faults = Faults(max_faults)
    items = _read_items(source, faults)
    events, unit, dropped = _read_events(source, {row["source_id"]: at for at, row in enumerate(items)}, faults)
    schema = pa.schema([("item_id", pa.int64()), *_schema(items)])
    table = record_batch(items, _schema(items))
    facts = {
        "recipe": "csv",
        "source_sha256": {path.name: file_sha256(path) for path in (source.events, source.items)},
        "dropped": dropped,
        "faults": faults.as_dict(),
    }
    arguments = {"kind": source.kind, "best_rating": source.best_rating, "time_unit": unit,
                 "columns": asdict(source.columns), "max_faults": max_faults}  # fmt: skip
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


def _read_items(source: CsvSource, faults: Faults) -> list[dict[str, Any]]:
    names, rows, known = source.columns, [], set()
    there: set[str] = set()
    for line, row in _rows(source.items, [names.item, names.title], faults):
        there = there or row.keys() & {getattr(names, name) for name in _OPTIONAL}
        item, title = row[names.item], plain_text(row[names.title])
        if not valid_id(item):
            faults.add("bad_id", source.items, line, item)
            continue
        if item in known:
            faults.add("item_twice", source.items, line, item)
            continue
        if not title:
            faults.add("empty_title", source.items, line)
        known.add(item)
        found: dict[str, Any] = {"source_id": item, "kind": source.kind, "title": title or f"Untitled ({item})"}
        if names.year in there:
            year = row[names.year].strip()
            found["year"] = int(year) if year.isdecimal() and len(year) <= 4 else 0
        if names.genres in there:
            found["genres"] = [text for text in map(plain_text, row[names.genres].split("|")) if text]
        if names.description in there:
            found["description"] = plain_text(row[names.description])
        rows.append(found)
    if not rows:
        raise ValueError(f"{source.items} describes no item; expected a row per item")
    return rows


def _read_events(source: CsvSource, item_rows: dict[str, int], faults: Faults) -> tuple[EventLog, str, dict[str, int]]:
    names, unit = source.columns, source.time_unit
    users: dict[str, int] = {}
    seen: set[tuple[int, int, int]] = set()
    log: list[tuple[int, int, float, int]] = []
    dropped = {"review_without_item": 0, "duplicate_event": 0}
    for line, row in _rows(source.events, [names.user, names.item, names.rating, names.time], faults):
        user, item = row[names.user], row[names.item]
        if not (valid_id(user) and valid_id(item)):
            faults.add("bad_id", source.events, line, f"{user}, {item}")
            continue
        rating = _finite(row[names.rating])
        if rating is None or not 0 <= rating <= source.best_rating:
            faults.add("bad_rating", source.events, line, row[names.rating])
            continue
        unit = _unit(row[names.time]) if unit == "auto" else unit
        seconds = _seconds(row[names.time], unit)
        if seconds is None or not SECONDS[0] <= seconds < SECONDS[1]:
            faults.add("bad_time", source.events, line, row[names.time])
            continue
        if item not in item_rows:
            faults.add("review_without_item", source.events, line, f"{user}, {item}")
            dropped["review_without_item"] += 1
            continue
        event = (users.setdefault(user, len(users)), item_rows[item], seconds)
        if event in seen:
            faults.add("duplicate_event", source.events, line, f"{user}, {item}")
            dropped["duplicate_event"] += 1
            continue
        seen.add(event)
        log.append((event[0], event[1], rating * 5 / source.best_rating, seconds))
    columns = [np.array(column) for column in zip(*log, strict=True)] or [np.empty(0, dtype=np.int64)] * 4
    user_ids = pa.array(list(users), pa.string())
    return EventLog(columns[0], columns[1], columns[2].astype(np.float64), columns[3], user_ids), unit, dropped


def _rows(path: Path, wanted: list[str], faults: Faults) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by column name, with the line on which they end; malformed ones are counted."""
    records = 0
    with _open(path) as text:
        reader = csv.reader(text, strict=True)
        header = next(reader, [])
        missing = [name for name in wanted if header.count(name) != 1]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}, or two, but {', '.join(header) or 'none'}; "
                             "name yours, for instance with --time-column")  # fmt: skip
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except (csv.Error, EOFError, OSError) as error:
                if not isinstance(error, csv.Error):
                    faults.add("damaged_archive", path, reader.line_num, f"{error}; read up to line {reader.line_num}")
                    break
                records += 1
                faults.add("wrong_columns", path, reader.line_num, str(error))
                continue
            if not row:
                continue
            records += 1
            if len(row) != len(header):
                faults.add("wrong_columns", path, reader.line_num, f"{len(row)} fields, expected {len(header)}")
                continue
            yield reader.line_num, dict(zip(header, row, strict=True))
    faults.check(path, records)


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    options: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    return gzip.open(path, "rt", **options) if packed else path.open(**options)


def _schema(items: list[dict[str, Any]]) -> pa.Schema:
    optional = [(name, kind) for name, kind in _OPTIONAL.items() if name in items[0]]
    return pa.schema([("source_id", pa.string()), ("kind", pa.string()), ("title", pa.string()), *optional])


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _unit(text: str) -> str:
    value = _finite(text)
    return "iso" if value is None else "ms" if value >= MILLISECONDS else "s"


def _seconds(text: str, unit: str) -> int | None:
    if unit != "iso":
        value = _finite(text)
        return None if value is None else math.floor(value / (1000 if unit == "ms" else 1))
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return math.floor((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
