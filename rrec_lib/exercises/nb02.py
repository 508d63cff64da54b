"""Checks for the exercises of notebook 02, data preparation."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rrec_lib.data.events import k_core_places
from rrec_lib.data.examples import temporal_split
from rrec_lib.exercises.base import Trial, draws, near, report, require, require_reason

SplitAnswer = Callable[[Sequence[int]], Sequence[int]]
ShareAnswer = Callable[[Sequence[int], Sequence[int]], float]
Event = tuple[int, int, int]  # user, item, time
Pair = tuple[int, int]  # user, item

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
    generator = draws()
    drawn = [torch.randint(0, 40, (size,), generator=generator).tolist() for size in (17, 30, 43)]
    for times, hint in [*_SPLIT_CASES, *[(times, "drawn times, in any order, with ties") for times in drawn]]:
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
    generator = draws()
    cases = list(_SHARE_CASES)
    for _ in range(3):
        train, test = (torch.randint(0, 12, (size,), generator=generator).tolist() for size in (9, 5))
        share = float(np.mean([np.mean(np.array(train) >= time) for time in test]))
        cases.append((train, test, share, "drawn times, in any order"))
    for train, test, expected, hint in cases:
        given = answer(list(train), list(test))
        message = f"for training times {train} and test times {test} your function gave {given}: {hint}"
        assert near(given, expected), message


@report
def check_repeats(answer: Callable[[Sequence[Event]], Sequence[bool]]) -> None:
    """Right: a repeat is what this user had before, and before means earlier.

    Args:
        answer: takes events (user, item, time) in any order; returns whether each is a repeat, in the same order.
    """
    cases: list[list[Event]] = [
        [(1, 7, 1), (1, 7, 5), (1, 7, 9)],
        [(1, 7, 1), (2, 7, 5)],
        [(1, 7, 5), (1, 7, 1)],
        [(1, 7, 5), (1, 7, 5), (1, 8, 6)],
    ]
    generator = draws()
    for _ in range(4):
        drawn = [torch.randint(0, top, (12,), generator=generator).tolist() for top in (3, 3, 6)]
        cases.append(list(zip(*drawn, strict=True)))
    trials: list[Trial] = []
    for log in cases:
        given = [bool(value) for value in answer(list(log))]
        assert len(given) == len(log), f"{len(log)} events went in, {len(given)} answers came out"
        right = [any(e[:2] == other[:2] and other[2] < e[2] for other in log) for e in log]
        known = {
            "another user's event is no repeat": [any(e[1] == o[1] and o[2] < e[2] for o in log) for e in log],
            "the events need not come in order: compare times": [
                any(e[:2] == other[:2] for other in log[:i]) for i, e in enumerate(log)
            ],
            "the same second is no past": [
                any(e[:2] == o[:2] and o[2] <= e[2] for j, o in enumerate(log) if j != i) for i, e in enumerate(log)
            ],
            "the first time is no repeat": [sum(e[:2] == other[:2] for other in log) > 1 for e in log],
            "that marks what is new": [not value for value in right],
        }
        trials.append((f"events {log}", given, right, known))
    require(trials)


@report
def check_k_core(answer: Callable[[Sequence[Pair], int], Sequence[Pair]]) -> None:
    """Right: dropped again and again, until nobody and nothing has fewer than k.

    Args:
        answer: takes (user, item) pairs and k; returns the pairs that stay, in their order.
    """
    chain = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4)]  # falls from its end, link by link
    cases: list[tuple[list[Pair], int]] = [(chain, 2), (chain[:4], 2), (chain, 1), (chain[4:], 2)]
    generator = draws()
    for k in (2, 3, 3, 4):
        there = torch.rand(9, 8, generator=generator) < torch.linspace(0.25, 0.75, 8)
        pairs = [(int(user), int(item)) for user, item in there.nonzero()]
        cases.append(([pairs[i] for i in torch.randperm(len(pairs), generator=generator)], k))
    trials: list[Trial] = []
    for pairs, k in cases:
        given = [(int(user), int(item)) for user, item in answer(list(pairs), k)]
        right = _core(pairs, k)
        known = {
            "one pass is not enough: a dropped film can leave a user with too few": _pass(pairs, k),
            "items need k pairs, too": _pass(pairs, k, items=False),
            "users need k pairs, too": _pass(pairs, k, users=False),
            "k pairs are enough": _core(pairs, k + 1),
            "keep the order of the pairs": sorted(right),
        }
        shown = ", ".join(map(str, pairs[:8])) + (" …" if len(pairs) > 8 else "")
        trials.append((f"{len(pairs)} pairs {shown}, k = {k}", given, right, known))
    require(trials, show=lambda pairs: f"{len(pairs)} pairs")


@report
def check_catalogue(answer: Callable[[Sequence[int], Sequence[int], int], Sequence[int]]) -> None:
    """Right: what became popular later doesn't choose the catalogue.

    Args:
        answer: takes the items and times of E events in any order, and a size; returns that many items, best first.
    """
    generator = draws()
    cases = [
        ([1, 1, 2, 2, 2], [1, 2, 3, 4, 5], 1),
        ([3, 1, 1, 1, 3], [1, 9, 8, 9, 2], 2),
        ([3, 1, 3, 1], [1, 2, 3, 4], 1),
    ]
    for _ in range(6):
        times = torch.randint(0, 20, (24,), generator=generator) ** 2  # squares: the middle of the span is late
        late = times >= times.median()
        items = torch.where(late, 5 - torch.randint(0, 4, (24,), generator=generator) // 2, 3)
        early = torch.randint(0, 5, (24,), generator=generator)
        cases.append((torch.where(late, items, early).tolist(), times.tolist(), 3))
    trials: list[Trial] = []
    for events, moments, size in cases:
        given = [int(item) for item in answer(list(events), list(moments), size)]
        item, time, place = np.array(events), np.array(moments), int(np.ceil(0.8 * len(events)))
        cut, short, span = (
            np.sort(time)[place - 1],
            np.sort(time)[int(0.8 * len(events)) - 1],
            time.min() + 0.8 * (time.max() - time.min()),
        )
        right = _most_rated(item[time <= cut], size)
        known = {
            "that counts the whole log, its future included": _most_rated(item, size),
            "the first 80 % of the rows are not the earliest": _most_rated(item[:place], size),
            "80 % of the events, not of the time they span": _most_rated(item[time <= span], size),
            "0.8 E is rounded up": _most_rated(item[time <= short], size),
            "events of the cut's own moment count": _most_rated(item[time < cut], size),
            "best first, and the smaller number where counts are equal": sorted(right),
        }
        trials.append((f"items {events} at times {moments}", given, right, known))
    require(trials)


@report
def check_shown(answer: tuple[float, float, float, str]) -> None:
    """Right: rows split at random print most answers in the training prompts.

    Args:
        answer: the share of test targets that a training history of the same user holds, for rows at random, for each
            user's last and for one moment in time; and the letter of the reason for the first.
    """
    assert len(answer) == 4, f"four things, three shares and a letter, not {len(answer)}"
    rows, last, moment, letter = answer
    assert rows > 0.15, f"rows at random, {rows:g}: a tenth is the share of test rows; each is in several histories"
    assert rows > 0.75, (
        f"rows at random, {rows:g}: about half of training lies later than a test row, but one later row of the same "
        "user is enough, and nine of ten rows are training"
    )
    assert rows <= 1, f"a share is at most 1, you said {rows:g}"
    assert last < 0.05, f"each user's last, {last:g}: after a user's last example nothing of theirs can hold it"
    assert moment < 0.05, f"one moment, {moment:g}: every history in training ends before the first test target"
    require_reason(
        letter,
        "b",
        {
            "a": "a smaller test set has fewer targets, and as large a share of them shown",
            "c": "the histories that were counted are the same user's",
            "d": "the window cuts what lies far back, and the next few examples are near",
        },
    )


def _pass(pairs: Sequence[Pair], k: int, users: bool = True, items: bool = True) -> list[Pair]:
    """Drop once what has fewer than k pairs."""
    user, item = (np.array(column) for column in zip(*pairs, strict=True))
    enough = np.ones(len(pairs), dtype=bool)
    if users:
        enough &= np.bincount(user)[user] >= k
    if items:
        enough &= np.bincount(item)[item] >= k
    return [pair for pair, stays in zip(pairs, enough, strict=True) if stays]


def _core(pairs: Sequence[Pair], k: int) -> list[Pair]:
    """The k-core by the library's rule."""
    user, item = (np.array(column) for column in zip(*pairs, strict=True))
    return [pairs[place] for place in k_core_places(user, item, np.arange(len(pairs)), k)]


def _most_rated(items: np.ndarray, size: int) -> list[int]:
    """The most frequent items, best first, the smaller number where counts are equal."""
    names, counts = np.unique(items, return_counts=True)
    return names[np.lexsort((names, -counts))][:size].tolist()
