"""Provenance-stamped results: what was measured, by which command, from which commit, on which machine."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rrec_lib.core import paths
from rrec_lib.core.reading import read_json

_ABSOLUTE = re.compile(r"(^|[\s=:])/+([^/]*/)*(?=[^/])")
CODE = ("rrec_lib", "scripts", "benchmarks", "notebooks")  # what figures come from


def results_dir() -> Path:
    """Where this run's results go: ``$RREC_RESULTS_DIR``, or ``_build/results`` below the working directory."""
    return Path(os.environ.get("RREC_RESULTS_DIR", "_build/results"))


def provenance(seed: int | None = None) -> dict[str, Any]:
    """Describe the run that produces a result: command, commit, seed, device, versions and time.

    Of absolute paths the command keeps the last part: results are passed on, and folders name their owner.
    """
    return {
        "command": " ".join(_ABSOLUTE.sub(r"\1", argument) for argument in [_program(), *sys.argv[1:]]),
        "commit": _commit(),
        "seed": seed,
        "device": describe_device(),
        "processor": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _program() -> str:
    """What was run: a script's name, or ``python -m`` and a package."""
    name, spec = Path(sys.argv[0]).name, getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent}" if name == "__main__.py" and spec else name


def _processor() -> str:
    """The processor's name, without which seconds can't be compared; as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def describe_device() -> str:
    """The hardware in words, such as ``"CPU, 2 threads"``."""
    if torch.cuda.is_available():
        return f"GPU, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def describe_run(profile: str) -> str:
    """What a script's first line says: hardware, commit of the code that it has loaded, profile."""
    return f"{describe_device()}, commit {_commit()}, profile {profile}"


def record(
    name: str, figures: dict[str, Any], profile: str, seed: int | None = None, keep: str | Path | None = None
) -> Path:
    """Write one result as JSON, atomically.

    Args:
        name: the file's stem, such as ``"06_gpu_training"``.
        figures: what was measured: numbers, strings, lists and dicts of them, or scalars from torch and NumPy.
        profile: the profile it was measured on.
        seed: the seed of the run.
        keep: a folder that outlives the session; its ``results`` take the place of :func:`results_dir`.

    Returns:
        The path written, ``f"{name}.json"`` in that folder.

    Raises:
        FileNotFoundError: if ``keep`` lies on a drive that is not there.
        ValueError: if a figure is not finite: a result with NaN in it is a failed measurement.
    """
    folder = results_dir() if keep is None else paths.kept(keep) / "results"
    path = folder / f"{name}.json"
    write_json(path, {"name": name, "profile": profile, **provenance(seed), "figures": plain(figures, name)})
    return path


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never a part."""
    with paths.replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def log_lines(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a trainer's log history as JSON lines, in place of what the file held."""
    with paths.replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")


def read_recorded(relative: str) -> dict[str, Any]:
    """Read a recorded run that ships with the project, such as ``"results/movielens-cpu.json"``."""
    return read_json(paths.resource(relative))


def plain(value: Any, where: str) -> Any:
    """Turn figures into what JSON holds: scalars of torch and NumPy into numbers, arrays and tuples into lists.

    Args:
        value: numbers, strings, lists and dicts of them.
        where: their name, for errors.

    Raises:
        ValueError: if a number is not finite.
    """
    if isinstance(value, dict):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, where) for item in value]
    if hasattr(value, "tolist"):  # torch and NumPy, scalars and arrays
        return plain(value.tolist(), where)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError(f"{where} is {value}: not a finite measurement, so it is not recorded")
    return value


def _commit() -> str | None:
    """``$RREC_COMMIT``, for a tree that was copied without its history, or this project's own."""
    return os.environ.get("RREC_COMMIT") or _head()


@cache  # HEAD may move on under a long run
def _head() -> str | None:
    """This project's own commit, ``-dirty`` if its code was changed since.

    None in a wheel, or in an unpacked archive, whatever repository lies around it.
    """
    if paths.REPOSITORY is None:
        return None
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook sets them

    def git(*command: str) -> str:
        whole = ["git", "-C", str(paths.REPOSITORY), *command]
        return subprocess.run(whole, capture_output=True, text=True, check=True, env=variables).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != paths.REPOSITORY:
            return None
        git("ls-files", "--error-unmatch", "rrec_lib/core/paths.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
