"""Bands of a test set: each row stands in one band of each way of splitting."""

import numpy as np

from rrec_lib.evaluation.slices import example_slices, popularity_thirds


def example(seen, target, time=None):
    return {"seen": list(range(seen)), "target": target, **({} if time is None else {"target_timestamp": time})}


def test_bands_of_the_history_begin_where_they_say():
    found = example_slices([example(n, 0) for n in (0, 1, 5, 6, 10, 11, 20, 21, 50, 51, 900)])
    assert list(found) == ["history length"]  # no times, no counts
    assert {label: rows.nonzero()[0].tolist() for label, rows in found["history length"].items()} == {
        "0": [0], "1 to 5": [1, 2], "6 to 10": [3, 4], "11 to 20": [5, 6], "21 to 50": [7, 8], "51 or more": [9, 10]
    }  # fmt: skip


def test_targets_by_popularity_and_cold_ones():
    counts = np.array([0, 1, 1, 1, 3, 3])
    found = example_slices([example(2, target) for target in range(6)], counts)
    popular = {label: rows.nonzero()[0].tolist() for label, rows in found["target popularity"].items()}
    assert popular == {"never in training": [0], "tail": [1, 2, 3], "head": [4, 5]}
    cold = {label: rows.nonzero()[0].tolist() for label, rows in found["cold items"].items()}
    assert cold == {"never in training": [0], "in training": [1, 2, 3, 4, 5]}


def test_thirds_hold_a_third_of_the_training_targets():
    counts = np.random.default_rng(0).permutation(np.arange(1, 3001))
    parts = popularity_thirds(counts)
    shares = [counts[parts == part].sum() / counts.sum() for part in (1, 2, 3)]
    assert max(abs(share - 1 / 3) for share in shares) < 0.005
    assert counts[parts == 1].max() < counts[parts == 2].min() < counts[parts == 3].min()
    assert popularity_thirds(np.zeros(3, dtype=int)).tolist() == [0, 0, 0]


def test_time_has_four_quarters_and_every_row_stands_in_one():
    found = example_slices([example(1, 0, 86400 * day) for day in range(8)])["time"]
    assert list(found) == [f"quarter {n}, from 1970-01-0{2 * n - 1} 00:00" for n in (1, 2, 3, 4)]
    assert [rows.sum() for rows in found.values()] == [2, 2, 2, 2]
    assert np.stack(list(found.values())).sum(0).tolist() == [1] * 8


def test_quarters_of_one_second_stay_apart_and_equal_times_stay_together():
    found = example_slices([example(1, 0, second) for second in range(8)])["time"]
    assert [rows.sum() for rows in found.values()] == [2, 2, 2, 2]
    [together] = example_slices([example(1, 0, 5)] * 4)["time"].values()
    assert together.all()
