"""The checks of notebook 02: the stub and wrong answers fail, the printed solution passes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrec_lib.exercises.nb02 import check_future_share, check_temporal_split

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "02_data_preparation.ipynb"
CHECKS = {"split_by_time": check_temporal_split, "future_share": check_future_share}


def sources(kind):
    return ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == kind]


def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def define(name, codes):
    """Run the one piece of code that defines a function, and return it."""
    (code,) = [code for code in codes if re.search(rf"^def {name}\(", code, re.MULTILINE)]
    scope: dict[str, Any] = {}
    exec(code, scope)
    return scope[name]


def solutions():
    details = re.findall(r"<summary>Solution</summary>(.*?)</details>", "\n".join(sources("markdown")), re.DOTALL)
    return [fence for text in details for fence in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def stubs():
    return ["".join(cell["source"]) for cell in cells() if "exercise" in cell["metadata"].get("tags", [])]


def test_the_notebook_has_a_stub_a_hint_and_a_solution_for_each_check():
    assert len(stubs()) == len(solutions()) == len(CHECKS)
    assert "\n".join(sources("markdown")).count("<summary>Hint</summary>") == len(CHECKS)
    for check in CHECKS.values():
        assert check.__name__ in "\n".join(sources("code"))


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_passes(name, capsys):
    assert CHECKS[name](define(name, solutions())) is True
    assert capsys.readouterr().out.startswith("✓ Right")


@pytest.mark.parametrize("name", CHECKS)
def test_the_stub_is_not_attempted_yet(name, capsys):
    assert CHECKS[name](define(name, stubs())) is False
    assert "nothing to check yet" in capsys.readouterr().out
    assert CHECKS[name](lambda *lists: None) is False
    assert "nothing to check yet" in capsys.readouterr().out


def by_position(times):
    """Cuts where the place says, through ties."""
    places = np.argsort(times, kind="stable").argsort(kind="stable")
    return [0 if p < len(times) * 8 // 10 else 1 if p < len(times) * 9 // 10 else 2 for p in places]


def tie_to_the_later_side(times):
    ordered, n = sorted(times), len(times)
    return [0 if t < ordered[n * 8 // 10] else 1 if t < ordered[n * 9 // 10] else 2 for t in times]


def takes_the_log_as_sorted(times):
    n = len(times)
    a, b = times[n * 8 // 10 - 1], times[n * 9 // 10 - 1]
    return [0 if t <= a else 1 if t <= b else 2 for t in times]


def returns_sorted_labels(times):
    ordered, n = sorted(times), len(times)
    a, b = ordered[n * 8 // 10 - 1], ordered[n * 9 // 10 - 1]
    return [0 if t <= a else 1 if t <= b else 2 for t in ordered]


def rounds_up(times):
    ordered, n = sorted(times), len(times)
    a, b = ordered[-(-n * 8 // 10) - 1], ordered[-(-n * 9 // 10) - 1]
    return [0 if t <= a else 1 if t <= b else 2 for t in times]


def share_of_the_time_span(times):
    low, high = min(times), max(times)
    return [0 if t <= low + 0.8 * (high - low) else 1 if t <= low + 0.9 * (high - low) else 2 for t in times]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (by_position, "cuts the tie"),
        (tie_to_the_later_side, "belong to train"),
        (takes_the_log_as_sorted, "need not come in order"),
        (returns_sorted_labels, "keeps the order they came in"),
        (rounds_up, "round the place"),
        (share_of_the_time_span, "your function gave"),
        (lambda times: [0], "10 times went in, 1 labels came out"),
    ],
)
def test_wrong_splits_fail_with_a_hint(answer, hint, capsys):
    assert check_temporal_split(answer) is False
    out = capsys.readouterr().out
    assert out.startswith("✗")
    assert hint in out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda train, test: float(np.mean([np.mean(np.array(train) > t) for t in test])), "same second"),
        (lambda train, test: sum(a >= t for a in train for t in test), "your function gave"),
        (lambda train, test: float(np.mean([np.mean(np.array(train) < t) for t in test])), "your function gave"),
        (lambda train, test: float(np.mean(np.array(train) >= min(test))), "for each test target"),
        (lambda train, test: float(np.mean(np.array(train) >= test[0])), "for each test target"),
        (lambda train, test: float(np.mean([np.mean(np.array(train) >= t) for t in set(test)])), "counts once"),
        (lambda train, test: 0.0, "has all of it"),
    ],
)
def test_wrong_shares_fail_with_a_hint(answer, hint, capsys):
    assert check_future_share(answer) is False
    out = capsys.readouterr().out
    assert out.startswith("✗")
    assert hint in out


@pytest.mark.parametrize("check", CHECKS.values())
def test_an_answer_that_raises_does_not_stop_the_notebook(check, capsys):
    assert check(lambda *lists: 1 / 0) is False
    assert "ZeroDivisionError" in capsys.readouterr().out
