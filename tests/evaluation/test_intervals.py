"""Means with bootstrap intervals over users."""

import time

import numpy as np
import pytest
import torch

from rrec_lib.evaluation.intervals import (
    Interval,
    bootstrap_mean_interval,
    bootstrap_mean_intervals,
    paired_bootstrap,
    resampled_totals,
    user_totals,
)


def test_bootstrap_two_users_by_hand():
    """Users A (rows 0, 0, 0) and B (row 1): draws AA, AB, BA, BB give means 0, 1/4, 1/4, 1."""
    interval = bootstrap_mean_interval([0, 0, 0, 1], ["a", "a", "a", "b"], 20_000, seed=0, level=0.4)
    assert interval.mean == 0.25
    assert (interval.low, interval.high) == (0.25, 0.25)  # the middle half of the draws
    wide = bootstrap_mean_interval([0, 0, 0, 1], ["a", "a", "a", "b"], 20_000, seed=0)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_an_interval_in_print():
    interval = Interval(0.0123, -0.0004, 0.02, 0.95, 3, 9)
    assert f"{interval:.3f}" == "0.012 [0.000, 0.020]"
    assert f"{interval:+.4f}" == "+0.0123 [−0.0004, +0.0200]"
    assert f"{interval:.3f to}" == "0.000 to 0.020"
    with pytest.raises(ValueError, match="format"):
        format(interval, ".3q")


def test_bootstrap_is_seeded():
    values, users = np.random.default_rng(0).random(50), np.arange(50)
    first, again, other = (bootstrap_mean_interval(values, users, 500, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_constant_has_no_spread_and_tensors_are_accepted():
    interval = bootstrap_mean_interval(torch.full((6,), 0.5), torch.tensor([1, 1, 2, 2, 3, 9]), 100, seed=0)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_bootstrap_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(40), 5)
    covered = 0
    for trial in range(200):
        values = np.repeat(rng.normal(size=40), 5) + rng.normal(size=200)
        interval = bootstrap_mean_interval(values, users, 300, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_paired_bootstrap_is_that_of_the_differences():
    rng = np.random.default_rng(0)
    users, a = np.repeat(np.arange(20), 3), rng.random(60)
    b = a - 0.1 + 0.01 * rng.random(60)
    paired = paired_bootstrap(a, b, users, 500, seed=1)
    assert paired == bootstrap_mean_interval(a - b, users, 500, seed=1)
    assert 0.08 < paired.low < paired.high < 0.11
    wide = paired_bootstrap(a, b, users, 500, seed=1, level=0.99)
    assert wide.low < paired.low
    assert wide.high > paired.high
    assert wide.level == 0.99


def test_bootstrap_refuses_bad_input():
    with pytest.raises(ValueError, match=r"^values \(3,\) and users \(2,\) must be two lists of the same length$"):
        bootstrap_mean_interval([1, 2, 3], [1, 2], 10, seed=0)
    with pytest.raises(ValueError, match=r"must be two lists of the same length$"):
        bootstrap_mean_interval([[1, 2]], [[1, 2]], 10, seed=0)
    with pytest.raises(ValueError, match=r"^values hold NaN"):
        bootstrap_mean_interval([1, float("nan")], [1, 2], 10, seed=0)
    for users in ([], [4, 4]):
        with pytest.raises(ValueError, match=r"^an interval over users needs at least two of them, got [01]$"):
            bootstrap_mean_interval([0.5] * len(users), users, 10, seed=0)
    for samples, level in ((0, 0.95), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match=r"^need samples >= 1 and 0 < level < 1"):
            bootstrap_mean_interval([0, 1], [0, 1], samples, seed=0, level=level)
    with pytest.raises(ValueError, match=r"^a paired comparison needs the same examples, got \(2,\) and \(1,\)$"):
        paired_bootstrap([0, 1], [0], [0, 1], 10, seed=0)


def test_bootstrap_of_many_users_is_quick_and_small():
    """50,000 users, 200 resamples: a fiftieth of the work that must take less than 5 s on 2 cores."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 50_000, 60_000)
    start = time.perf_counter()
    bootstrap_mean_interval(rng.random(60_000), users, 200, seed=0)
    assert time.perf_counter() - start < 2  # generous: the machine may be busy


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_resampled_means_are_those_of_the_drawn_users_rows(samples):
    values, owner = np.array([0.0, 1.0, 0.5, 0.25, 1.0]), np.array([0, 0, 1, 2, 2])
    rng, rows = np.random.default_rng(5), [values[owner == user] for user in range(3)]
    drawn = rng.integers(0, 3, (samples, 3), dtype=np.int32)
    means = [np.concatenate([rows[user] for user in users]).mean() for users in drawn]
    interval = bootstrap_mean_interval(values, owner, samples, seed=5)
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(means, [0.025, 0.975]), rtol=1e-12)
    assert (interval.low == interval.high) == (samples == 1)


def test_means_drawn_in_chunks_fill_every_place():
    sums, counts = np.arange(400_000.0), np.ones(400_000)
    totals = resampled_totals(np.stack([sums, counts], 1), 5, np.random.default_rng(0))  # two at a time
    means = totals[:, 0] / totals[:, 1]
    assert ((means > 190_000) & (means < 210_000)).all()
    children = zip(np.random.default_rng(0).spawn(3), (2, 2, 1), strict=True)  # a generator for each chunk
    by_hand = [draw.mean() for rng, n in children for draw in rng.integers(0, 400_000, (n, 400_000), dtype=np.int32)]
    np.testing.assert_allclose(means, by_hand, rtol=1e-12)


def test_totals_do_not_depend_on_the_number_of_threads():
    columns, before = np.random.default_rng(0).random((150_000, 2)), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = resampled_totals(columns, 30, np.random.default_rng(1))
        torch.set_num_threads(3)
        three = resampled_totals(columns, 30, np.random.default_rng(1))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(one, three)
    assert not np.array_equal(one, resampled_totals(columns, 30, np.random.default_rng(2)))


def test_intervals_of_several_metrics_are_those_of_each():
    rng = np.random.default_rng(0)
    users, values = rng.integers(0, 20, 90), rng.random((90, 3))
    together = bootstrap_mean_intervals(values, users, 300, seed=4, level=0.9)
    alone = [bootstrap_mean_interval(values[:, column], users, 300, seed=4, level=0.9) for column in range(3)]
    for several, single in zip(together, alone, strict=True):
        assert (several.low, several.high) == pytest.approx((single.low, single.high), rel=1e-12)
        assert several.mean == pytest.approx(single.mean, rel=1e-12)
        assert (several.level, several.users, several.rows) == (0.9, 19, 90)
    assert len({interval.mean for interval in together}) == 3
    assert bootstrap_mean_intervals(values, users, 10, seed=0)[0].level == 0.95


def test_user_totals_by_hand():
    sums, counts = user_totals([[1, 10], [2, 20], [4, 40]], ["b", "a", "b"])
    assert sums.tolist() == [[2, 20], [5, 50]]
    assert counts.tolist() == [1, 2]
    assert counts.dtype == np.float64
    for values in ([1, 2, 3], [[1], [2]]):
        with pytest.raises(ValueError, match=r"need one row for each of the users \(3,\)$"):
            user_totals(values, ["a", "b", "b"])


def test_paired_differences_of_hits_given_as_booleans():
    a, b = [True, False, True], [False, False, True]
    assert paired_bootstrap(a, b, ["x", "y", "z"], 10, 0).mean == pytest.approx(1 / 3)
