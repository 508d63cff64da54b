"""Prepared data on disk: written whole or not at all, and checked when read back."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, load_from_disk
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from rrec_lib.data.movielens import source_checksum

MANIFEST = "manifest.json"
FORMAT = 1
CHECKSUMS = {"movielens": source_checksum}
_REMEDY = "delete the folder and run `rrec prepare` again"


def catalogue_hash(items: Dataset) -> str:
    """Fingerprint of a catalogue: sha256 over its films in row order, the first 16 hex digits.

    Args:
        items: the ``items`` split of a prepared dataset.
    """
    return split_hash(items.select_columns(["source_id", "title", "year", "genres"]))[:16]


def split_hash(split: Dataset) -> str:
    """Sha256 (hex) of a split's contents: names, types, values and row order, but not how a file stores them."""
    digest = hashlib.sha256()
    table: pa.Table = split.with_format("arrow")[:]
    for name in sorted(table.column_names):
        column = table.column(name).combine_chunks()
        digest.update(f"{name}:{column.type}:{len(column)}\n".encode())
        _update(digest, column)
    return digest.hexdigest()


def save_prepared(dataset: DatasetDict, folder: Path | str, arguments: Mapping[str, Any]) -> Path:
    """Write a prepared dataset with its ``manifest.json``; the folder is replaced only once all is written.

    Args:
        dataset: what :func:`rrec_lib.data.examples.prepare` returned.
        folder: where to; an older prepared dataset there is replaced.
        arguments: what it was prepared with, such as ``dataclasses.asdict(profile.data)``. If it names a known
            ``dataset``, the source's checksum is recorded too.

    Returns:
        The folder.

    Raises:
        FileExistsError: if the folder holds something that is not a prepared dataset.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and holds no {MANIFEST}, so it is not replaced; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with no_progress_bar():
            dataset.save_to_disk(staging / "new")
        text = json.dumps(manifest(dataset, arguments), indent=2, sort_keys=True) + "\n"
        (staging / "new" / MANIFEST).write_text(text, encoding="utf-8")
        _swap(staging / "new", folder, staging / "old")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def manifest(dataset: DatasetDict, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What ``manifest.json`` holds: the same for the same data and arguments, on every machine."""
    source = CHECKSUMS.get(str(arguments.get("dataset")))
    return {
        "format": FORMAT,
        "arguments": dict(arguments),
        "source_sha256": source() if source else None,
        "catalogue": catalogue_hash(dataset["items"]),
        "rows": {name: split.num_rows for name, split in dataset.items()},
        "users": {name: _users(split) for name, split in dataset.items() if name != "items"},
        "sha256": {name: split_hash(split) for name, split in dataset.items()},
    }


def load_prepared(folder: Path | str) -> DatasetDict:
    """Read a prepared dataset and check every split against the manifest.

    Raises:
        FileNotFoundError: if the folder or its manifest is missing.
        ValueError: if the manifest can't be read or a split is missing, unreadable or differs from it.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {folder} is not a prepared dataset: run `rrec prepare`")
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        expected, version = dict(recorded["sha256"]), recorded["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is corrupted ({error}); {_REMEDY}") from error
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, this version reads {FORMAT}; {_REMEDY}")
    try:
        dataset = load_from_disk(str(folder))
        found = {name: split_hash(split) for name, split in dataset.items()}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{folder} is corrupted ({error}); {_REMEDY}") from error
    for name, digest in expected.items():
        if found.get(name) != digest:
            raise ValueError(f"split {name!r} in {folder} is corrupted "
                             f"(sha256 {found.get(name, 'of nothing')} instead of {digest}); {_REMEDY}")  # fmt: skip
    return dataset


def _swap(new: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        if old.exists():  # put back what was there
            os.replace(old, folder)
        raise


def _users(split: Dataset) -> int:
    return int(pc.count_distinct(split.with_format("arrow")[:].column("user_id")).as_py())


def _update(digest: Any, array: pa.Array) -> None:
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        digest.update(pc.list_value_length(array).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _update(digest, array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        digest.update(json.dumps(array.to_pylist()).encode())
    else:
        kind = "<f8" if pa.types.is_floating(array.type) else "<i8"
        digest.update(array.to_numpy(zero_copy_only=False).astype(kind).tobytes())


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
