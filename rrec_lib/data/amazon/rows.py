"""Rows of Amazon's review file: in, whole lines; out, a table, at once where all is well, else line by line.

Both ways accept the same rows: what the fast way is unsure of, it leaves to the slow one.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rrec_lib.data.encodings import refuse_wide
from rrec_lib.data.faults import MAX_ID, Faults
from rrec_lib.data.records import BYTE_ORDER_MARK, read_number, split_fields, valid_id

REVIEW_COLUMNS = {"user_id": pl.Categorical, "parent_asin": pl.Categorical, "rating": pl.Float64, "timestamp": pl.Int64}
RATINGS = (1.0, 5.0)
TIMES = (788_918_400_000, 4_102_444_800_000)  # from 1995, and before 2100, in ms
REMEDIES = {
    "bad_rating": "Amazon's ratings go from 1 to 5; for another scale there is `rrec prepare csv` with --best-rating",
    "bad_time": "Amazon's times are milliseconds since 1970; for others there is `rrec prepare csv`",
}
_PARSED = {"user_id": pl.String, "parent_asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


def parse_header(path: Path, line: bytes) -> list[str]:
    """Column names of the first line.

    Raises:
        ValueError: if one of ``REVIEW_COLUMNS`` is missing or there twice, or the text is not UTF-8.
    """
    refuse_wide(path, line)
    text = line.decode("utf-8-sig", errors="replace").strip("\r")
    fields = split_fields(text, ",")
    header = [text] if isinstance(fields, str) else fields
    missing = [name for name in REVIEW_COLUMNS if header.count(name) != 1]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}, or two; expected {', '.join(REVIEW_COLUMNS)}")
    return header


def parse_chunk(chunk: bytes, header: list[str]) -> pl.DataFrame | None:
    """Read whole lines at once.

    Args:
        chunk: lines, each with its line feed.
        header: the file's columns.

    Returns:
        A row per line, or None if any line may be something else than a healthy row.
    """
    if not chunk:
        return pl.DataFrame(schema=REVIEW_COLUMNS)
    signs = np.bincount(np.frombuffer(chunk, np.uint8), minlength=256)
    lines = int(signs[10])
    unusual = signs[:32].sum() - lines + signs[127:].sum() + signs[34]
    if unusual or signs[44] != lines * (len(header) - 1):
        return None
    schema = {str(place): _PARSED.get(name, pl.String) for place, name in enumerate(header)}
    wanted = [pl.col(str(header.index(name))).alias(name) for name in REVIEW_COLUMNS]
    try:
        table = pl.read_csv(io.BytesIO(chunk), has_header=False, schema=schema, quote_char=None).select(wanted)
    except pl.exceptions.PolarsError:
        return None
    id_length = pl.col("user_id", "parent_asin").str.len_bytes()
    rating, timestamp = pl.col("rating"), pl.col("timestamp")
    healthy = table.select(
        (id_length.max() <= MAX_ID),
        rating=rating.is_between(*RATINGS).all() & rating.is_not_nan().all(),
        timestamp=timestamp.is_between(*TIMES, closed="left").all(),
    )
    complete = len(table) == lines and not any(table.null_count().row(0))
    return table.cast(REVIEW_COLUMNS) if complete and all(healthy.row(0)) else None  # type: ignore[arg-type]


def parse_lines(
    chunk: bytes, header: list[str], path: Path, number: int, faults: Faults
) -> tuple[pl.DataFrame, list[int], int]:
    """Read whole lines one by one.

    Args:
        chunk: lines, each with its line feed.
        header: the file's columns.
        path: the file, and
        number: the chunk's first line in it, for the report.
        faults: where malformed rows are counted.

    Returns:
        The healthy rows, the lines that gave none, and how many of these are blank.
    """
    places = [header.index(name) for name in REVIEW_COLUMNS]
    rows, skipped, blank = [], [], 0
    for at, line in enumerate(chunk.split(b"\n")[:-1], start=number):
        row = _parse_line(line, len(header), places)
        if len(row) == len(places):
            rows.append(row)
            continue
        skipped.append(at)
        if row:
            faults.add(row[0], path, at, row[1])
        else:
            blank += 1
    table = pl.DataFrame(rows, schema={name: _PARSED[name] for name in REVIEW_COLUMNS}, orient="row")
    return table.cast(REVIEW_COLUMNS), skipped, blank  # type: ignore[arg-type]


def _parse_line(line: bytes, columns: int, places: list[int]) -> tuple[Any, ...]:
    """User, item, rating and time; the fault and what was found; or nothing, for a blank line."""
    text = line.decode(errors="replace").removeprefix(BYTE_ORDER_MARK).removesuffix("\r")
    if not text or text.isspace():
        return ()
    fields = split_fields(text, ",")
    if isinstance(fields, str):
        return "wrong_columns", fields
    if len(fields) != columns:
        return "wrong_columns", f"{len(fields)} fields, expected {columns}"
    user, item, rating, timestamp = (fields[place] for place in places)
    for value in (user, item):
        if not valid_id(value):
            return "invalid_utf8_id" if "\ufffd" in value else "bad_id", ascii(value)
    if (stars := read_number(rating)) is None or not RATINGS[0] <= stars <= RATINGS[1]:
        return "bad_rating", ascii(rating)
    time = read_number(timestamp)  # a program may have written 1672531200000.0
    if time is None or not TIMES[0] <= time < TIMES[1] or time != int(time):
        return "bad_time", ascii(timestamp)
    return user, item, stars, int(time)
