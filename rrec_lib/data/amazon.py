"""Amazon Reviews 2023 as published: the two raw files of a category, read once from front to back."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

REVIEW_COLUMNS = {"user_id": pl.Categorical, "parent_asin": pl.Categorical, "rating": pl.Float64, "timestamp": pl.Int64}
_decode = json.JSONDecoder().decode  # json.loads would guess each line's encoding
_REMEDY = "fetch it again, or take the line out"


@dataclass(frozen=True)
class RawFiles:
    """Where a category's two files lie: ``{category}.csv.gz`` and ``meta_{category}.jsonl.gz``."""

    category: str
    reviews: Path
    meta: Path


@dataclass(frozen=True)
class Reviews:
    """A review log in file order; users and items are numbered in order of first appearance.

    ``user``, ``item`` (E,) int32; ``rating`` (E,) float64; ``timestamp`` (E,) int64, milliseconds since 1970, UTC;
    ``user_ids`` and ``item_asins`` give each number's text.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    user_ids: pa.Array
    item_asins: pa.Array


def raw_files(folder: Path | str, category: str) -> RawFiles:
    """Find the two files of a category.

    Args:
        folder: where they lie.
        category: a name such as ``"Video_Games"``; any whose two files are there will do.

    Raises:
        FileNotFoundError: naming every file that is missing.
    """
    files = RawFiles(category, Path(folder) / f"{category}.csv.gz", Path(folder) / f"meta_{category}.jsonl.gz")
    missing = [path.name for path in (files.reviews, files.meta) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {' and '.join(missing)}; put both files of {category} there")
    return files


def read_reviews(path: Path | str) -> Reviews:
    """Read ``{category}.csv.gz``; ids become numbers while Polars streams, so their texts are held once each.

    Args:
        path: a gzipped CSV with a header and columns ``user_id``, ``parent_asin``, ``rating`` and ``timestamp``
            (milliseconds since 1970, UTC); other columns are not read.

    Returns:
        The log, the same for every number of threads.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the archive is damaged, a column is missing, or a field is empty or not of its type.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
            header = next(csv.reader(text), [])  # some versions of Polars panic at an empty archive
        missing = [name for name in REVIEW_COLUMNS if name not in header]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}; expected {', '.join(REVIEW_COLUMNS)}")
        table = pl.scan_csv(path, schema_overrides=REVIEW_COLUMNS)
        log = table.select(list(REVIEW_COLUMNS)).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} can't be read as gzipped CSV ({_first_line(error)}); {_REMEDY}") from error
    _check_complete(path, log)
    user, user_ids = _numbers(log["user_id"])
    item, item_asins = _numbers(log["parent_asin"])
    return Reviews(user, item, log["rating"].to_numpy(), log["timestamp"].to_numpy(), user_ids, item_asins)


def read_items(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read ``meta_{category}.jsonl.gz`` line by line.

    Polars wants one type per field and stops at ``NaN``; prices are numbers, texts, null and ``NaN`` in turn, so each
    line goes through :mod:`json`.

    Args:
        path: a gzipped file with one JSON object a line.

    Yields:
        The line's number, from 1, and its object. Blank lines are passed over.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the archive is damaged or a line is not a JSON object, naming file and line.
    """
    number = 0
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.isspace():
                    continue
                record = _decode(line.decode())
                if not isinstance(record, dict):
                    raise ValueError(f"{type(record).__name__} where an object was expected")
                yield number, record
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged after line {number} ({error}); fetch it again") from error
    except ValueError as error:  # bad JSON and bad UTF-8 are ValueErrors too
        raise ValueError(f"{path}, line {number}: not a JSON object ({error}); {_REMEDY}") from error


def appearance(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number codes afresh in order of first appearance.

    Args:
        codes: (E,) integers from 0, with gaps or without.

    Returns:
        (E,) int32 new numbers from 0 without gaps, and (C,) where each number first appears.
    """
    first = np.full(int(codes.max()) + 1 if len(codes) else 0, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # the last write is the first appearance
    present = np.flatnonzero(first < len(codes))
    order = present[np.argsort(first[present])]
    numbers = np.zeros(len(first), dtype=np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    return numbers[codes], first[order]


def _numbers(column: pl.Series) -> tuple[np.ndarray, pa.Array]:
    numbers, first = appearance(column.to_physical().to_numpy())
    texts = column.gather(first).cast(pl.String).to_arrow()
    return numbers, texts.cast(pa.string())


def _check_complete(path: Path, log: pl.DataFrame) -> None:
    for name in REVIEW_COLUMNS:
        if log[name].null_count():
            row = int(log[name].is_null().arg_max() or 0)
            raise ValueError(
                f"{path}: {log[name].null_count()} rows lack {name}, the first on line {row + 2}; {_REMEDY}"
            )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
