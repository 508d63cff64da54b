"""Comparing reports: differences with intervals over users and seeds, effect sizes, and a sentence that says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rrec_lib.evaluation.evaluate import sample_examples
from rrec_lib.evaluation.intervals import Interval, resampled_totals, user_totals
from rrec_lib.evaluation.reports import Report, check_same_examples

SAMPLES = 10_000
Arm = Sequence[Report]  # reports of one recommender, one per seed


@dataclass(frozen=True)
class Comparison:
    """One recommender against another on the same examples.

    Attributes:
        metric: such as ``"ndcg@20"``.
        names: of the two; the difference is the first minus the second.
        interval: of the difference.
        d_z: Cohen's d for pairs: the difference over its standard deviation per user (:func:`user_spread`); None if
            users don't differ in it.
        relative: the difference over the second's mean; None if that is 0.
        seeds: how many runs of each.
    """

    metric: str
    names: tuple[str, str]
    interval: Interval
    d_z: float | None
    relative: float | None
    seeds: tuple[int, int]

    @property
    def verdict(self) -> str:
        """``"better"`` or ``"worse"`` if the interval excludes 0, else ``"no difference can be shown"``."""
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else "no difference can be shown"

    @property
    def sentence(self) -> str:
        """What was found, such as ``"better by 0.012, 95 % 0.004 to 0.020, 5 seeds"``."""
        shown, i = self.verdict in ("better", "worse"), self.interval
        sign = -1 if self.verdict == "worse" else 1  # "worse by" already says which way
        low, high = sorted((sign * i.low, sign * i.high))
        # What is told apart from zero must not be printed as zero, nor may everything.
        number = partial(_number, exact=shown or max(-low, high) < 0.0005)
        found = f"{number(sign * i.mean)}, {i.level:.0%} {number(low)} to {number(high)}".replace("%", " %")
        return f"{self.verdict}{' by ' if shown else ': '}{found}, {_seeds(*self.seeds)}"


def compare(
    first: Arm, second: Arm, metric: str, samples: int = SAMPLES, seed: int = 0, paired: bool = False
) -> Comparison:
    """Difference of two arms on the same examples, with an interval over users and over the runs' seeds.

    In each resample users are drawn with replacement, with all their rows and the same for every report; and for each
    arm as many of its reports as it has, with replacement, drawn apart for the two arms, because runs of different
    arms share nothing. The bounds are percentiles. Where an arm has one report, the interval leaves out how much its
    runs differ; with S of them it is still too small by about a factor (S − 1)/S in variance.

    Args:
        first: reports of one recommender, one per seed.
        second: reports of another.
        metric: such as ``"ndcg@20"``.
        samples: number of resamples.
        seed: of the resampling.
        paired: whether the arms' reports belong together one by one, as two readings of the same weights do; they are
            then drawn together.

    Raises:
        ValueError: if an arm is empty, the metric unknown, or the examples or data not the same; or pairs don't have
            the same seeds.

    Source: the Multi-Bootstrap, Sellam et al., arXiv 2106.16163, with whole users in the place of examples.
    """
    if paired and (seeds := [[one.run.get("seed") for one in arm] for arm in (first, second)])[0] != seeds[1]:
        raise ValueError(f"pairs have the same seeds, in the same order; got {seeds[0]} and {seeds[1]}")
    means, draws = resampled_means([first, second], metric, samples, seed, paired)
    mean, users = means[0] - means[1], first[0].users
    per_row = [np.mean([report.metric(metric) for report in arm], axis=0) for arm in (first, second)]
    difference = per_row[0] - per_row[1]
    spread = user_spread(difference, users)
    told = spread > 1e-9 * np.abs(difference).max()  # else it is rounding alone
    return Comparison(
        metric,
        (first[0].name, second[0].name),
        _interval(mean, draws[0] - draws[1], users),
        mean / spread if told else None,
        mean / means[1] if means[1] else None,
        (len(first), len(second)),
    )


def arm_interval(arm: Arm, metric: str, samples: int = SAMPLES, seed: int = 0) -> Interval:
    """Mean of an arm over its reports, with an interval over users and seeds; arguments as :func:`compare`."""
    means, draws = resampled_means([arm], metric, samples, seed)
    return _interval(means[0], draws[0], arm[0].users)


def on_shared_seeds(first: Arm, second: Arm) -> tuple[list[Report], list[Report]] | None:
    """The reports of two arms on the seeds that both have, in the same order; None if there is none."""
    arms = [{report.run.get("seed"): report for report in arm} for arm in (first, second)]
    shared = [seed for seed in arms[0] if seed in arms[1]]
    return ([arms[0][seed] for seed in shared], [arms[1][seed] for seed in shared]) if shared else None


def cap_rows(report: Report, limit: int, seed: int = 0) -> Report:
    """At most so many rows of each user, drawn by seed, so that a few busy users don't decide a comparison.

    Reports on the same examples keep the same rows. Lists, slices and checks are left behind: they are of all rows, and
    so is the number of repeats.

    Raises:
        ValueError: if the limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"a user keeps at least one row, got {limit}")
    numbered = [{"user_id": user, "row": row} for row, user in enumerate(report.users.tolist())]
    rows = np.sort([kept["row"] for kept in sample_examples(numbered, len(numbered), limit, seed)])
    ranks = {name: getattr(report, name)[rows] for name in ("n_greater", "n_equal", "users")}
    examples = f"{report.examples}, at most {limit} rows a user, seed {seed}"
    return replace(report, **ranks, examples=examples, lists={}, slices={}, findings=())


