"""Amazon Reviews 2023 as published: the two raw files of a category, read once from front to back."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from rrec_lib.data.amazon.rows import REMEDIES, REVIEW_COLUMNS, parse_chunk, parse_header, parse_lines
from rrec_lib.data.archive import DamagedArchiveError, read_chunks, read_lines
from rrec_lib.data.arrow import file_sha256
from rrec_lib.data.encodings import refuse_wide
from rrec_lib.data.faults import Faults

CHUNK = 1 << 23  # bytes of the review file parsed at a time
_decode = json.JSONDecoder().decode  # json.loads would guess each line's encoding
_REMEDY = "fetch it again"


@dataclass(frozen=True)
class RawFiles:
    """Where a category's two files lie: ``{category}.csv.gz`` and ``meta_{category}.jsonl.gz``."""

    category: str
    reviews: Path
    meta: Path

    def checksums(self) -> dict[str, dict[str, str]]:
        """Both files' sha256, under the manifest's key ``source_sha256``."""
        return {"source_sha256": {path.name: file_sha256(path) for path in (self.reviews, self.meta)}}


@dataclass(frozen=True)
class Reviews:
    """A review log in file order; users and items are numbered in order of first appearance.

    ``user``, ``item`` (E,) int32; ``rating`` (E,) float64; ``timestamp`` (E,) int64, milliseconds since 1970, UTC;
    ``user_ids`` and ``item_asins`` give each number's text; ``skipped`` (S,) the lines that gave no review, ascending.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    user_ids: pa.Array
    item_asins: pa.Array
    skipped: np.ndarray

    def line(self, place: int) -> int:
        """Line of the file on which the review at a place stands."""
        return place + 2 + int(np.searchsorted(self.skipped - np.arange(len(self.skipped)), place + 2, side="right"))


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


def read_reviews(path: Path | str, faults: Faults | None = None) -> Reviews:
    """Read ``{category}.csv.gz`` chunk by chunk; ids become numbers at once, so their texts are held once each.

    Polars parses a chunk; one in which anything is unusual is read again line by line, so only those cost time.

    Args:
        path: a gzipped CSV with a header and columns ``user_id``, ``parent_asin``, ``rating`` and ``timestamp``
            (milliseconds since 1970, UTC); other columns are not read.
        faults: where malformed rows are counted; a new one with the usual limit if None.

    Returns:
        The log, the same for every number of threads.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no gzip, a column is missing, too many rows are malformed, or none is left.
    """
    path, faults = Path(path), Faults() if faults is None else faults
    header: list[str] = []
    parts = [pl.DataFrame(schema=REVIEW_COLUMNS)]
    skipped: list[int] = []
    line, blank = 2, 0
    try:
        for chunk in read_chunks(path, CHUNK):
            if not header:
                first, _, chunk = chunk.partition(b"\n")
                header = parse_header(path, first)
            table = parse_chunk(chunk, header)
            lines = chunk.count(b"\n")
            if table is None:
                table, missed, empty = parse_lines(chunk, header, path, line, faults)
                skipped, blank = skipped + missed, blank + empty
            parts.append(table)
            line += lines
    except DamagedArchiveError as error:
        if not header:
            raise ValueError(f"{path} can't be read as gzipped CSV ({error}); {_REMEDY}") from error
        faults.add("damaged_archive", path, line - 1, f"{error}; read up to line {line - 1}")
    if not header:
        raise ValueError(f"{path} is empty; {_REMEDY}")
    log = pl.concat(parts)
    faults.check(path, line - 2 - blank, REMEDIES)
    if not len(log):
        raise ValueError(f"{path} has a header and no usable review below it; {_REMEDY}")
    user, user_ids = _numbers(log["user_id"])
    item, item_asins = _numbers(log["parent_asin"])
    rating, timestamp = log["rating"].to_numpy(), log["timestamp"].to_numpy()
    return Reviews(user, item, rating, timestamp, user_ids, item_asins, np.array(skipped, dtype=np.int64))


def read_items(path: Path | str, faults: Faults | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read ``meta_{category}.jsonl.gz`` line by line.

    Polars wants one type per field and stops at ``NaN``; prices are numbers, texts, null and ``NaN`` in turn, so each
    line goes through :mod:`json`.

    Args:
        path: a gzipped file with one JSON object a line.
        faults: where malformed lines are counted; a new one with the usual limit if None.

    Yields:
        The line's number, from 1, and its object. Blank lines are passed over.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no gzip, or after the last line if too many lines are malformed, or all.
    """
    path, faults = Path(path), Faults() if faults is None else faults
    number = blank = usable = 0
    first = b""
    try:
        for number, line in enumerate(read_lines(path), start=1):
            first = line if number == 1 else first
            line = line.removeprefix(BOM_UTF8)
            if not line or line.isspace():
                blank += 1
            elif (record := _read_object(path, number, line, faults)) is not None:
                usable += 1
                yield number, record
    except DamagedArchiveError as error:
        if not number:
            raise ValueError(f"{path} can't be read as gzip ({error}); {_REMEDY}") from error
        faults.add("damaged_archive", path, number, f"{error}; read up to line {number}")
    if not usable:
        refuse_wide(path, first)
    faults.check(path, number - blank)
    if not usable:
        raise ValueError(f"{path} {'describes no usable item' if number > blank else 'is empty'}; {_REMEDY}")


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


def _read_object(path: Path, number: int, line: bytes, faults: Faults) -> dict[str, Any] | None:
    """A line's JSON object, bytes that are not UTF-8 repaired; None, and a fault, if it holds none."""
    try:
        try:
            record = _decode(line.decode())
        except UnicodeDecodeError as error:
            record = _decode(line.decode(errors="replace"))
            faults.add("invalid_utf8_text", path, number, f"byte {error.start + 1} of the line")
    except (ValueError, RecursionError) as error:
        faults.add("bad_json", path, number, (str(error).strip().splitlines() or [type(error).__name__])[0])
        return None
    if isinstance(record, dict):
        return record
    faults.add("not_an_object", path, number, type(record).__name__)
    return None
