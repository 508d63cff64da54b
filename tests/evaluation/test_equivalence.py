"""Verdicts by a margin: each of the four, how often a false one is given, and what is refused."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rrec_lib.evaluation import compare
from rrec_lib.evaluation.equivalence import Decision, decide
from rrec_lib.evaluation.intervals import Interval

USERS = 300


@pytest.fixture(autouse=True)
def any_report(monkeypatch):
    monkeypatch.setattr(compare, "check_same_examples", lambda *reports: None)


def arm(values) -> Any:
    """One run with these values, one row a user."""
    return [SimpleNamespace(metric=lambda name: np.asarray(values), users=np.arange(len(values)))]


def decided(margin, difference, noise, seed=0, **options):
    """Of two arms of five runs that are alike, the second of mean 1, whose difference per user is normal."""
    values = 1 + difference + noise * np.random.default_rng(seed).standard_normal(USERS)
    return decide(arm(values) * 5, arm(np.ones(USERS)) * 5, "x", margin, **options)


@pytest.mark.parametrize(
    ("difference", "noise", "outcome"),
    [
        (0.0, 0.3, "equal"),
        (0.04, 0.1, "equal"),  # shown to be above 0, and too small to matter
        (0.1, 0.3, "better"),
        (-0.1, 0.3, "worse"),
        (0.0, 3.0, "undecided"),
    ],
)
def test_each_verdict(difference, noise, outcome):
    found = decided(0.07, difference, noise, samples=1000)
    assert found.outcome == outcome
    assert found.margin == pytest.approx(0.07)
    assert found.interval.level == pytest.approx(0.9)
    assert found.sentence.startswith(f"{outcome}: ")
    assert found.short == f"{outcome}: {found.interval:.3f}, margin {found.margin:.3f}"


def test_a_difference_at_the_margin_is_rarely_called_equal_and_none_rarely_better():
    """One-sided at 5 %: of 200 trials about 10 go wrong; a 10 % test would have about 20."""
    at_margin = [decided(0.07, 0.07, 0.3, seed, samples=400).outcome for seed in range(200)]
    none = [decided(0.07, 0.0, 3.0, seed, samples=400).outcome for seed in range(200)]
    assert at_margin.count("equal") <= 17
    assert none.count("better") <= 17
    assert none.count("worse") <= 17
    assert at_margin.count("better") > 100


def test_settings_that_decide_nothing_are_refused():
    for margin, alpha in ((0, 0.05), (-0.1, 0.05), (0.07, 0.5), (float("nan"), 0.05)):
        with pytest.raises(ValueError, match="margin above 0"):
            decided(margin, 0.0, 1.0, alpha=alpha)


@pytest.mark.parametrize(("runs", "said"), [(1, " (of one run)"), (4, " (of 4 runs)"), (5, "")])
def test_what_few_runs_decide_is_said_of_them(runs, said):
    interval = Interval(0.01, 0.005, 0.015, 0.9, 9, 20)
    assert Decision("better", interval, 0.001, runs).short == f"better{said}: 0.010 [0.005, 0.015], margin 0.001"
    assert Decision("better", interval, 0.001, runs).sentence.startswith(f"better{said}: 0.010")
    assert Decision("undecided", interval, 0.001, runs).short.startswith("undecided: ")
    found = decide(arm(np.ones(USERS)) * runs, arm(np.ones(USERS)) * 5, "x", 0.1, samples=20)
    assert (found.outcome, found.runs) == ("equal", runs)
