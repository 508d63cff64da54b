"""Environments beside .venv, as make's commands build them; by the reader's own Python, so with no package."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def project(root: Path = ROOT) -> dict[str, Any]:
    """The table ``project`` of pyproject.toml."""
    return dict(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def by_name(requirements: list[str]) -> dict[str, str]:
    """Requirements by their package."""
    return {re.match(r"[\w.-]+", line)[0]: line for line in requirements}  # type: ignore[index]


def steps(label: str, failed: str, cwd: Path = ROOT) -> Callable[..., None]:
    """A function that says a command behind a label and runs it; where it fails the program ends with a sentence."""
    return partial(_step, label, f"error: the step above failed {failed}", cwd=cwd)


def _step(label: str, error: str, *command: object, **options: Any) -> None:
    words = [str(word) for word in command]
    print(f"[{label}]", " ".join(words)[:110], flush=True)
    if subprocess.run(words, check=False, **options).returncode != 0:
        sys.exit(error)


def pip(python: Path, *words: object) -> list[object]:
    """A command of an environment's pip."""
    return [python, "-m", "pip", "--disable-pip-version-check", *words]


def make(step: Callable[..., None], venv: Path, *installs: list[Any], base: str = sys.executable) -> Path:
    """A new environment with what each of the calls of ``pip install`` brings; its Python."""
    python = venv / "bin" / "python"
    step(base, "-m", "venv", "--clear", venv)
    for words in installs:
        step(*pip(python, "install", "-qq", *words))
    return python
