"""Checks for the exercises of notebook 07, evaluation."""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
import torch

from rrec_lib.evaluation.intervals import bootstrap_mean_interval, paired_bootstrap
from rrec_lib.evaluation.metrics import expected_ndcg, hit_rate_at_k, ndcg_at_k
from rrec_lib.evaluation.ranks import target_rank
from rrec_lib.exercises.base import Trial, draws, near, report, require, require_reason
from rrec_lib.exercises.boxes import DIAGNOSES, Box, control_box

DAY = 86_400
WORDS = ("equal", "better", "worse", "undecided")
SAMPLED = {"popularity": (0.133, 0.409), "co-occurrence": (0.158, 0.367)}  # recorded Hit@10: full, among 100 others


@report
def check_difference(
    answer: Callable[[np.ndarray, np.ndarray, np.ndarray, int, np.random.Generator], tuple[float, float, float]],
) -> None:
    """Right: users are drawn with all their rows, and the two recommenders share the draw.

    Args:
        answer: takes values (E,), values (E,), users (E,), a number of draws and a generator; returns mean, low, high.
    """
    rng = np.random.default_rng(draws().initial_seed())
    users = np.repeat(np.arange(30), rng.integers(1, 12, 30))
    b = 5 * rng.normal(size=30)[users]  # large differences between users, shared by both recommenders
    a = b + 0.2 + 0.5 * rng.normal(size=30)[users] + 0.02 * rng.normal(size=len(users))
    value = answer(a.copy(), b.copy(), users.copy(), 4000, np.random.default_rng(1))
    mean, low, high = (float(x) for x in value)
    expected = paired_bootstrap(a, b, users, 4000, seed=1)
    assert near(mean, expected.mean), f"expected the mean difference {expected.mean:.4f}, got {mean:.4f}"
    width, right = high - low, expected.high - expected.low
    rows = paired_bootstrap(a, b, np.arange(len(users)), 4000, seed=1)
    assert width < 3 * right, "far too wide: take the difference row by row before resampling"
    assert width > (right + rows.high - rows.low) / 2, "too narrow: you resampled rows; draw users with all their rows"
    close = max(abs(low - expected.low), abs(high - expected.high)) < 0.1 * right
    assert close, f"expected about [{expected.low:.3f}, {expected.high:.3f}], got [{low:.3f}, {high:.3f}]"


@report
def check_donors(answer: Callable[[Sequence[int]], Sequence[int]]) -> None:
    """Right: nobody gets a reasoning of their own.

    Args:
        answer: takes the users of E rows, returns E row indices.
    """
    drawn = torch.randint(0, 3, (2, 9), generator=draws()).tolist()
    for users in ([1, 2, 3], [1, 1, 2, 2, 2, 3], [5, 4, 4, 5], [7, 7, 7, 8], *([*users, 3] for users in drawn)):
        donors = answer(list(users))
        donors = [int(donor) for donor in donors]
        assert len(donors) == len(users), f"{len(users)} rows need {len(users)} donors, got {len(donors)}"
        assert all(0 <= donor < len(users) for donor in donors), f"{donors} points outside the {len(users)} rows"
        own = [i for i, donor in enumerate(donors) if users[donor] == users[i]]
        if own:
            raise AssertionError(f"users {users}: row {own[0]} got a reasoning of the same user ({donors})")


@report
def check_tied_ndcg(answer: Callable[[torch.Tensor, int, int], float]) -> None:
    """Right: every order of a tie counts the same, so luck is out of the metric.

    Args:
        answer: takes scores (N,), the target's number and k; returns the expected NDCG@k.
    """
    cases = [([3, 2, 1], 1, 3), ([1, 1], 1, 1), ([2, 1, 1, 1], 2, 2), ([0, 0, 0, 0, 0], 0, 3)]
    generator = draws()
    for k in (1, 2, 3, 5):
        *values, target = torch.randint(0, 4, (10,), generator=generator).tolist()
        cases.append((values, target, k))
    trials: list[Trial] = []
    for values, target, k in cases:
        scores, row = torch.tensor(values, dtype=torch.float64), torch.tensor(target)
        above, equal = target_rank(scores, row)
        place, level = int(above) + 1, int(equal)
        stable = scores.argsort(descending=True, stable=True).tolist().index(target) + 1
        known = {
            "that gives the target the best place of its tie": _gain(place, k),
            "that gives the target the worst place of its tie": _gain(place + level - 1, k),
            "the discount of the mean place is not the mean discount": _gain(place + (level - 1) / 2, k),
            "that lets the sort decide a tie": _gain(stable, k),
            "that forgets the cutoff": expected_ndcg(above, equal, len(values)),
            "that is the Hit, whatever the place": hit_rate_at_k(scores, row, k),
        }
        given, right = answer(scores.clone(), target, k), ndcg_at_k(scores, row, k)
        trials.append((f"scores {values}, target {target}, k = {k}", given, right, known))
    require(trials, near, _shortly)


