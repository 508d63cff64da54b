"""The checks of notebook 02: the stub and wrong answers fail, the printed solution passes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from exercise_cells import read_exercises, read_notebook

from rrec_lib.baselines import fitted_baselines
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import SPLITS, prepare, prepare_profile
from rrec_lib.data.movielens import load_movielens
from rrec_lib.evaluation.evaluate import mean_ndcg
from rrec_lib.exercises import nb02

CHAPTER, COMPANION = "02_data_preparation", "02_data_preparation_exercises"


def by_position(times):
    """Cuts where the place says, through ties."""
    places = np.argsort(times, kind="stable").argsort(kind="stable")
    return [0 if p < len(times) * 8 // 10 else 1 if p < len(times) * 9 // 10 else 2 for p in places]


def tie_to_the_later_side(times):
    ordered, n = sorted(times), len(times)
    return [0 if t < ordered[n * 8 // 10] else 1 if t < ordered[n * 9 // 10] else 2 for t in times]


def takes_the_log_as_sorted(times):
    n = len(times)
    a, b = times[n * 8 // 10 - 1], times[n * 9 // 10 - 1]
    return [0 if t <= a else 1 if t <= b else 2 for t in times]


def returns_sorted_labels(times):
    ordered, n = sorted(times), len(times)
    a, b = ordered[n * 8 // 10 - 1], ordered[n * 9 // 10 - 1]
    return [0 if t <= a else 1 if t <= b else 2 for t in ordered]


def rounds_up(times):
    ordered, n = sorted(times), len(times)
    a, b = ordered[-(-n * 8 // 10) - 1], ordered[-(-n * 9 // 10) - 1]
    return [0 if t <= a else 1 if t <= b else 2 for t in times]


def share_of_the_time_span(times):
    low, high = min(times), max(times)
    return [0 if t <= low + 0.8 * (high - low) else 1 if t <= low + 0.9 * (high - low) else 2 for t in times]


WRONG_SPLITS = {
    "by position": (by_position, "cuts the tie"),
    "later side": (tie_to_the_later_side, "belong to train"),
    "as sorted": (takes_the_log_as_sorted, "need not come in order"),
    "sorted labels": (returns_sorted_labels, "keeps the order they came in"),
    "rounds up": (rounds_up, "round the place"),
    "time span": (share_of_the_time_span, "your function gave"),
    "one label": (lambda times: [0], "10 times went in, 1 labels came out"),
}


def test_temporal_split(holds):
    def otherwise(times):
        edges = [np.sort(times)[len(times) * part // 10 - 1] for part in (8, 9)]
        return np.searchsorted(edges, times, side="left")

    holds(CHAPTER, "split_by_time", nb02.check_temporal_split, WRONG_SPLITS, otherwise)


WRONG_SHARES = {
    "later only": (lambda a, b: float(np.mean([np.mean(np.array(a) > t) for t in b])), "same second"),
    "a count": (lambda a, b: sum(x >= t for x in a for t in b), "your function gave"),
    "the past": (lambda a, b: float(np.mean([np.mean(np.array(a) < t) for t in b])), "your function gave"),
    "the first test time": (lambda a, b: float(np.mean(np.array(a) >= min(b))), "for each test target"),
    "one test time": (lambda a, b: float(np.mean(np.array(a) >= b[0])), "for each test target"),
    "a set of times": (lambda a, b: float(np.mean([np.mean(np.array(a) >= t) for t in set(b)])), "counts once"),
    "nothing": (lambda a, b: 0.0, "has all of it"),
}


def test_future_share(holds):
    def otherwise(train, test):
        return 1 - np.searchsorted(np.sort(train), test, side="left").mean() / len(train)

    holds(CHAPTER, "future_share", nb02.check_future_share, WRONG_SHARES, otherwise)


@pytest.mark.parametrize("check", [nb02.check_temporal_split, nb02.check_future_share])
def test_an_answer_that_raises_does_not_stop_the_notebook(check, capsys):
    assert check(lambda *lists: 1 / 0) is False
    assert "ZeroDivisionError" in capsys.readouterr().out


def pairs_of(log):
    return [(user, item) for user, item, _ in log]


WRONG_REPEATS = {
    "anybody's": (lambda log: [any(e[1] == o[1] and o[2] < e[2] for o in log) for e in log], "another user's"),
    "in file order": (lambda log: [e in pairs_of(log)[:i] for i, e in enumerate(pairs_of(log))], "compare times"),
    "same second": (
        lambda log: [any(e[:2] == o[:2] and o[2] <= e[2] for j, o in enumerate(log) if j != i)
                     for i, e in enumerate(log)],
        "the same second is no past",
    ),
    "all that come twice": (lambda log: [pairs_of(log).count(e) > 1 for e in pairs_of(log)], "the first time"),
    "what is new": (
        lambda log: [not any(e[:2] == o[:2] and o[2] < e[2] for o in log) for e in log], "marks what is new",
    ),
    "once": (lambda log: [True], "came out"),
}  # fmt: skip


def test_repeats(holds):
    def otherwise(log):
        table = pd.DataFrame(log, columns=["user", "item", "time"])
        return (table["time"] > table.groupby(["user", "item"])["time"].transform("min")).tolist()

    holds(COMPANION, "my_repeats", nb02.check_repeats, WRONG_REPEATS, otherwise)


def keep(pairs, k, users=True, items=True):
    by_user, by_item = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
    return [p for p in pairs if (not users or by_user[p[0]] >= k) and (not items or by_item[p[1]] >= k)]


def to_the_end(pairs, k, **sides):
    while len(left := keep(pairs, k, **sides)) < len(pairs):
        pairs = left
    return pairs


def one_side_at_a_time(pairs, k):
    """Users to the end, then items, and so on: the same core by another way."""
    before = None
    while pairs != before:
        before = pairs
        pairs = to_the_end(to_the_end(pairs, k, items=False), k, users=False)
    return pairs


WRONG_CORES = {
    "one pass": (keep, "one pass is not enough"),
    "users": (lambda pairs, k: to_the_end(pairs, k, items=False), "items need k"),
    "items": (lambda pairs, k: to_the_end(pairs, k, users=False), "users need k"),
    "more than k": (lambda pairs, k: to_the_end(pairs, k + 1), "k pairs are enough"),
    "sorted": (lambda pairs, k: sorted(to_the_end(pairs, k)), "keep the order"),
}


def test_k_core(holds):
    holds(COMPANION, "my_k_core", nb02.check_k_core, WRONG_CORES, one_side_at_a_time)


def most(items, size):
    counts = Counter(items)
    return sorted(counts, key=lambda item: (-counts[item], item))[:size]


def upto(items, times, cut, inclusive=True):
    return [i for i, t in zip(items, times, strict=True) if t < cut or (inclusive and t == cut)]


def place(times, share=0.8):
    return sorted(times)[int(np.ceil(share * len(times))) - 1]


WRONG_CATALOGUES = {
    "whole log": (lambda i, t, n: most(i, n), "its future included"),
    "first rows": (lambda i, t, n: most(i[: int(np.ceil(0.8 * len(i)))], n), "not the earliest"),
    "time span": (lambda i, t, n: most(upto(i, t, min(t) + 0.8 * (max(t) - min(t))), n), "not of the time they span"),
    "before the moment": (lambda i, t, n: most(upto(i, t, place(t), inclusive=False), n), "own moment count"),
    "by number": (lambda i, t, n: sorted(most(upto(i, t, place(t)), n)), "best first"),
    "all": (lambda i, t, n: most(upto(i, t, place(t)), 99), "expected [1]"),
}


def test_catalogue(holds):
    def otherwise(items, times, size):
        table = pd.DataFrame({"item": items, "time": times})
        early = table[table["time"] <= table["time"].sort_values().iloc[int(np.ceil(0.8 * len(table))) - 1]]
        counts = early.groupby("item").size().reset_index(name="count")
        return counts.sort_values(["count", "item"], ascending=[False, True])["item"].head(size)

    holds(COMPANION, "my_catalogue", nb02.check_catalogue, WRONG_CATALOGUES, otherwise)


WRONG_PREDICTIONS = {
    "the test's share": ((0.1, 0.0, 0.0, "a"), "each is in several histories"),
    "the future's share": ((0.5, 0.0, 0.0, "b"), "one later row of the same user is enough"),
    "the last": ((0.9, 0.5, 0.0, "b"), "after a user's last example"),
    "the moment": ((0.9, 0.0, 0.1, "b"), "before the first test target"),
    "popular": ((0.9, 0.0, 0.0, "c"), "the same user's"),
}


def test_shown(holds):
    holds(COMPANION, "my_prediction", nb02.check_shown, WRONG_PREDICTIONS, [(0.95, 0.02, 0.0, "B")])


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_what_rows_at_random_show_is_what_the_check_takes_for_right(profile, verdict):
    dataset = prepare_profile(load_profile(profile))
    every = pd.concat([dataset[part].to_pandas() for part in SPLITS], ignore_index=True)
    late = every["target_timestamp"] > every["target_timestamp"].quantile(0.9)
    last = ~every["user_id"].duplicated(keep="last")
    found = []
    for test in (np.random.default_rng(0).random(len(every)) < 0.1, last, late):
        rows = every[~test]
        read = {(user, i) for user, history in zip(rows["user_id"], rows["history"], strict=True) for i in history}
        asked = list(zip(every[test]["user_id"], every[test]["target"], strict=True))
        found.append(sum(pair in read for pair in asked) / len(asked))
    assert verdict(nb02.check_shown, (*found, "b")).startswith("✓")


@pytest.mark.slow
def test_the_sample_answers_numbers():
    text = read_exercises(read_notebook(COMPANION))[-1].folded["A sample answer"]
    columns = []
    for core in (5, 20):
        dataset = prepare(*load_movielens(), replace(load_profile("cpu").data, k_core=core, catalogue_size=None))
        test = list(dataset["test"])
        counts = [f"{len(dataset['items']):,}", f"{len(test):,}, {len({e['user_id'] for e in test})}"]
        scores = [mean_ndcg(baseline, test, 10) for baseline in fitted_baselines(dataset).values()]
        columns.append([*counts, *[f"{score:.4f}".removeprefix("0") for score in scores]])
    for row in zip(*columns, strict=True):
        assert f"| {' | '.join(row)} |" in text
