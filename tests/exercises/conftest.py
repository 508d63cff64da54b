"""The exercises as they stand in a notebook: stubs from code cells, solutions from the folded fences."""

import re
from types import SimpleNamespace

import exercise_cells
import numpy as np
import pytest
import torch


def read(stem, **known):
    """Stubs and solutions of a notebook, by the name of the answer (a function or a value), and the line that checks
    each. ``known`` are names that the notebook's cells use beside ``torch`` and ``np``."""
    cells = exercise_cells.read_notebook(stem)["cells"]
    sources = [exercise_cells.source(cell) for cell in cells]
    is_exercise = ["exercise" in cell["metadata"].get("tags", []) for cell in cells]
    stubs = {_name(code): code for code, exercise in zip(sources, is_exercise, strict=True) if exercise}
    checks = {
        _name(sources[i]): sources[i + 1]
        for i, exercise in enumerate(is_exercise)
        if exercise and exercise_cells.is_check(cells[i + 1])
    }
    prose = "\n".join(source for cell, source in zip(cells, sources, strict=True) if cell["cell_type"] == "markdown")
    fences = re.findall(r"<summary>Solution</summary>.*?```python\n(.*?)```", prose, re.DOTALL)
    solutions = {name: code for code in fences for name in exercise_cells.defined(code) if name in stubs}
    return SimpleNamespace(
        stubs={name: _answer(code, name, known) for name, code in stubs.items()},
        solutions={name: _answer(code, name, known) for name, code in solutions.items()},
        checks=checks,
    )


def _name(code):
    return exercise_cells.defined(code)[-1]


def _answer(code, name, known):
    namespace = {"torch": torch, "np": np, **known}
    exec(code, namespace)
    return namespace[name]


@pytest.fixture(scope="session")
def exercises_of():
    """Call with a notebook's stem, and with names that its cells use."""
    return read


@pytest.fixture
def verdict(capsys):
    """Run a check and return what it said: the mark and the sentence."""

    def run(check, answer):
        capsys.readouterr()
        passed = check(answer)
        said = capsys.readouterr().out.strip()
        assert passed == said.startswith("✓")
        return said

    return run


def single(value):
    """The same in float32, as most readers compute."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
        return value
    rounded = value.float()
    if rounded.requires_grad:
        rounded.retain_grad()  # an answer may look at it
    return rounded


def in_single_precision(answer):
    """An answer that rounds what it is given, and what it returns."""
    if not callable(answer):
        return answer

    def rounded(*args):
        return single(answer(*map(single, args)))

    return rounded


@pytest.fixture
def holds(exercises_of, verdict):
    """Assert what every exercise owes its reader.

    Call with the notebook's stem, the answer's name, the check, at least three wrong answers as
    ``{"what it did": (answer, "part of the message that fits")}``, and at least one right answer that is written
    otherwise than the solution.
    """

    def run(stem, name, check, wrong, otherwise, **known):
        book = exercises_of(stem, **known)
        assert verdict(check, book.stubs[name]).startswith("… nothing to check yet")
        assert verdict(check, book.solutions[name]).startswith("✓")
        assert verdict(check, in_single_precision(book.solutions[name])).startswith("✓")
        assert re.match(rf"nb\d\d\.{check.__name__}\(", book.checks[name])
        for answer in [otherwise] if callable(otherwise) or not isinstance(otherwise, list) else otherwise:
            assert verdict(check, answer).startswith("✓")
        assert len(wrong) >= 3
        for what, (answer, sentence) in wrong.items():
            said = verdict(check, answer)
            assert said.startswith("✗"), what
            assert sentence in said, what

    return run