@report
def check_popularity(answer: Callable[[np.ndarray, np.ndarray, int, int, int], np.ndarray]) -> None:
    """Right: that is what was popular, as far as anybody could know.

    Args:
        answer: takes the times and items of E events in any order, N, a moment and a number of days; returns counts
            (N,).
    """
    now, generator = 100 * DAY, draws()
    cases = [
        (np.array([now - 1, now, now + 1]), np.array([0, 1, 2]), 3),
        (np.array([now - 5 * DAY, now - 50 * DAY, now - 8 * DAY]), np.array([0, 0, 1]), 7),
    ]
    for days in (7, 30):
        hours = torch.randint(-40 * 24, 10 * 24, (60,), generator=generator).numpy()
        items = torch.randint(0, 5, (60,), generator=generator).numpy()
        # one at the moment itself, one within a week, one after a week: no draw leaves a mistake without a trace
        cases.append((now + np.append(hours, [0, -1, 9 * 24]) * 3600, np.append(items, [0, 1, 2]), days))
    trials: list[Trial] = []
    for times, items, days in cases:
        given, ages = np.asarray(answer(times.copy(), items.copy(), 6, now, days)), now - times
        assert given.shape == (6,), f"6 items need 6 counts, got {given.shape}"
        known = {
            "the moment itself isn't known yet": (ages >= 0) & (ages <= days * DAY),
            "that counts what comes later": ages <= days * DAY,
            "that counts everything, later events too": np.full(len(ages), True),
            "that takes both sides of the moment": abs(ages) <= days * DAY,
            "that counts the whole past, not the last days": ages > 0,
            "times are in seconds, and a day has 86,400": (ages > 0) & (ages <= days),
        }
        counts = {name: np.bincount(items[chosen], minlength=6).tolist() for name, chosen in known.items()}
        right = np.bincount(items[(ages > 0) & (ages <= days * DAY)], minlength=6).tolist()
        trials.append((f"{len(times)} events, the last {days} days", given.tolist(), right, counts))
    require(trials)


@report
def check_sampled_hit(answer: Callable[[int, int, int, int], float]) -> None:
    """Right: a target far down the catalogue is often first among a few.

    Args:
        answer: takes how many items score above the target, the catalogue's size, how many negatives are drawn from
            the others without repeats, and k; returns the chance that the target is among the first k.
    """
    cases = [(0, 10, 3, 1), (9, 10, 3, 3), (3, 10, 9, 4), (3, 10, 9, 3), (1, 3, 1, 1), (50, 500, 100, 10)]
    generator = draws()
    for _ in range(4):
        above, others = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((3, 20), (5, 15)))
        cases.append((above, 30, others, 3))
    trials: list[Trial] = []
    for above, n, negatives, k in cases:
        share, right = above / (n - 1), _sampled_hit(above, n - 1, negatives, k)
        drawn = range(min(k, negatives + 1))
        known = {
            "that is the metric of the full ranking": float(above < k),
            "that rounds an expected rank; take the chance of every rank": float(above * negatives / (n - 1) < k),
            "the negatives are drawn without repeats": sum(
                comb(negatives, j) * share**j * (1 - share) ** (negatives - j) for j in drawn
            ),
            "rank k is within k: up to k - 1 negatives may stand above": _sampled_hit(above, n - 1, negatives, k - 1),
            "k negatives above are one too many": _sampled_hit(above, n - 1, negatives, k + 1),
            "the target is no negative: n - 1 others": _sampled_hit(above, n, negatives, k),
            "that is the chance of a miss": 1 - right,
        }
        shown = f"{above} of {n} above, {negatives} negatives, k = {k}"
        trials.append((shown, answer(above, n, negatives, k), right, known))
    require(trials, near, _shortly)


