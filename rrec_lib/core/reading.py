"""Files that are read back: one that is damaged is named, with what to do about it."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

REMEDY = "put a whole copy in its place, or delete it where it can be made anew"


class DamagedError(ValueError):
    """A file that doesn't hold what was written to it."""

    def __init__(self, path: Path, why: object, remedy: str = REMEDY) -> None:
        super().__init__(f"{path} is damaged ({why}); {remedy}")


def read_json(path: Path, *keys: str, remedy: str = REMEDY) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        keys: that its object must have; none are asked of a file that may hold anything.
        remedy: what to do where it is damaged.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedError: if it isn't JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:  # UnicodeDecodeError is one, too
        raise DamagedError(path, problem, remedy) from problem
    if keys and not isinstance(content, dict):
        raise DamagedError(path, f"it holds a {type(content).__name__}, no object", remedy)
    if missing := [key for key in keys if key not in content]:
        raise DamagedError(path, f"it lacks {', '.join(missing)}", remedy)
    return content


def read_json_lines(path: Path, remedy: str = REMEDY) -> list[Any]:
    """What each line of a JSON Lines file holds; errors as in :func:`read_json`."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as problem:
        raise DamagedError(path, problem, remedy) from problem


def read_tensors(path: Path, *names: str, remedy: str = REMEDY) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, on the CPU; arguments and errors as in :func:`read_json`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as problem:
        raise DamagedError(path, problem, remedy) from problem
    if missing := [name for name in names if name not in tensors]:
        raise DamagedError(path, f"it lacks {', '.join(missing)}", remedy)
    return tensors


def check_whole(folder: Path, remedy: str) -> None:
    """Look at each JSON, safetensors and PyTorch file of a folder, without reading tensors.

    Raises:
        DamagedError: naming the first that is cut off or something else.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            read_json(path, remedy=remedy)
        elif path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt"):
                    pass
            except SafetensorError as problem:
                raise DamagedError(path, problem, remedy) from problem
        elif path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
            raise DamagedError(path, "it is no file of torch.save", remedy)


def check_same(where: Path, kept: dict[str, Any] | None, settings: dict[str, Any], remedy: str) -> None:
    """Refuse to go on with what was made with other settings.

    Args:
        where: what is refused.
        kept: the settings it was made with; None if it does not say.
        settings: those of now.
        remedy: what to do instead.

    Raises:
        ValueError: naming each setting that differs, with both values.
    """
    ours, theirs = _flat(settings), _flat(kept or {})
    other = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    if not other:
        return
    if kept is None:
        raise ValueError(f"{where} holds a run that does not say with which settings it was made; {remedy}")
    words = ", ".join(f"{key} {theirs.get(key)}, now {ours.get(key)}" for key in other)
    raise ValueError(f"{where} is of a run with other settings ({words}); {remedy}")


def _flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat
