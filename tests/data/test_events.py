"""Validation and filters, on logs whose answers are known."""

import pandas as pd
import pytest

from rrec_lib.data.events import catalogue_cutoff, k_core, keep_recent_users, select_catalogue, validate_events


def test_a_good_log_passes(small_log, item_table):
    validate_events(small_log, item_table(small_log))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e, i: (e.drop(columns="rating"), i), "no column 'rating'"),
        (lambda e, i: (e, i.drop(columns="genres")), "no column 'genres'"),
        (lambda e, i: (e.astype({"timestamp": "float64"}), i), "'timestamp' is float64, expected integer"),
        (lambda e, i: (e.iloc[:0], i), "empty"),
        (lambda e, i: (e.assign(rating=float("nan")), i), "missing or infinite"),
        (lambda e, i: (e.assign(rating=float("inf")), i), "missing or infinite"),
        (lambda e, i: (e.assign(timestamp=1_600_000_000_000), i), "after 2099, .* divide milliseconds by 1,000"),
        (lambda e, i: (e, i.assign(title=[None, *i["title"][1:]])), "item_id 10 has no title"),
        (lambda e, i: (e, pd.concat([i, i.iloc[:1]])), "describes item_id 10 twice"),
        (lambda e, i: (e, i[i["item_id"] != 14]), "such as item_id 14"),
        (lambda e, i: (pd.concat([e, e.iloc[:1]]), i), "stand in the log twice"),
    ],
)
def test_each_kind_of_damage_is_named(small_log, damage, message, item_table):
    events, items = damage(small_log, item_table(small_log))
    with pytest.raises(ValueError, match=message):
        validate_events(events, items)


def test_the_same_item_at_another_time_is_a_repeat_not_a_copy(small_log, log, item_table):
    again = pd.concat([small_log, log([(1, 10, 5.0, 999)])], ignore_index=True)
    validate_events(again, item_table(again))


def test_keep_recent_users(log):
    events = log([(1, 1, 4.0, 10), (1, 2, 4.0, 90), (2, 1, 4.0, 50), (3, 1, 4.0, 90), (4, 1, 4.0, 80)])
    assert set(keep_recent_users(events, 2)["user_id"]) == {1, 3}
    assert set(keep_recent_users(events, 1)["user_id"]) == {1}  # 1 and 3 end at the same time: the smaller number
    assert keep_recent_users(events, None) is events
    assert len(keep_recent_users(events, 99)) == len(events)


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_refused(small_log, size):
    with pytest.raises(ValueError, match=f"is {size}, expected 1 or more"):
        keep_recent_users(small_log, size)
    with pytest.raises(ValueError, match=f"is {size}, expected 1 or more"):
        select_catalogue(small_log, size)


def late_hit(log) -> pd.DataFrame:
    """100 events: film 1 has 50 and film 2 has 30 in the first 80, film 3 the last 20 and none before."""
    films = [1] * 50 + [2] * 30 + [3] * 20
    return log([(user, film, 4.0, time) for time, (user, film) in enumerate(zip(range(100), films, strict=True))])


def test_a_film_popular_only_at_the_end_is_not_chosen(log):
    events = late_hit(log)
    assert catalogue_cutoff(events) == 79
    assert set(select_catalogue(events, 2)["item_id"]) == {1, 2}
    assert set(select_catalogue(events, 3)["item_id"]) == {1, 2}  # nobody could have known film 3


def test_negative_control_counting_the_whole_log_would_choose_it(log):
    crowded = pd.concat([late_hit(log), log([(500 + n, 3, 4.0, 99) for n in range(15)])], ignore_index=True)
    by_whole_log = crowded["item_id"].value_counts().head(2).index
    assert 3 in set(by_whole_log)
    assert 3 not in set(select_catalogue(crowded, 2)["item_id"])


def test_the_catalogue_keeps_every_event_of_its_films_and_breaks_ties_by_number(log):
    events = log([(1, 7, 4.0, 1), (2, 5, 4.0, 2), (3, 9, 4.0, 3), (4, 9, 4.0, 4), (5, 5, 1.0, 100)])
    kept = select_catalogue(events, 2)
    assert sorted(kept["item_id"]) == [5, 5, 9, 9]  # 9 has two early events; 5 and 7 tie, 5 is smaller
    assert 100 in set(kept["timestamp"])


def test_k_core_needs_more_than_one_pass(log):
    # Film 3 has one event. Without it user 3 has one, without user 3 film 2 has one, without film 2 user 2 has one.
    events = log([(1, 1, 4.0, 1), (1, 4, 4.0, 2), (4, 1, 4.0, 3), (4, 4, 4.0, 4),
                  (2, 1, 4.0, 5), (2, 2, 4.0, 6), (3, 2, 4.0, 7), (3, 3, 4.0, 8)])  # fmt: skip
    kept = k_core(events, 2)
    assert set(kept["user_id"]) == {1, 4}
    assert set(kept["item_id"]) == {1, 4}
    once = events[events.groupby("item_id")["user_id"].transform("size") >= 2]
    assert len(once) > len(kept)  # one pass over the items would have stopped here


def test_k_core_is_a_fixed_point_and_loses_nothing_it_could_keep(steady_log):
    kept = k_core(steady_log.sample(60, random_state=0), 5)
    if len(kept):
        assert kept.groupby("user_id").size().min() >= 5
        assert kept.groupby("item_id").size().min() >= 5
    assert k_core(kept, 5).equals(kept)
    assert k_core(steady_log, 10).equals(steady_log)
    assert k_core(steady_log, 11).empty
    assert k_core(steady_log, 0) is steady_log
    assert k_core(steady_log, 1) is steady_log


def test_k_core_refuses_a_negative_k(small_log):
    with pytest.raises(ValueError, match="k_core is -1"):
        k_core(small_log, -1)
