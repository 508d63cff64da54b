"""Differences over users and seeds, effect sizes, detectable differences, and the sentence."""

import dataclasses

import numpy as np
import pytest

from rrec_lib.evaluation.compare import (
    Comparison,
    arm_interval,
    cap_rows,
    compare,
    compare_arms,
    detectable_difference,
    group_reports,
    user_spread,
)
from rrec_lib.evaluation.intervals import Interval, paired_bootstrap
from rrec_lib.evaluation.reports import Report


def report(name, greater, users=None, seed=0, **changes):
    greater = np.asarray(greater, dtype=np.int64)
    users = np.arange(len(greater)) if users is None else np.asarray(users)
    fields = {"repeats": 0, "samples": 200, "seed": 0, "n_items": 1000, "examples": "e"}
    fields["run"] = {"seed": seed, "data": "d"}
    return Report(name, greater, np.ones_like(greater), users, **{**fields, **changes})


def arms(seeds, spread, users=200, gain=0.0):
    """Reports whose hit rates differ between seeds by ``spread`` and between arms by ``gain``."""
    rng = np.random.default_rng(0)
    rates = 0.4 + spread * rng.standard_normal((2, seeds))
    rates[0] += gain
    return [
        [report(name, np.where(rng.random(users) < rate, 0, 100), seed=s) for s, rate in enumerate(row)]
        for name, row in zip("ab", rates, strict=True)
    ]


def test_one_report_each_is_the_paired_bootstrap():
    [a], [b] = arms(1, 0.1)
    found = compare([a], [b], "hit@5", 500, seed=3)
    plain = paired_bootstrap(a.values["hit@5"], b.values["hit@5"], a.users, 500, seed=3)
    assert found.interval.mean == pytest.approx(plain.mean)
    assert (found.interval.low, found.interval.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    assert found.seeds == (1, 1)
    alone = arm_interval([a], "hit@5", 500, seed=3)
    assert alone.mean == pytest.approx(a.values["hit@5"].mean())


def test_resampling_users_and_seeds_agrees_with_the_definition():
    """Slowly: draw users once for both arms, seeds for each arm, take the means of what was drawn."""
    first, second = arms(3, 0.1, users=40)
    users = np.random.default_rng(1).integers(0, 15, 40)
    first, second = ([dataclasses.replace(r, users=users) for r in arm] for arm in (first, second))
    found = compare(first, second, "hit@5", 4000, seed=0)
    values = [np.stack([r.values["hit@5"] for r in arm]) for arm in (first, second)]
    rng, rows = np.random.default_rng(9), [np.flatnonzero(users == user) for user in np.unique(users)]
    slow = []
    for _ in range(4000):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        a, b = (arm[rng.integers(0, 3, 3)][:, drawn].mean() for arm in values)
        slow.append(a - b)
    low, high = np.quantile(slow, [0.025, 0.975])
    assert found.interval.mean == pytest.approx(values[0].mean() - values[1].mean())
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=0.02)
    assert (found.interval.users, found.interval.rows) == (len(rows), 40)


def test_seeds_that_differ_widen_the_interval():
    """Negative control: averaging the seeds first and resampling users alone is much too narrow."""
    first, second = arms(5, 0.15, users=2000)
    both = compare(first, second, "hit@5", 2000).interval
    a, b = (np.mean([r.values["hit@5"] for r in arm], axis=0) for arm in (first, second))
    users_alone = paired_bootstrap(a, b, first[0].users, 2000, 0)
    assert both.mean == pytest.approx(users_alone.mean)
    assert both.high - both.low > 3 * (users_alone.high - users_alone.low)


def test_intervals_over_users_and_seeds_cover():
    """Two arms of the same true rate: the interval excludes 0 rarely, though five seeds are few."""
    rng, wrong = np.random.default_rng(0), 0
    for trial in range(100):
        one, other = (
            [
                report(name, np.where(rng.random(150) < 0.4 + 0.08 * rng.standard_normal(), 0, 99), seed=s)
                for s in range(5)
            ]
            for name in "ab"
        )
        interval = compare(one, other, "hit@5", 300, seed=trial).interval
        wrong += interval.low > 0 or interval.high < 0
    assert wrong <= 16


def test_effect_size_and_relative_difference_by_hand():
    a, b = report("a", [0, 0, 0, 99]), report("b", [0, 99, 99, 99])
    found = compare([a], [b], "hit@1", 200)
    assert found.interval.mean == pytest.approx(0.5)
    assert found.d_z == pytest.approx(0.5 / np.std([0, 1, 1, 0], ddof=1))
    assert found.relative == pytest.approx(2)
    same = compare([a], [a], "hit@1", 200)
    assert (same.d_z, same.relative, same.interval.mean) == (None, 0, 0)
    assert compare([a], [report("none", [99] * 4)], "hit@1", 200).relative is None
    rows = report("a", [0, 0, 99], users=[0, 0, 1]), report("b", [99, 99, 99], users=[0, 0, 1])
    by_hand = pytest.approx(2 / 3 / (np.std([2 - 4 / 3, 0 - 2 / 3], ddof=1) / 1.5))  # two users, 1.5 rows each
    assert compare([rows[0]], [rows[1]], "hit@1", 200).d_z == by_hand


