"""Recommenders behind a curtain, for exercise 07.8: their controls tell what they do with a reasoning."""

from collections.abc import Callable

import numpy as np

Box = Callable[[str], tuple[np.ndarray, np.ndarray]]
DIAGNOSES = ("reads", "any text", "ignores")
USERS = 60


def control_box(kind: str, rng: np.random.Generator) -> Box:
    """Make a recommender of which only the controls can be seen.

    Users differ more than controls do, and differences that are none are as large as luck makes them: an interval over
    users holds 0, whether their rows count alike or they do; one over rows, as if rows of one user were not alike, does
    not.

    Args:
        kind: one of :data:`DIAGNOSES`.
        rng: of users, rows and noise.

    Returns:
        A function from ``"own"``, ``"none"`` or ``"other"`` to a metric (E,), in any unit, and the users (E,) of
        the same rows.
    """
    if kind not in DIAGNOSES:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(DIAGNOSES)}")
    users = np.repeat(np.arange(USERS), rng.integers(1, 9, USERS))
    scale, own = rng.uniform(0.3, 2.0), rng.normal(0.5, 0.3, USERS)[users] + rng.normal(0, 0.07, len(users))
    values = {"own": own}
    for control, matters in {"none": kind != "ignores", "other": kind == "reads"}.items():
        noise, luck = _noise(users, rng)
        values[control] = own - noise - (rng.uniform(0.10, 0.14) if matters else luck)
    return lambda control: (scale * values[control], users.copy())


def _noise(users: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """(E,) of mean 0 over rows and over users' means, and a gap that an interval over users can't tell from 0."""
    rows = np.bincount(users)
    while True:
        noise = rng.normal(0, 0.07, USERS)[users] + rng.normal(0, 0.07, len(users))
        sums = [noise.sum(), (np.bincount(users, noise) / rows).sum()]
        shift, slope = np.linalg.solve([[len(users), (rows**2).sum()], [USERS, len(users)]], sums)
        noise -= (shift + slope * rows)[users]
        of_users = np.bincount(users, noise)
        errors = np.sqrt((of_users**2).sum()) / len(users), (of_users / rows).std() / np.sqrt(USERS)
        low, high = 1.15 * noise.std() / np.sqrt(len(users)), 0.75 * min(errors)  # times 1.96: where 0 falls out
        if low < high:
            return noise, 1.96 * np.sqrt(low * high)
