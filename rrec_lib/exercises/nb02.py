"""Checks for the exercises of notebook 02, data preparation."""

from collections.abc import Callable, Sequence

import numpy as np

from rrec_lib.data.examples import temporal_split
from rrec_lib.exercises.base import report

SplitAnswer = Callable[[Sequence[int]], Sequence[int]]
ShareAnswer = Callable[[Sequence[int], Sequence[int]], float]

# Times to split, and what a wrong answer to each has most likely overlooked.
_SPLIT_CASES = (
    ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "ten different times should give eight 0s, one 1 and one 2"),
    ([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], "the times need not come in order, and the answer keeps the order they came in"),
    ([1, 2, 3, 4, 5, 6, 7, 8, 8, 10], "the boundary after place 8 cuts the tie of the two 8s; both belong to train"),
    ([1, 2, 3, 4, 5, 6, 7, 8, 9, 9], "the boundary after place 9 cuts the tie of the two 9s; both belong to valid"),
    ([1, 2, 3, 4, 5, 6, 7, 7, 7, 7], "one long tie takes in both boundaries; all of it belongs to train"),
    ([3 * n for n in range(25)], "25 examples give 20, 2 and 3: round the place of each boundary down"),
)

_SHARE_CASES = (
    ([1, 2, 3, 4], [5], 0.0, "a test target after all of training has no training event in its future"),
    ([5, 6, 7, 8], [4], 1.0, "a test target before all of training has all of it in its future"),
    ([1, 2, 3, 4], [3], 0.5, "a training event of the same second is not in the past: it counts"),
    ([2, 5, 5, 8], [4, 9, 10], 0.25, "take the share for each test target, then the mean over all of them"),
    ([8, 2, 5, 5], [10, 4, 9], 0.25, "neither list need be in order"),
    ([1, 2], [0, 0, 0, 3], 0.75, "every test target counts once, whether or not another has the same time"),
)


@report
def check_temporal_split(answer: SplitAnswer) -> None:
    """Right: the split follows time alone and never cuts a tie.

    Args:
        answer: the reader's function from times to 0 (train), 1 (valid) or 2 (test).
    """
    for times, hint in _SPLIT_CASES:
        given = answer(list(times))
        expected = temporal_split(np.array(times)).tolist()
        found = [int(value) for value in given]
        assert len(found) == len(times), f"{len(times)} times went in, {len(found)} labels came out"
        assert found == expected, f"for {times} your function gave {found}: {hint}"


@report
def check_future_share(answer: ShareAnswer) -> None:
    """Right: that is how much of its future a recommender was trained on.

    Args:
        answer: the reader's function from training times and test times to a share.
    """
    for train, test, expected, hint in _SHARE_CASES:
        given = answer(list(train), list(test))
        message = f"for training times {train} and test times {test} your function gave {given}: {hint}"
        assert abs(float(given) - expected) < 1e-9, message
