"""Checks for the exercises of notebook 09, ablations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rrec_lib.exercises.base import report
from rrec_lib.experiments.published import contradictions, published_rows
from rrec_lib.lab import LabConfig, make_world, run_arm
from rrec_lib.lab.world import CLASS_DIGIT, HISTORY, SLOT_DIGIT, write_tallies

TINY = LabConfig(
    steps=4, users=6, group_size=2, learning_rate=2e-2, warmup_steps=0, teach_steps=2, teach_mixed_steps=1,
    teach_rows=8, width=16, layers=1, heads=2, train_users=200, valid_users=8, test_users=64,
)  # fmt: skip
RECPO_KNOBS = (
    "beta", "reward_k", "group_size", "estimator", "updates_per_batch", "best_only", "temperature",
    "item_temperature", "token_normalization", "learning_rate", "clip_eps",
)  # fmt: skip

_IMPOSSIBLE = (
    ((400, 410, 500, 440, 600, 465), "an NDCG can't be above the Hit beside it"),
    ((400, 250, 390, 250, 600, 305), "a Hit can't fall as the cutoff grows"),
    ((400, 130, 500, 162, 600, 187), "a hit among the first 5 earns at least 1/log2(6)"),
    ((400, 250, 500, 300, 600, 325), "a hit at 10 and not yet at 5 earns at most 1/log2(7)"),
    ((400, 250, 500, 270, 600, 295), "a hit at 10 and not yet at 5 earns at least 1/log2(11)"),
    ((400, 250, 500, 282, 600, 315), "a hit at 20 and not yet at 10 earns at most 1/log2(12)"),
    ((400, 250, 500, 282, 600, 300), "a hit at 20 and not yet at 10 earns at least 1/log2(21)"),
)
_POSSIBLE = (
    ((400, 400, 400, 400, 400, 400), "every hit may stand at rank 1"),
    ((264, 161, 397, 203, 615, 257), "each step lies between its bounds"),
    ((100, 38, 101, 39, 102, 40), "the figures are rounded, so a difference of two may be off by one unit"),
    ((0, 0, 0, 0, 0, 0), "who never hits earns nothing"),
)


@report
def check_tallies(answer: Callable[[Sequence[int], Sequence[int], Sequence[int]], Sequence[int]]) -> None:
    """Right: each sum runs over the items so far, and starts again at 8.

    Args:
        answer: takes a history of four items, the class of every item and the slot of every item; returns the four
            class sums, then the four slot sums.
    """
    world = make_world(seed=5, train=8, valid=1, test=1)
    classes, slots = world.classes.tolist(), world.slots.tolist()
    first = [CLASS_DIGIT] * HISTORY + [SLOT_DIGIT] * HISTORY
    for history, tokens in zip(world.train.histories, write_tallies(world, world.train.histories), strict=True):
        given = answer(history.tolist(), list(classes), list(slots))
        given, right = [int(number) for number in given], (tokens - tokens.new_tensor(first)).tolist()
        assert len(given) == 2 * HISTORY, f"four class sums and four slot sums make 8 numbers, got {len(given)}"
        assert all(0 <= number < 8 for number in given), f"a tally runs from 0 to 7, got {given}: take it modulo 8"
        interleaved = [right[i + half] for i in range(HISTORY) for half in (0, HISTORY)]
        assert given != interleaved, "the class sums come first, all four of them, then the slot sums"
        assert given == right, f"history {history.tolist()}: expected {right}, got {given}"


@report
def check_clip_knobs(answer: Callable[[], Mapping[str, Any]]) -> None:
    """Right: behind the first update the policy is no longer the one that sampled, so the clip has something to hold.

    Args:
        answer: returns knobs of RecPO by name. They are set in a tiny lab, which then trains with a tight clip and with
            none.
    """
    given = answer()
    knobs = dict(given)
    strange = sorted(set(knobs) - set(RECPO_KNOBS))
    assert not strange, f"{', '.join(strange)}: turn knobs of RecPO only: {', '.join(RECPO_KNOBS)}"
    config = replace(TINY, **knobs)
    most = 64
    size = config.users * config.group_size * config.updates_per_batch
    assert size <= most * TINY.users, (
        f"keep group_size · updates_per_batch at {most} or below, or this check takes long"
    )
    tight, loose = (run_arm(replace(config, clip_eps=eps), "full", 0).final["own"] for eps in (0.01, 1e6))
    assert not np.array_equal(tight.n_greater, loose.n_greater), (
        f"{knobs}: clip_eps 0.01 and 1,000,000 train the same model; every ratio is still 1 when the gradient is taken"
    )


@report
def check_impossible(answer: Callable[[Sequence[float]], bool]) -> None:
    """Right: so 22 of the paper's 60 rows, as they were read, can't be right with one target per example.

    Args:
        answer: takes Hit and NDCG in turn at 5, 10 and 20, rounded to whole units, and returns whether one target per
            example makes that impossible.
    """
    for row, hint in _IMPOSSIBLE:
        assert answer(list(row)), f"{row} passes, and can't be right: {hint}"
    for row, hint in _POSSIBLE:
        assert not answer(list(row)), f"{row} is refused, and can be right: {hint}"
    for table, place, name, figures in published_rows():
        expected = contradictions(figures)
        why = "; ".join(expected.values()) or "nothing in it is impossible"
        assert bool(answer(list(figures))) == bool(expected), f"{table}, {place}, {name}, {list(figures)}: {why}"
