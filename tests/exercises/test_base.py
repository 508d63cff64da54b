"""What all checks share: an answer that isn't there yet is told from a wrong one, and from one that breaks."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from rrec_lib import exercises
from rrec_lib.exercises import board
from rrec_lib.exercises.base import report

MODULES = [importlib.import_module(f"rrec_lib.exercises.{m.name}") for m in pkgutil.iter_modules(exercises.__path__)]
CHECKS = {
    f"{module.__name__.split('.')[-1]}.{name}": check
    for module in MODULES
    for name, check in inspect.getmembers(module, inspect.isfunction)
    if name.startswith("check_")
}
PAGE = (Path(__file__).parents[2] / "book" / "instructor" / "index.md").read_text(encoding="utf-8")


def raises(*_):
    raise NotImplementedError("your turn")


FUNCTIONS = {
    "raises": raises,
    "only a docstring": lambda *_: None,
    "dots": lambda *_: ...,
    "half": lambda *_: (1.0, None),
}
VALUES = {"none": None, "blanks": (None, None), "half": [1.0, None, None, None], "dots": (..., ...)}


def test_every_notebook_and_the_board_are_here():
    found = [name.split(".")[0] for name in CHECKS]
    assert set(found) == {"board", *(f"nb{number:02}" for number in range(1, 11))}
    assert all(found.count(name) >= 2 for name in found)


def blanks_for(check):
    """What an untouched stub leaves: a function that isn't written, or values that aren't."""
    (parameter,) = inspect.signature(check).parameters.values()
    return FUNCTIONS if "Callable" in str(parameter.annotation) else VALUES


@pytest.mark.parametrize("name", CHECKS)
def test_an_unanswered_exercise_has_nothing_to_check_yet(name, verdict):
    for blank in [None, *blanks_for(CHECKS[name]).values()]:
        assert verdict(CHECKS[name], blank).startswith("… nothing to check yet")


def test_a_wrong_answer_and_one_that_breaks_are_told_from_a_missing_one(verdict):
    @report
    def check(answer):
        """Right: it is one."""
        assert answer() == 1, "one was asked for"

    assert verdict(check, lambda: 1) == "✓ Right: it is one."
    assert verdict(check, lambda: 2).startswith("✗ one was asked for")
    assert verdict(check, lambda: 1 / 0).startswith("✗ your answer raised ZeroDivisionError")
    assert verdict(check, lambda: 0).startswith("✗")  # 0 is an answer, and so are False and an empty list
    assert verdict(check, lambda: []).startswith("✗")


BOARD: dict[str, tuple[Any, list[Any]]] = {
    "check_rank": ((1, 0.5), [(1, 0.63), (1,), (1, 1 / 3), ("first", "second")]),
    "check_tie": ((0.5, 0.5), [(1, 1), (0, 0), (0.5, 1)]),
    "check_advantages": ((1, -0.333, -0.333, -0.333), [(1, -0.25, -0.25, -0.25), (0.75, -0.25, -0.25, -0.25), (1, 0)]),
    "check_half_widths": ((0.0101, 0.0089), [(0.0050, 0.0044), (0.026, 0.020)]),
}


@pytest.mark.parametrize("name", BOARD)
def test_the_boards_answers(name, verdict):
    right, wrong = BOARD[name]
    check = getattr(board, name)
    assert verdict(check, right).startswith("✓ Right")
    for answer in wrong:
        assert verdict(check, answer).startswith("✗")


def test_the_boards_cells_run_as_printed(capsys):
    cells = re.findall(r"```python\n(my_.*?)```", PAGE, re.DOTALL)
    assert len(cells) == len(BOARD)
    for cell, name in zip(cells, BOARD, strict=True):
        assert f"board.{name}(" in cell
        exec(cell, {})
        assert capsys.readouterr().out.startswith("… nothing to check yet")
