"""Checks for the exercises of notebook 07, evaluation."""

from collections.abc import Callable, Sequence

import numpy as np

from rrec_lib.evaluation.intervals import paired_bootstrap
from rrec_lib.exercises.base import report


@report
def check_difference(
    answer: Callable[[np.ndarray, np.ndarray, np.ndarray, int, np.random.Generator], tuple[float, float, float]],
) -> None:
    """Right: users are drawn with all their rows, and the two recommenders share the draw.

    Args:
        answer: takes values (E,), values (E,), users (E,), a number of draws and a generator; returns mean, low, high.
    """
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(30), rng.integers(1, 12, 30))
    b = 5 * rng.normal(size=30)[users]  # large differences between users, shared by both recommenders
    a = b + 0.2 + 0.5 * rng.normal(size=30)[users] + 0.02 * rng.normal(size=len(users))
    value = answer(a.copy(), b.copy(), users.copy(), 4000, np.random.default_rng(1))
    mean, low, high = (float(x) for x in value)
    expected = paired_bootstrap(a, b, users, 4000, seed=1)
    assert abs(mean - expected.mean) < 1e-9, f"expected the mean difference {expected.mean:.4f}, got {mean:.4f}"
    width, right = high - low, expected.high - expected.low
    rows = paired_bootstrap(a, b, np.arange(len(users)), 4000, seed=1)
    assert width < 3 * right, "far too wide: take the difference row by row before resampling"
    assert width > (right + rows.high - rows.low) / 2, "too narrow: you resampled rows; draw users with all their rows"
    close = max(abs(low - expected.low), abs(high - expected.high)) < 0.1 * right
    assert close, f"expected about [{expected.low:.3f}, {expected.high:.3f}], got [{low:.3f}, {high:.3f}]"


@report
def check_donors(answer: Callable[[Sequence[int]], Sequence[int]]) -> None:
    """Right: nobody gets a reasoning of their own.

    Args:
        answer: takes the users of E rows, returns E row indices.
    """
    for users in ([1, 2, 3], [1, 1, 2, 2, 2, 3], [5, 4, 4, 5], [7, 7, 7, 8]):
        donors = answer(list(users))
        donors = [int(donor) for donor in donors]
        assert len(donors) == len(users), f"{len(users)} rows need {len(users)} donors, got {len(donors)}"
        assert all(0 <= donor < len(users) for donor in donors), f"{donors} points outside the {len(users)} rows"
        own = [i for i, donor in enumerate(donors) if users[donor] == users[i]]
        if own:
            raise AssertionError(f"users {users}: row {own[0]} got a reasoning of the same user ({donors})")