def group_reports(reports: Sequence[Report]) -> dict[str, list[Report]]:
    """Sort reports into arms by name, in the order of their first appearance.

    Reports of one name that rank every target alike are one deterministic result and count once.

    Raises:
        ValueError: if there is none, if examples or data differ, or if two different reports of one name come from the
            same seed or were made with different settings.
    """
    if not reports:
        raise ValueError("no report to compare; give files that `rrec evaluate --out` wrote")
    check_same_examples(*reports)
    arms: dict[str, list[Report]] = {}
    for report in reports:
        arm = arms.setdefault(report.name, [])
        if any(_same_ranks(report, other) for other in arm):
            continue
        seed = report.run.get("seed")
        if any(seed == other.run.get("seed") for other in arm):
            raise ValueError(
                f"two different reports are called {report.name!r} and have seed {seed}; if they are different arms, "
                "evaluate one of them with another --name"
            )
        if any(_of_arm(report) != _of_arm(other) for other in arm):
            raise ValueError(f"reports called {report.name!r} were made with different settings: no seeds of one arm")
        arm.append(report)
    return arms


def _of_arm(report: Report) -> dict[str, Any] | None:
    """What the seeds of an arm have alike: not the adapter that is read, of which each seed has its own."""
    settings = report.run.get("settings")
    return settings and {key: value for key, value in settings.items() if key != "adapter"}


def compare_arms(
    arms: Mapping[str, Arm], metric: str, samples: int = SAMPLES, seed: int = 0
) -> dict[str, tuple[Interval, Comparison | None]]:
    """Per arm its mean, and its difference to the first arm (None for the first); arguments as :func:`compare`."""
    first = next(iter(arms.values()))
    return {
        name: (
            arm_interval(arm, metric, samples, seed),
            None if arm is first else compare(arm, first, metric, samples, seed),
        )
        for name, arm in arms.items()
    }


def user_spread(values: ArrayLike, users: ArrayLike) -> float:
    """Standard deviation per user that gives a mean over rows its standard error, as s / √U.

    Users own different numbers of rows, so the mean over rows is a ratio of two sums. Its error follows from what each
    user adds to it: sum − mean · rows, over the mean number of rows (the linearised ratio, as in surveys).

    Args:
        values: (E,) a metric, or the difference of two, per example.
        users: (E,) whose example it is.

    Source: Cochran, Sampling Techniques, 3rd ed., eqn 6.4.
    """
    sums, counts = user_totals(np.asarray(values, dtype=np.float64)[:, None], users)
    residuals = sums[:, 0] - sums.sum() / counts.sum() * counts
    return float(residuals.std(ddof=1) / counts.mean())


def detectable_difference(users: int, spread: float, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest true difference that a test set shows with a given chance: (z_level + z_power) · s / √U.

    Say it before a run. The spread of differences between two recommenders isn't known then; take it from a pilot or
    another pair with :func:`user_spread`. Runs' own spread between seeds comes on top.

    Args:
        users: U, in the test set.
        spread: s, the standard deviation per user of the difference.
        power: chance that the interval excludes 0 if the difference is this large.
        level: of the two-sided interval.

    Raises:
        ValueError: for fewer than two users, a negative spread, or a power or level that is no probability.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed., ch. 2, for pairs.
    """
    if users < 2 or not spread >= 0 or not 0 < power < 1 or not 0 < level < 1:
        raise ValueError(
            "need at least 2 users, a spread of at least 0, and power and level between 0 and 1, "
            f"got {users}, {spread}, {power} and {level}"
        )
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * spread / users**0.5


def resampled_means(
    arms: Sequence[Arm], metric: str, samples: int, seed: int, together: bool = False
) -> tuple[list[float], list[np.ndarray]]:
    """Per arm: its mean, and its (samples,) resampled means; runs are drawn apart, or one draw counts for all arms."""
    if samples < 1 or not all(arms):
        raise ValueError(
            f"need samples >= 1 and at least one report in each arm, got {samples} and {list(map(len, arms))}"
        )
    reports = [report for arm in arms for report in arm]
    check_same_examples(*reports)
    sums, counts = user_totals(np.stack([report.metric(metric) for report in reports], 1), reports[0].users)
    rng, seeds_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    totals = resampled_totals(np.column_stack([sums, counts]), samples, rng)
    drawn = totals[:, :-1] / totals[:, -1:]
    means: list[float] = []
    draws: list[np.ndarray] = []
    start = 0
    for arm in arms:
        columns = slice(start, start + len(arm))
        if not together or not draws:
            picks = seeds_rng.integers(0, len(arm), (samples, len(arm)))
        draws.append(np.take_along_axis(drawn[:, columns], picks, axis=1).mean(1))
        means.append(float(sums[:, columns].sum() / counts.sum() / len(arm)))
        start += len(arm)
    return means, draws


def _interval(mean: float, drawn: np.ndarray, users: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean, float(low), float(high), 0.95, len(np.unique(users)), len(users))


def _same_ranks(a: Report, b: Report) -> bool:
    return np.array_equal(a.n_greater, b.n_greater) and np.array_equal(a.n_equal, b.n_equal)


def _seeds(first: int, second: int) -> str:
    if first == second:
        return "1 seed" if first == 1 else f"{first} seeds"
    return f"{first} against {second} seeds"


def _number(value: float, exact: bool) -> str:
    """Three decimals with a true minus; more where an exact number's would all be zero."""
    small = exact and 0 < abs(value) < 0.0005
    text = np.format_float_positional(value, precision=1, fractional=False) if small else f"{value:.3f}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")
