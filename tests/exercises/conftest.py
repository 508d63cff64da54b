"""The exercises as they stand in a notebook: stubs from code cells, solutions from the folded fences."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rrec_lib.core.paths import resource


def read(stem):
    """Stubs and solutions of a notebook, by function name, and the line that checks each."""
    cells = json.loads(resource(f"notebooks/{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    is_exercise = ["exercise" in cell["metadata"].get("tags", []) for cell in cells]
    stubs = {_name(code): code for code, exercise in zip(sources, is_exercise, strict=True) if exercise}
    checks = {_name(sources[i]): sources[i + 1] for i, exercise in enumerate(is_exercise) if exercise}
    prose = "\n".join(source for cell, source in zip(cells, sources, strict=True) if cell["cell_type"] == "markdown")
    fences = re.findall(r"<summary>Solution</summary>.*?```python\n(.*?)```", prose, re.DOTALL)
    solutions = {_name(code): code for code in fences}
    return SimpleNamespace(
        stubs={name: _function(code, name) for name, code in stubs.items()},
        solutions={name: _function(code, name) for name, code in solutions.items()},
        checks=checks,
    )


def _name(code):
    return re.findall(r"def (\w+)", code)[0]


def _function(code, name):
    namespace = {"torch": torch, "np": np}
    exec(code, namespace)
    return namespace[name]


@pytest.fixture(scope="session")
def exercises_of():
    """Call with a notebook's stem."""
    return read


@pytest.fixture
def verdict(capsys):
    """Run a check and return what it said: the mark and the sentence."""

    def run(check, answer):
        passed = check(answer)
        said = capsys.readouterr().out.strip()
        assert passed == said.startswith("✓")
        return said

    return run
