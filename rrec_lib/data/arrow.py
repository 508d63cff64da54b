"""Arrow tables: in, batches of rows; out, files, written batch by batch to save memory, and hashes of contents."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

to_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Stream:
    """A table to be written: its columns, and its rows as they come."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


def record_batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of an item table as Arrow; half a surrogate pair, which UTF-8 can't hold, becomes a question mark."""
    columns = {name: [row[name] for row in rows] for name in schema.names}
    try:
        return pa.RecordBatch.from_pydict(columns, schema=schema)
    except UnicodeEncodeError:
        text = to_json(columns).encode("utf-8", "replace").decode()
        return pa.RecordBatch.from_pydict(json.loads(text), schema=schema)


def write_stream(stream: Stream, path: Path) -> int:
    """Write a table to an Arrow stream file; its rows are counted."""
    rows = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, stream.schema) as writer:
        for batch in stream.batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def stored_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow stream file, one at a time, mapped rather than read."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader


def create_folder(folder: Path, schemas: dict[str, pa.Schema]) -> dict[str, Path]:
    """Have ``datasets`` save an empty ``DatasetDict``, so that its files need no second copy of the data.

    Args:
        folder: where to; made if it is not there.
        schemas: columns of every split, in the splits' order.

    Returns:
        Each split's Arrow file, to be written over.
    """
    empty = {name: Dataset(schema.empty_table(), fingerprint="0" * 16) for name, schema in schemas.items()}
    with no_progress_bar():
        DatasetDict(empty).save_to_disk(str(folder), num_shards=dict.fromkeys(schemas, 1))
    for name in schemas:
        # What datasets calls List since 4.0 was Sequence before: all versions read that, the official trainer's 3.4.1
        # nothing else.
        info = folder / name / "dataset_info.json"
        text = info.read_text(encoding="utf-8").replace('"_type": "List"', '"_type": "Sequence"')
        info.write_text(text, encoding="utf-8")
    return {name: next((folder / name).glob("*.arrow")) for name in schemas}


def seal_folder(files: dict[str, Path]) -> dict[str, str]:
    """Set every split's fingerprint to its Arrow file's sha256, so that the same rows always have the same one.

    Args:
        files: what :func:`create_folder` returned, written over by now.

    Returns:
        Each split's sha256.
    """
    digests = {}
    for name, path in files.items():
        digest = digests[name] = file_sha256(path)
        state = json.loads((path.parent / "state.json").read_text(encoding="utf-8"))
        state["_fingerprint"] = digest[:16]
        (path.parent / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")
    return digests


def file_sha256(path: Path) -> str:
    """Sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split_hash(split: Dataset) -> str:
    """Sha256 (hex) of a split's contents: names, types, values and row order, but not how a file stores them."""
    table: pa.Table = split.with_format("arrow")[:]
    return _hash(table.schema, table.column_names, table.num_rows, lambda name: iter(table.column(name).chunks))


def stored_hash(path: Path, without: tuple[str, ...] = ()) -> str:
    """:func:`split_hash` of an Arrow stream file; memory holds no more of it than one column's pages.

    Args:
        path: the file.
        without: columns to leave out.
    """
    schema = pa.ipc.open_stream(pa.memory_map(str(path))).schema
    rows = sum(batch.num_rows for batch in stored_batches(path))
    names = [name for name in schema.names if name not in without]
    return _hash(schema, names, rows, lambda name: (batch.column(name) for batch in stored_batches(path)))


def _hash(schema: pa.Schema, names: list[str], rows: int, column: Callable[[str], Iterator[pa.Array]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        kind = schema.field(name).type
        digest.update(f"{name}:{kind}:{rows}\n".encode())
        _update(digest, kind, lambda name=name: column(name))  # type: ignore[misc]
    return digest.hexdigest()


def _update(digest: Any, kind: pa.DataType, arrays: Callable[[], Iterator[pa.Array]]) -> None:
    """The digest is that of the whole column, however it is cut into arrays."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        for array in arrays():
            digest.update(pc.list_value_length(array).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _update(digest, kind.value_type, lambda: (array.flatten() for array in arrays()))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        before = b"["
        for array in arrays():
            for begin in range(0, len(array), 1 << 14):
                digest.update(before + json.dumps(array[begin : begin + (1 << 14)].to_pylist())[1:-1].encode())
                before = b", "
        digest.update(b"]" if before != b"[" else b"[]")
    else:
        number = "<f8" if pa.types.is_floating(kind) else "<i8"
        for array in arrays():
            if array.null_count and pa.types.is_integer(kind):  # NumPy has no missing integer
                array = array.cast(pa.int64()).fill_null(-(2**63))
            digest.update(array.to_numpy(zero_copy_only=False).astype(number).tobytes())


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Saving takes under a second; its bars would only leave residue in a notebook."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()
