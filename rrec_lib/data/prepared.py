"""Prepared folders: in, splits and facts; out, Arrow files and a manifest, whole or not at all, checked when read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, load_from_disk

from rrec_lib.core.console import progress
from rrec_lib.core.paths import replacing_folder
from rrec_lib.core.profiles import MANIFEST, PREPARE_AGAIN
from rrec_lib.data.arrow import (
    Stream,
    create_folder,
    file_sha256,
    no_progress_bar,
    seal_folder,
    split_hash,
    stored_hash,
    write_stream,
)

FORMAT = 1
_SPLITS = ("train", "valid", "test", "items", "item_info")
_OF_SPLIT = ("dataset_info.json", "state.json")


def catalogue_hash(items: Dataset) -> str:
    """Fingerprint of a catalogue: sha256 over its items in row order, the first 16 hex digits.

    Args:
        items: the ``items`` split of a prepared dataset.
    """
    return split_hash(items.select_columns([name for name in items.column_names if name != "item_id"]))[:16]


def save_prepared(
    dataset: DatasetDict, folder: Path | str, arguments: Mapping[str, Any], source_sha256: str | None = None
) -> Path:
    """Write a prepared dataset with its ``manifest.json``; the folder is replaced only once all is written.

    Args:
        dataset: what :func:`rrec_lib.data.examples.prepare` returned.
        folder: where to; an older prepared dataset there is replaced.
        arguments: what it was prepared with, such as ``dataclasses.asdict(profile.data)``.
        source_sha256: checksum of the source's files, if known.

    Returns:
        The folder.

    Raises:
        FileExistsError: if the folder holds something that is not a prepared dataset.
    """
    with staged(folder) as new:
        with no_progress_bar():
            dataset.save_to_disk(new)
        write_manifest(new, manifest(dataset, arguments, source_sha256))
    return Path(folder)


def write_prepared(
    folder: Path | str, splits: Mapping[str, Stream], facts: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Like :func:`save_prepared`, for tables that come batch by batch.

    Args:
        folder: where to; an older prepared dataset there is replaced.
        splits: the tables, ``items`` among them.
        facts: what else the manifest is to say.
        arguments: what the data was prepared with.

    Returns:
        The manifest.

    Raises:
        FileExistsError: if the folder holds something that is not a prepared dataset.
    """
    with staged(folder) as new:
        files = create_folder(new, {name: stream.schema for name, stream in splits.items()})
        rows = {name: write_stream(splits[name], files[name]) for name in progress(splits, "writing")}
        seal_folder(files)
        found = {
            "format": FORMAT,
            "arguments": dict(arguments),
            "catalogue": stored_hash(files["items"], without=("item_id",))[:16],
            "rows": rows,
            "sha256": {name: stored_hash(files[name]) for name in progress(files, "checking")},
            **facts,
        }
        write_manifest(new, found)
    return found


@contextmanager
def staged(folder: Path | str) -> Iterator[Path]:
    """A folder to write to, which takes the place of ``folder`` once the block ends well.

    Raises:
        FileExistsError: if ``folder`` holds something that is not a prepared dataset, or files beside one.
    """
    check_replaceable(Path(folder))
    with replacing_folder(Path(folder)) as new:
        yield new


def check_replaceable(folder: Path) -> None:
    """Require a folder that prepared data may be written to; also asked before hours of work.

    Raises:
        FileExistsError: as :func:`staged`.
    """
    if others := _others(folder):
        raise FileExistsError(f"{folder} is a prepared dataset, to be replaced, and holds {others[0]} too, which "
                              "isn't part of it; move that away, or choose another folder")  # fmt: skip
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and holds no {MANIFEST}, so it is not replaced; choose another folder")


def _others(folder: Path) -> list[str]:
    """What lies in a prepared folder and is not of it, hidden files aside; of one whose manifest is damaged, too."""
    if not (folder / MANIFEST).is_file():
        return []
    own = {MANIFEST, "dataset_dict.json", *_SPLITS, *(f"{split}/{name}" for split in _SPLITS for name in _OF_SPLIT)}
    found = [path.relative_to(folder) for path in folder.rglob("*")]
    mine = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    return sorted(path.as_posix() for path in mine if path.as_posix() not in own and not path.match("*/*.arrow"))


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """What ``manifest.json`` says.

    Raises:
        FileNotFoundError: if the folder or its manifest is missing.
        ValueError: if it can't be read.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {folder} is not a prepared dataset: run `rrec prepare`")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is corrupted ({error}); {PREPARE_AGAIN}") from error


def manifest(dataset: DatasetDict, arguments: Mapping[str, Any], source_sha256: str | None = None) -> dict[str, Any]:
    """What ``manifest.json`` holds: the same for the same data and arguments, on every machine."""
    return {
        "format": FORMAT,
        "arguments": dict(arguments),
        "source_sha256": source_sha256,
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
    recorded = read_manifest(folder)
    if recorded.get("recipe") == "official":
        raise ValueError(f"{folder} holds the official recipe's splits, which the official trainer loads with "
                         "datasets.load_from_disk; prepare with --recipe clean for this library")  # fmt: skip
    try:
        expected, version = dict(recorded["sha256"]), recorded["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is corrupted ({error}); {PREPARE_AGAIN}") from error
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, this version reads {FORMAT}; {PREPARE_AGAIN}")
    try:
        dataset = load_from_disk(str(folder))
        found = {name: split_hash(split) for name, split in dataset.items()}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{folder} is corrupted ({error}); {PREPARE_AGAIN}") from error
    for name, digest in expected.items():
        if found.get(name) != digest:
            raise ValueError(f"split {name!r} in {folder} is corrupted "
                             f"(sha256 {found.get(name, 'of nothing')} instead of {digest}); "
                             f"{PREPARE_AGAIN}")  # fmt: skip
    return dataset


def load_any(folder: Path | str) -> DatasetDict:
    """As :func:`load_prepared`, the official recipe's splits included."""
    recorded = read_manifest(folder)
    if recorded.get("recipe") != "official":
        return load_prepared(folder)
    if "arrow_sha256" not in recorded:
        raise ValueError(f"{Path(folder) / MANIFEST} is corrupted (it lacks arrow_sha256); {PREPARE_AGAIN}")
    for name, digest in recorded["arrow_sha256"].items():
        files = list(Path(folder, name).glob("*.arrow"))
        if len(files) != 1 or file_sha256(files[0]) != digest:
            raise ValueError(f"split {name!r} in {folder} is corrupted; {PREPARE_AGAIN}")
    return load_from_disk(str(folder))  # type: ignore[return-value]


def write_manifest(folder: Path, found: Mapping[str, Any]) -> None:
    """Write ``manifest.json``, keys in order."""
    (folder / MANIFEST).write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _users(split: Dataset) -> int:
    return int(pc.count_distinct(split.with_format("arrow")[:].column("user_id")).as_py())
