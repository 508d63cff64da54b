"""Examples and the temporal split: hand-worked answers, invariants, and what breaks them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rrec_lib.core.profiles import DataProfile, load_profile
from rrec_lib.data.examples import next_item_examples, prepare, prepare_profile, temporal_split

SMALL = DataProfile(dataset="movielens", max_users=None, catalogue_size=None, min_target_rating=4.0, k_core=0, window=3)


def rows(examples: pd.DataFrame) -> list[tuple]:
    """Each example as plain values: user, history, seen, target, time."""
    return [
        (row.user_id, list(row.history), list(row.seen), row.target, row.target_timestamp)
        for row in examples.itertuples()
    ]


def test_examples_by_hand(small_log):
    examples = next_item_examples(small_log, window=2, min_target_rating=4.0)
    assert rows(examples) == [
        (1, [10], [10], 11, 200),  # 12 has the same second, so it is not 11's past
        (1, [10], [10], 12, 200),  # nor 11 its
        (2, [12], [12], 10, 250),  # the history may hold a disliked film
        (1, [12, 13], [10, 11, 12, 13], 14, 400),  # the window keeps two, seen keeps all
    ]
    last = examples.iloc[3]
    assert list(last.history_ratings) == [4.0, 1.0]
    assert list(last.history_timestamps) == [200, 300]
    assert last.target_rating == 4.5


def test_disliked_and_first_events_are_never_targets(small_log):
    targets = {(user, target) for user, _, _, target, _ in rows(next_item_examples(small_log, 3, 4.0))}
    assert (1, 13) not in targets
    assert (1, 10) not in targets
    assert (2, 12) not in targets
    everything = {(user, target) for user, _, _, target, _ in rows(next_item_examples(small_log, 3, 0.0))}
    assert (1, 13) in everything
    assert (1, 10) not in everything


def test_the_order_of_the_log_does_not_matter(small_log):
    shuffled = small_log.sample(frac=1, random_state=3)
    assert rows(next_item_examples(shuffled, 2, 4.0)) == rows(next_item_examples(small_log, 2, 4.0))


def test_window_must_be_positive(small_log):
    with pytest.raises(ValueError, match="window is 0"):
        next_item_examples(small_log, 0, 4.0)


@pytest.mark.parametrize(
    ("examples", "counts"),
    [(63_502, (50_801, 6_350, 6_351)), (13_435, (10_748, 1_343, 1_344)), (34_373, (27_498, 3_437, 3_438))],
)
def test_without_ties_the_counts_are_the_papers(examples, counts):
    """R²ec, App. B: Video_Games, CDs_and_Vinyl, Musical_Instruments."""
    assert tuple(np.bincount(temporal_split(np.arange(examples)))) == counts


def test_split_by_hand():
    assert temporal_split(np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).tolist() == [0] * 8 + [1, 2]
    assert temporal_split(np.array([10, 1, 9, 2, 8, 3, 7, 4, 6, 5])).tolist() == [2, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    # The second 8 is shared by places 7 to 9: all three are train, and valid is left with none.
    assert temporal_split(np.array([1, 2, 3, 4, 5, 6, 8, 8, 8, 10])).tolist() == [0] * 9 + [2]
    assert temporal_split(np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 9])).tolist() == [0] * 8 + [1, 1]
    assert temporal_split(np.array([5, 5, 5])).tolist() == [0, 0, 0]
    assert temporal_split(np.array([])).tolist() == []


def cuts_a_tie(times: np.ndarray, split: np.ndarray) -> bool:
    return bool((pd.Series(split).groupby(times).nunique() > 1).any())


def looks_back(times: np.ndarray, split: np.ndarray) -> bool:
    held_out = times[split > 0]
    return held_out.size > 0 and bool(held_out.min() <= times[split == 0].max())


@pytest.mark.parametrize("seed", range(20))
def test_a_tie_is_never_cut_and_nothing_looks_back(seed):
    generator = np.random.default_rng(seed)
    times = generator.integers(0, generator.integers(2, 60), size=int(generator.integers(10, 200)))
    split = temporal_split(times)
    assert not cuts_a_tie(times, split)
    assert not looks_back(times, split)
    if (split == 1).any() and (split == 2).any():
        assert times[split == 2].min() > times[split == 1].max()
    assert (split == 0).sum() >= int(0.8 * len(times))


def test_negative_control_cutting_by_position_breaks_both():
    times = np.array([1, 2, 3, 4, 5, 6, 7, 8, 8, 9])
    by_position = np.array([0] * 8 + [1, 2])
    assert cuts_a_tie(times, by_position)
    assert looks_back(times, by_position)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.0), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_shares_are_checked(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        temporal_split(np.arange(10), shares)


def test_prepare_numbers_the_catalogue_and_keeps_the_source(steady_log, item_table):
    events = steady_log.assign(item_id=steady_log["item_id"] * 7 + 3)
    dataset = prepare(events, item_table(events), SMALL)
    assert list(dataset) == ["train", "valid", "test", "items"]
    items = dataset["items"]
    assert items["item_id"][:] == list(range(10))
    assert items["source_id"][:] == [number * 7 + 3 for number in range(10)]
    assert items[2]["title"] == "Film 17"
    assert items[2]["genres"] == ["Drama"]
    first = dataset["train"][0]
    assert (first["user_id"], first["history"], first["target"], first["target_timestamp"]) == (0, [0], 1, 1010)
    assert sum(dataset[name].num_rows for name in ("train", "valid", "test")) == 90


def test_prepare_is_deterministic_and_ignores_row_order(steady_log, item_table):
    once = prepare(steady_log, item_table(steady_log), SMALL)
    again = prepare(steady_log.sample(frac=1, random_state=0), item_table(steady_log).iloc[::-1], SMALL)
    for name in once:
        assert once[name].to_list() == again[name].to_list()


def test_prepare_says_which_split_is_empty(small_log, item_table):
    with pytest.raises(ValueError, match="leave no valid example"):
        prepare(small_log, item_table(small_log), SMALL)
    with pytest.raises(ValueError, match="leave no train example"):
        prepare(small_log, item_table(small_log), dataclasses.replace(SMALL, min_target_rating=5.0))


def test_prepare_refuses_a_catalogue_chosen_after_the_test_began(log, item_table):
    # The only films rated often are old, and the log's last ratings are of a film outside the catalogue.
    rows = [(user, step, 4.0, 100 * step + user) for step in range(5) for user in range(4)]
    rows += [(9, 50 + late, 4.0, 10_000 + late) for late in range(200)]
    events = log(rows)
    with pytest.raises(ValueError, match="would know the future"):
        prepare(events, item_table(events), dataclasses.replace(SMALL, catalogue_size=5))


def test_prepare_validates_first(small_log, item_table):
    with pytest.raises(ValueError, match="no column 'rating'"):
        prepare(small_log.drop(columns="rating"), item_table(small_log), SMALL)


def test_unknown_dataset_is_named():
    profile = load_profile("smoke", {"data.dataset": "netflix"})
    with pytest.raises(ValueError, match="unknown dataset 'netflix' in profile 'smoke'; choose one of movielens"):
        prepare_profile(profile)


@pytest.fixture(scope="module", params=["smoke", "cpu"])
def prepared(request):
    profile = load_profile(request.param)
    return profile, prepare_profile(profile)


def test_real_data_keeps_the_promises(prepared):
    profile, dataset = prepared
    times = {name: np.array(dataset[name]["target_timestamp"][:]) for name in ("train", "valid", "test")}
    assert times["train"].max() < times["valid"].min()
    assert times["valid"].max() < times["test"].min()
    assert dataset["items"].num_rows <= profile.data.catalogue_size
    for name in times:
        assert (np.diff(times[name]) >= 0).all()
        for row in dataset[name].select(range(0, dataset[name].num_rows, 37)):
            assert row["target"] not in row["seen"]
            assert row["target_rating"] >= profile.data.min_target_rating
            assert 1 <= len(row["history"]) <= profile.data.window
            assert row["history"] == row["seen"][-profile.data.window :]
            assert row["history_timestamps"] == sorted(row["history_timestamps"])
            assert row["history_timestamps"][-1] < row["target_timestamp"]
            assert max(row["seen"]) < dataset["items"].num_rows