@pytest.mark.parametrize(
    ("bounds", "seeds", "sentence"),
    [
        ((0.012, 0.004, 0.020), (5, 5), "better by 0.012, 95 % 0.004 to 0.020, 5 seeds"),
        ((-0.012, -0.020, -0.004), (1, 1), "worse by 0.012, 95 % 0.004 to 0.020, 1 seed"),
        ((0.002, -0.004, 0.008), (5, 1), "no difference can be shown: 0.002, 95 % −0.004 to 0.008, 5 against 1 seeds"),
        ((0, 0, 0), (1, 1), "no difference can be shown: 0.000, 95 % 0.000 to 0.000, 1 seed"),
        ((2e-7, -0.008, 0.008), (1, 1), "no difference can be shown: 0.000, 95 % −0.008 to 0.008, 1 seed"),
        ((0.0004, 0.00012, 0.0007), (1, 1), "better by 0.0004, 95 % 0.0001 to 0.001, 1 seed"),
    ],
)
def test_the_sentence(bounds, seeds, sentence):
    mean, low, high = bounds
    interval = Interval(mean, low, high, level=0.95, users=10, rows=10)
    assert Comparison("ndcg@20", ("a", "b"), interval, None, None, seeds).sentence == sentence


def test_arms_are_grouped_by_name_and_deterministic_results_count_once():
    trained = [report("model", [seed, 3, 4], seed=seed) for seed in (0, 1)]
    fixed = [report("popularity", [1, 1, 1], seed=seed) for seed in (0, 1)]
    arms = group_reports([fixed[0], trained[0], fixed[1], trained[1]])
    assert {name: len(arm) for name, arm in arms.items()} == {"popularity": 1, "model": 2}
    assert list(arms) == ["popularity", "model"]
    with pytest.raises(ValueError, match="two different reports are called 'model' and have seed 0"):
        group_reports([trained[0], report("model", [9, 9, 9], seed=0)])
    other = report("model", [9, 9, 9], seed=2)
    with pytest.raises(ValueError, match="'model' were made with different settings: no seeds of one arm"):
        group_reports([trained[0], dataclasses.replace(other, run={**other.run, "settings": {"hours": 2}})])
    with pytest.raises(ValueError, match="no report to compare"):
        group_reports([])
    table = compare_arms(arms, "mrr", 200)
    assert list(table) == ["popularity", "model"]
    assert table["popularity"][1] is None
    difference = table["model"][1]
    assert difference
    assert difference.names == ("model", "popularity")
    assert difference.seeds == (2, 1)


def test_a_cap_takes_the_same_rows_of_every_report_and_no_more_of_a_user():
    users = np.repeat([0, 1, 2], [50, 3, 10])
    first = report("a", np.arange(63), users, slices={"time": {}}, lists={"coverage@5": 1})
    second = report("b", np.arange(63), users)
    kept = cap_rows(first, 5)
    assert np.bincount(kept.users).tolist() == [5, 3, 5]
    assert (users[kept.n_greater] == kept.users).all()  # a row's rank goes with its user
    assert np.array_equal(kept.n_greater, cap_rows(second, 5).n_greater)
    assert not np.array_equal(kept.n_greater, cap_rows(first, 5, seed=1).n_greater)
    assert (kept.lists, kept.slices) == ({}, {})
    assert len(cap_rows(first, 50).users) == 63
    assert compare([kept], [cap_rows(second, 5)], "hit@5").interval.rows == 13
    with pytest.raises(ValueError, match="different examples"):
        compare([kept], [second], "hit@5")
    with pytest.raises(ValueError, match="at least one row, got 0"):
        cap_rows(first, 0)


def test_unlike_reports_are_refused():
    a = report("a", [0, 1, 2])
    for other, message in (
        (report("b", [0, 1, 2], examples="f"), "different examples"),
        (report("b", [0, 1, 2], n_items=9), "different examples"),
        (report("b", [0, 1, 2], run={"data": "other"}), "different data .hashes d and other"),
    ):
        with pytest.raises(ValueError, match=message):
            compare([a], [other], "mrr", 100)
        with pytest.raises(ValueError, match=message):
            group_reports([a, other])
        with pytest.raises(ValueError, match=message):
            a.difference(other, "mrr")
    with pytest.raises(ValueError, match="unknown metric 'ndcg@7'; choose one of hit@1, ndcg@1"):
        compare([a], [a], "ndcg@7", 100)
    for arm, samples in (([], 100), ([a], 0)):
        with pytest.raises(ValueError, match="at least one report in each arm"):
            compare([a], arm, "mrr", samples)


def test_the_spread_gives_the_bootstrap_its_width():
    rng = np.random.default_rng(0)
    users = rng.integers(0, 300, 1500)
    values = rng.random(1500) + 0.02 * (users % 40)
    interval = paired_bootstrap(values, np.zeros(1500), users, 4000, 0)
    count = len(np.unique(users))
    assert 2 * 1.96 * user_spread(values, users) / count**0.5 == pytest.approx(interval.high - interval.low, rel=0.06)
    assert user_spread([1, 3], ["x", "y"]) == pytest.approx(2**0.5)
    assert user_spread([2, 2, 2], ["x", "y", "y"]) == 0


def test_a_detectable_difference_is_detected_as_often_as_said():
    assert detectable_difference(100, 1.0) == pytest.approx(0.2802, abs=1e-4)  # (1.960 + 0.842) / 10
    assert detectable_difference(400, 1.0) == pytest.approx(detectable_difference(100, 1.0) / 2)
    assert detectable_difference(100, 2.0, power=0.5) == pytest.approx(2 * 0.196, abs=1e-3)
    true, rng = detectable_difference(100, 1.0), np.random.default_rng(0)
    shown = np.mean([abs(np.mean(rng.normal(true, 1, 100))) > 0.196 for _ in range(4000)])
    assert shown == pytest.approx(0.8, abs=0.03)
    for bad in ((1, 1.0), (10, -1.0), (10, float("nan"))):
        with pytest.raises(ValueError, match="at least 2 users"):
            detectable_difference(*bad)
    for share in ({"power": 1.0}, {"level": 0.0}):
        with pytest.raises(ValueError, match="between 0 and 1"):
            detectable_difference(10, 1.0, **share)
