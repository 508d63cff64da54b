"""The counting baselines, by hand; what is time-aware equals a slow statement of it."""

import numpy as np
import pytest
import torch

from rrec_lib.baselines.simple import Chance, Popularity, WindowCooccurrence

N = 5


def test_chance_ties_everything():
    assert Chance(N).scores([{}, {}]).tolist() == [[0] * N] * 2


def test_popularity_counts_training_targets(train):
    assert Popularity(train, N).scores(train[:2]).tolist() == [[0, 3, 1, 1, 0]] * 2


def test_recent_popularity_counts_the_last_days(train):
    assert Popularity(train, N, days=1).counts.tolist() == [0, 1, 0, 1, 0]  # days 4 and 5
    assert Popularity(train, N, days=100).counts.tolist() == Popularity(train, N).counts.tolist()


def test_cooccurrence_counts_what_followed_the_last_item(train, rows):
    scores = WindowCooccurrence(train, N).scores(rows((9, [4, 0], 1, 9), (9, [1], 2, 9)))
    assert scores.round().tolist() == [[0, 2, 0, 0, 0], [0, 0, 1, 1, 0]]
    tiebreak = scores - scores.round()
    assert (
        tiebreak.tolist() == [pytest.approx([0, 7.5e-4, 2.5e-4, 2.5e-4, 0], abs=1e-6)] * 2
    )  # popularity over its maximum + 1


def test_a_window_looks_further_back_and_forgets_with_distance(train, rows):
    """From 1: 2 and 3 once each. From 0, one place back: 1 twice, and 2 and 3 at half weight, seen from two back."""
    scores = WindowCooccurrence(train, N, length=2, decay=0.5).scores(rows((9, [0, 1], 2, 9)))
    from_last = np.array([0, 0, 1, 1, 0])
    from_first = np.array([0, 2, 0.5, 0.5, 0])
    assert scores[0].numpy() == pytest.approx(from_last + 0.5 * from_first, abs=1e-3)


def random_rows(rows, seed, count):
    rng = np.random.default_rng(seed)
    return rows(
        *((int(rng.integers(4)), rng.integers(0, N, 3).tolist(), int(rng.integers(N)), int(rng.integers(12)))
          for _ in range(count))
    )  # fmt: skip


@pytest.mark.parametrize("days", [None, 3])
def test_time_aware_popularity_knows_what_was_known(rows, days):
    past, future = random_rows(rows, 0, 30), random_rows(rows, 1, 20)
    found = Popularity(past, N, days, later=future).scores(future)
    for row, example in zip(found, future, strict=True):
        now = example["target_timestamp"]
        known = [
            e["target"] for e in past + future
            if e["target_timestamp"] < now and (days is None or e["target_timestamp"] >= now - days * 86_400)
        ]  # fmt: skip
        assert row.tolist() == np.bincount(known, minlength=N).tolist()
    assert not torch.equal(found, Popularity(past, N, days).scores(future))


def test_time_aware_cooccurrence_knows_what_was_known(rows):
    past, future = random_rows(rows, 2, 30), random_rows(rows, 3, 20)
    model = WindowCooccurrence(past, N, 2, 0.5, later=future)
    found = model.scores(future)
    for row, example in zip(found, future, strict=True):
        known = [e for e in past + future if e["target_timestamp"] < example["target_timestamp"]]
        slow = WindowCooccurrence(known, N, 2, 0.5)
        expected = slow.scores([example])[0] - slow.tiebreak
        assert (row - model.tiebreak).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert torch.equal(found, model.scores(future))  # asked again, nothing is counted twice