@report
def check_verdict(answer: Callable[[np.ndarray, float], str]) -> None:
    """Right: equal is a claim too, and it needs an interval inside the margin.

    Args:
        answer: takes resampled mean differences (S,) and a margin; returns one of four words.
    """
    generator = draws()
    # centre and half-width of the 90 % interval, in margins: the interval of a normal is 1.645 spreads to each side
    cases = [
        (0.0, 0.3), (0.5, 0.3), (-0.5, 0.3), (2.0, 0.5), (-2.0, 0.5), (0.2, 3.0), (0.9, 0.5), (-0.9, 0.5), (0.0, 0.9),
        (0.5, 0.9),
    ]  # fmt: skip
    trials: list[Trial] = []
    for centre, half in cases:
        margin = 0.005 + 0.02 * float(torch.rand((), generator=generator))
        normal = torch.randn(4000, generator=generator, dtype=torch.float64).numpy()
        differences = margin * (centre + half / 1.645 * (normal - normal.mean()) / normal.std())
        given = str(answer(differences.copy(), margin)).strip().lower()
        assert given in WORDS, f"{given!r} is none of {', '.join(WORDS)}"
        wide_low, low, high, wide_high = np.quantile(differences, [0.025, 0.05, 0.95, 0.975])
        right, apart = _decide(low, high, margin), _decide(low, high, 0.0)
        known = {
            "nothing shown is not the same as shown to be nothing": "equal" if apart == "undecided" else apart,
            "shown, but smaller than what matters: equal goes first": right if apart == "undecided" else apart,
            "both ends have to lie within the margin": "equal" if high < margin else right,
            "a mean within the margin is not an interval within it": "equal" if abs(centre) < 1 else right,
            "two tests at 5 % each are an interval of 90 %": _decide(wide_low, wide_high, margin),
            "better is above 0": {"better": "worse", "worse": "better"}.get(right, right),
        }
        trials.append((f"90 % interval {low:+.4f} to {high:+.4f}, margin {margin:.4f}", given, right, known))
    require(trials)


@report
def check_reversal(answer: tuple[float, float, str]) -> None:
    """Right: with few negatives a metric looks at the middle of the ranking, where another method may lead.

    Args:
        answer: Hit@10 of popularity and of co-occurrence among 100 sampled negatives, and the letter of the reason.
    """
    assert len(answer) == 3, f"three things, two numbers and a letter, not {len(answer)}"
    *given, letter = answer
    for (name, (full, sampled)), value in zip(SAMPLED.items(), given, strict=True):
        assert value > full + 0.02, (
            f"{name}, {value:g}: fewer rivals make every hit easier; the full ranking gives {full}"
        )
        assert value < 0.62, (
            f"{name}, {value:g}: five times fewer rivals don't make five times the hits: many were in the first "
            "ten before, or stay far down"
        )
        assert abs(value - sampled) < 0.1, (
            f"{name}, {value:g}: place 10 of 101 is about place 50 of 500; this run has {sampled}"
        )
    assert given[0] > given[1], "the order of the two turns round: which of them has the better middle?"
    require_reason(
        letter,
        "c",
        {
            "a": "a user-paired interval of either metric excludes 0, so it is not the luck of the draw",
            "b": "negatives were drawn from all films alike, popular or not",
            "d": "both lists are masked in the same way, in both metrics",
        },
    )


@report
def check_diagnosis(answer: Callable[[Box], str]) -> None:
    """Right: only what changes with *whose* words they are has been read.

    Args:
        answer: takes a box, which gives values (E,) and users (E,) for the controls "own", "none" and "other"; returns
            one of three words.
    """
    rng, trials = np.random.default_rng(draws().initial_seed()), []
    for kind in rng.permutation([kind for kind in DIAGNOSES for _ in range(3)]).tolist():
        box = control_box(kind, rng)
        given = str(answer(box)).strip().lower()
        assert given in DIAGNOSES, f"{given!r} is none of {', '.join(DIAGNOSES)}"
        (own, users), none, other = box("own"), box("none")[0], box("other")[0]
        rows = np.arange(len(own))
        by_none, by_other = (paired_bootstrap(own, values, users, 1000, seed=0) for values in (none, other))
        narrow = [paired_bootstrap(own, values, rows, 1000, seed=0).low > 0 for values in (none, other)]
        alone = [bootstrap_mean_interval(values, users, 1000, seed=0) for values in (own, none, other)]
        known = {
            "a difference of means without an interval is luck": _diagnose(by_none.mean > 0, by_other.mean > 0),
            "rows of one user hang together, so resample users": _diagnose(*narrow),
            "another user's words may serve as well, and then they were not read": _diagnose(False, by_none.low > 0),
            "two intervals may overlap where the paired difference is shown": _diagnose(
                alone[0].low > alone[1].high, alone[0].low > alone[2].high
            ),
        }
        shown = f"a box with own − none {by_none:+.3f} and own − other {by_other:+.3f}"
        trials.append((shown, given, kind, known))
    require(trials)


def _shortly(value: float) -> str:
    return f"{float(value):.3f}"


def _diagnose(none_is_worse: bool, other_is_worse: bool) -> str:
    return "reads" if other_is_worse else "any text" if none_is_worse else "ignores"


def _gain(place: float, k: int) -> float:
    return 1 / np.log2(1 + place) if place <= k else 0.0


def _sampled_hit(above: int, others: int, negatives: int, k: int) -> float:
    """Fewer than k of the negatives, drawn from the others without repeats, lie above the target."""
    ways = sum(comb(above, j) * comb(others - above, negatives - j) for j in range(min(k, negatives + 1)))
    return ways / comb(others, negatives)


def _decide(low: float, high: float, margin: float) -> str:
    if -margin < low and high < margin:
        return "equal"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"
