"""Notebook 07's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import math

import numpy as np
import pytest
import torch
from exercise_cells import read_exercises, read_notebook

from rrec_lib.evaluation.compare import cap_rows, compare, detectable_difference, user_spread
from rrec_lib.evaluation.intervals import bootstrap_mean_interval, paired_bootstrap
from rrec_lib.exercises import boxes, nb07
from rrec_lib.experiments.reference import tuned_baselines

CHAPTER, COMPANION = "07_evaluation", "07_evaluation_exercises"


def interval(values, owners, draws):
    found = bootstrap_mean_interval(values, owners, draws, 1)
    return found.mean, found.low, found.high


def over_rows(a, b, users, draws, rng):
    return interval(a - b, np.arange(len(users)), draws)


def unpaired(a, b, users, draws, rng):
    (mean_a, low_a, high_a), (mean_b, low_b, high_b) = interval(a, users, draws), interval(b, users, draws)
    return mean_a - mean_b, low_a - high_b, high_a - low_b


def backwards(a, b, users, draws, rng):
    return interval(b - a, users, draws)


def of_user_means(a, b, users, draws, rng):
    means = np.array([(a - b)[users == user].mean() for user in np.unique(users)])
    return interval(means, np.arange(len(means)), draws)


WRONG_DIFFERENCES = {
    "over rows": (over_rows, "resampled rows"),
    "unpaired": (unpaired, "too wide"),
    "backwards": (backwards, "mean difference"),
    "of user means": (of_user_means, "mean"),
}


def test_difference(holds):
    def otherwise(a, b, users, draws, rng):
        rows = {user: (a - b)[users == user] for user in np.unique(users)}
        names = list(rows)
        means = [np.concatenate([rows[name] for name in rng.choice(names, len(names))]).mean() for _ in range(draws)]
        return (a - b).mean(), *np.quantile(means, [0.025, 0.975])

    holds(CHAPTER, "my_difference", nb07.check_difference, WRONG_DIFFERENCES, otherwise)


WRONG_DONORS = {
    "the next row": (lambda users: [(i + 1) % len(users) for i in range(len(users))], "the same user"),
    "oneself": (lambda users: list(range(len(users))), "the same user"),
    "not around the end": (lambda users: [i + 1 for i in range(len(users))], "outside"),
    "too few": (lambda users: [0], "need 3 donors"),
}


def test_donors(holds):
    def otherwise(users):
        return [next(j for j, other in enumerate(users) if other != user) for user in users]

    holds(CHAPTER, "my_donors", nb07.check_donors, WRONG_DONORS, otherwise)


def places(scores, target):
    above, level = int((scores > scores[target]).sum()), int((scores == scores[target]).sum())
    return np.arange(above + 1, above + level + 1)


def gain(place, k):
    return np.where(place <= k, 1 / np.log2(1 + place), 0)


WRONG_GAINS = {
    "best place": (lambda s, t, k: gain(places(s, t)[0], k), "the best place"),
    "worst place": (lambda s, t, k: gain(places(s, t)[-1], k), "the worst place"),
    "mean place": (lambda s, t, k: gain(places(s, t).mean(), k), "the mean place"),
    "sort": (
        lambda s, t, k: gain(s.argsort(descending=True, stable=True).tolist().index(t) + 1, k), "lets the sort decide",
    ),
    "no cutoff": (lambda s, t, k: gain(places(s, t), 99).mean(), "forgets the cutoff"),
    "hit": (lambda s, t, k: np.mean(places(s, t) <= k), "that is the Hit"),
    "natural logarithm": (lambda s, t, k: (gain(places(s, t), k) * math.log(2)).mean(), "expected"),
}  # fmt: skip


def test_tied_ndcg(holds):
    holds(COMPANION, "my_tied_ndcg", nb07.check_tied_ndcg, WRONG_GAINS, lambda s, t, k: gain(places(s, t), k).mean())


def counted(chosen, items, n):
    return np.bincount(items[chosen], minlength=n)


WRONG_COUNTS = {
    "moment": (lambda t, i, n, now, d: counted((t >= now - d * 86400) & (t <= now), i, n), "the moment itself"),
    "all": (lambda t, i, n, now, d: counted(t > -1, i, n), "counts everything"),
    "no end": (lambda t, i, n, now, d: counted(t >= now - d * 86400, i, n), "what comes later"),
    "both sides": (lambda t, i, n, now, d: counted(abs(now - t) <= d * 86400, i, n), "both sides"),
    "all of the past": (lambda t, i, n, now, d: counted(t < now, i, n), "the whole past"),
    "seconds": (lambda t, i, n, now, d: counted((t >= now - d) & (t < now), i, n), "86,400"),
    "too short": (lambda t, i, n, now, d: np.bincount(i[t < now]), "need 6 counts"),
}


def test_popularity(holds):
    def otherwise(times, items, n_items, moment, days):
        counts = torch.zeros(n_items)
        for time, item in zip(times, items, strict=True):
            counts[item] += 0 < moment - time <= 86400 * days
        return counts

    holds(COMPANION, "my_popularity", nb07.check_popularity, WRONG_COUNTS, otherwise)


def hypergeometric(above, others, negatives, k):
    ways = [math.comb(above, j) * math.comb(others - above, negatives - j) for j in range(min(k, negatives + 1))]
    return sum(ways) / math.comb(others, negatives)


def with_repeats(above, n, negatives, k):
    p = above / (n - 1)
    return sum(math.comb(negatives, j) * p**j * (1 - p) ** (negatives - j) for j in range(min(k, negatives + 1)))


WRONG_CHANCES = {
    "full ranking": (lambda a, n, m, k: float(a < k), "full ranking"),
    "rounded": (lambda a, n, m, k: float(a * m / (n - 1) < k), "the chance of every rank"),
    "with repeats": (with_repeats, "without repeats"),
    "one too few": (lambda a, n, m, k: hypergeometric(a, n - 1, m, k - 1), "rank k is within k"),
    "one too many": (lambda a, n, m, k: hypergeometric(a, n - 1, m, k + 1), "one too many"),
    "target drawn": (lambda a, n, m, k: hypergeometric(a, n, m, k), "n - 1 others"),
    "a miss": (lambda a, n, m, k: 1 - hypergeometric(a, n - 1, m, k), "a miss"),
}


def test_sampled_hit(holds):
    def otherwise(above, n, negatives, k):
        """Draw one negative after the other."""
        chances = {0: 1.0}  # by how many above the target were drawn
        for drawn in range(negatives):
            after: dict[int, float] = {}
            for j, chance in chances.items():
                p = (above - j) / (n - 1 - drawn)
                after[j + 1], after[j] = after.get(j + 1, 0) + chance * p, after.get(j, 0) + chance * (1 - p)
            chances = after
        return sum(chance for j, chance in chances.items() if j < k)

    holds(COMPANION, "my_sampled_hit", nb07.check_sampled_hit, WRONG_CHANCES, otherwise)


def apart(low, high):
    return "better" if low > 0 else "worse" if high < 0 else ""


def verdict_of(differences, margin, level=0.05):
    low, high = np.quantile(differences, [level, 1 - level])
    return "equal" if -margin < low and high < margin else apart(low, high) or "undecided"


WRONG_VERDICTS = {
    "not shown is equal": (
        lambda d, m: apart(*np.quantile(d, [0.05, 0.95])) or "equal", "nothing shown is not the same",
    ),
    "better first": (
        lambda d, m: apart(*np.quantile(d, [0.05, 0.95])) or verdict_of(d, m), "equal goes first",
    ),
    "the mean alone": (
        lambda d, m: "equal" if abs(d.mean()) < m else verdict_of(d, m), "is not an interval within it",
    ),
    "one side": (
        lambda d, m: "equal" if np.quantile(d, 0.95) < m else apart(*np.quantile(d, [0.05, 0.95])) or "undecided",
        "both ends",
    ),
    "95 %": (lambda d, m: verdict_of(d, m, 0.025), "90 %"),
    "the wrong way": (
        lambda d, m: {"better": "worse", "worse": "better"}.get(verdict_of(d, m), verdict_of(d, m)), "above 0",
    ),
    "undecided": (lambda d, m: "undecided", "expected equal, got undecided"),
    "another word": (lambda d, m: "same", "none of equal, better"),
}  # fmt: skip


def test_verdict(holds):
    def otherwise(differences, margin):
        if np.mean(differences > -margin) > 0.95 and np.mean(differences < margin) > 0.95:
            return "equal"
        sides = {"better": np.mean(differences > 0), "worse": np.mean(differences < 0)}
        return next((side for side, share in sides.items() if share > 0.95), "undecided")

    holds(COMPANION, "my_verdict", nb07.check_verdict, WRONG_VERDICTS, otherwise)


WRONG_PREDICTIONS = {
    "as before": ((0.133, 0.158, "c"), "fewer rivals"),
    "five times": ((0.66, 0.79, "c"), "don't make five times"),
    "the order stays": ((0.36, 0.4, "c"), "turns round"),
    "far off": ((0.25, 0.2, "c"), "place 50 of 500"),
    "luck": ((0.41, 0.37, "a"), "not the luck"),
    "popular negatives": ((0.41, 0.37, "b"), "alike"),
}


def test_reversal(holds):
    holds(COMPANION, "my_prediction", nb07.check_reversal, WRONG_PREDICTIONS, [(0.45, 0.33, "C")])


def test_the_recorded_ranks_turn_round_as_the_check_says(exercises_of):
    recorded = {report.name: report for report in tuned_baselines("movielens-cpu")}
    sampled_hit = exercises_of(COMPANION).solutions["my_sampled_hit"]
    chances = np.array([sampled_hit(above, 500, 100, 10) for above in range(500)])
    values = {}
    for name, (full, sampled) in nb07.SAMPLED.items():
        report = recorded[name]
        assert report.n_items == 500
        assert report.metric("hit@10").mean() == pytest.approx(full, abs=5e-4)
        tied = zip(report.n_greater, report.n_equal, strict=True)
        values[name] = np.array([chances[above : above + equal].mean() for above, equal in tied])
        assert values[name].mean() == pytest.approx(sampled, abs=5e-4)
    whole = {name: recorded[name].metric("hit@10") for name in values}
    users = recorded["popularity"].users
    assert paired_bootstrap(whole["co-occurrence"], whole["popularity"], users, 2000, 0).low > 0
    assert paired_bootstrap(values["co-occurrence"], values["popularity"], users, 2000, 0).high < 0
    for name, median in (("popularity", 71), ("co-occurrence", 82)):  # hint 2
        assert np.median(recorded[name].n_greater) + 1 == median


def arms(box):
    own, users = box("own")
    return own, box("none")[0], box("other")[0], users


def by_means(box):
    own, none, other, _ = arms(box)
    return "reads" if own.mean() > other.mean() else "any text" if own.mean() > none.mean() else "ignores"


def by_none(box):
    own, none, _, users = arms(box)
    return "reads" if paired_bootstrap(own, none, users, 500, 0).low > 0 else "ignores"


def by_separate_intervals(box):
    own, none, other, users = arms(box)
    low = bootstrap_mean_interval(own, users, 500, 0).low
    above = [low > bootstrap_mean_interval(values, users, 500, 0).high for values in (none, other)]
    return "reads" if above[1] else "any text" if above[0] else "ignores"


WRONG_DIAGNOSES = {
    "means": (by_means, "without an interval is luck"),
    "none alone": (by_none, "may serve as well"),
    "separate intervals": (by_separate_intervals, "two intervals may overlap"),
    "another word": (lambda box: "yes", "none of reads"),
}


def by_users_means(spread):
    def otherwise(box):
        own, none, other, users = arms(box)
        marks = []
        for values in (none, other):
            per_user = np.array([(own - values)[users == user].mean() for user in np.unique(users)])
            marks.append(per_user.mean() > spread * per_user.std(ddof=1) / len(per_user) ** 0.5)
        return "reads" if marks[1] else "any text" if marks[0] else "ignores"

    return otherwise


def test_diagnosis(holds):
    holds(COMPANION, "my_diagnosis", nb07.check_diagnosis, WRONG_DIAGNOSES, by_users_means(3))


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_decided_by_paired_intervals(seed, monkeypatch, exercises_of, verdict):
    monkeypatch.setenv("RREC_CHECK_SEED", str(seed))
    for name, check in (("my_diagnosis", nb07.check_diagnosis), ("my_difference", nb07.check_difference)):
        book = exercises_of(COMPANION if name == "my_diagnosis" else CHAPTER)
        assert verdict(check, book.solutions[name]).startswith("✓")
    for spread in (1.645, 1.96):  # people count alike, and one side or both
        assert verdict(nb07.check_diagnosis, by_users_means(spread)).startswith("✓")


def test_a_box_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="expected one of reads"):
        boxes.control_box("magic", np.random.default_rng(0))


def test_the_sample_answers_numbers():
    def shown(value, sign="−"):
        return f"{value:.3f}".replace("-", sign).replace("0.", ".", 1)

    text = read_exercises(read_notebook(COMPANION))[-1].folded["A sample answer"]
    recorded = {report.name: report for report in tuned_baselines("movielens-cpu")}
    pair = recorded["co-occurrence"], recorded["BM25"]
    for limit, seed in ((0, 0), (30, 0), (10, 0), (3, 0), (3, 1), (3, 2)):
        first, second = (cap_rows(report, limit, seed) if limit else report for report in pair)
        i = compare([first], [second], "ndcg@20").interval
        head = "| all | |" if not limit else f"| at most {limit} | {seed} |"
        assert f"{head} {shown(i.mean)} ({shown(i.low)} to {shown(i.high)}) |" in text
    gap = pair[0].metric("ndcg@20") - pair[1].metric("ndcg@20")
    users = len(np.unique(pair[0].users))
    assert f"What {users} users show in four of five samples is " in text
    assert shown(detectable_difference(users, user_spread(gap, pair[0].users))) in text
    assert f"{len(gap):,} rows of {users} MovieLens users" in text
