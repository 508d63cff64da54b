"""Notebook 07's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import numpy as np
import pytest

from rrec_lib.evaluation.intervals import bootstrap_mean_interval
from rrec_lib.exercises import nb07

EXERCISES = {"my_difference": nb07.check_difference, "my_donors": nb07.check_donors}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("07_evaluation")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb07.{EXERCISES[name].__name__}({name});"


def interval(values, owners, draws):
    found = bootstrap_mean_interval(values, owners, draws, 1)
    return found.mean, found.low, found.high


def over_rows(a, b, users, draws, rng):
    return interval(a - b, np.arange(len(users)), draws)


def unpaired(a, b, users, draws, rng):
    (mean_a, low_a, high_a), (mean_b, low_b, high_b) = interval(a, users, draws), interval(b, users, draws)
    return mean_a - mean_b, low_a - high_b, high_a - low_b


def backwards(a, b, users, draws, rng):
    return interval(b - a, users, draws)


def of_user_means(a, b, users, draws, rng):
    means = np.array([(a - b)[users == user].mean() for user in np.unique(users)])
    return interval(means, np.arange(len(means)), draws)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [(over_rows, "resampled rows"), (unpaired, "too wide"), (backwards, "mean difference"), (of_user_means, "mean")],
)
def test_wrong_differences(answer, hint, verdict):
    said = verdict(nb07.check_difference, answer)
    assert said.startswith("✗")
    assert hint in said


WRONG_DONORS = {
    "the next row": lambda users: [(i + 1) % len(users) for i in range(len(users))],
    "oneself": lambda users: list(range(len(users))),
    "not around the end": lambda users: [i + 1 for i in range(len(users))],
    "too few": lambda users: [0],
}


@pytest.mark.parametrize("name", WRONG_DONORS)
def test_wrong_donors(name, verdict):
    assert verdict(nb07.check_donors, WRONG_DONORS[name]).startswith("✗")
