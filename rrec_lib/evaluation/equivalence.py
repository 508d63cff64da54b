"""Equal, better, worse or undecided: a verdict by a margin that was set before the runs."""

from dataclasses import dataclass

import numpy as np

from rrec_lib.evaluation.compare import SAMPLES, Arm, resampled_means
from rrec_lib.evaluation.intervals import Interval

FEWEST = 5  # runs of each arm, from which on a decision is said of the arms and not of their runs


@dataclass(frozen=True)
class Decision:
    """What two arms' runs decide.

    Attributes:
        outcome: ``"equal"``, ``"better"``, ``"worse"`` (the first against the second) or ``"undecided"``.
        interval: of the difference; at a level of 5 % for each of the two one-sided tests it covers 90 %.
        margin: the largest difference that counts as none, in the metric's unit.
        runs: of the arm that has fewer. Of few the seeds' part of the interval is too narrow: a share (S − 1)/S of its
            variance, and no draw outside what S runs have shown. What they decide is said of these runs alone.
    """

    outcome: str
    interval: Interval
    margin: float
    runs: int = FEWEST

    @property
    def said(self) -> str:
        """The outcome, such as ``"better"``, or ``"better (of 2 runs)"`` where few runs decided it."""
        if self.runs >= FEWEST or self.outcome == "undecided":
            return self.outcome
        return f"{self.outcome} (of {'one run' if self.runs == 1 else f'{self.runs} runs'})"

    @property
    def short(self) -> str:
        """Such as ``"equal: 0.001 [-0.004, 0.005], margin 0.009"``, for a table's cell."""
        return f"{self.said}: {self.interval:.3f}, margin {self.margin:.3f}"

    @property
    def sentence(self) -> str:
        """Such as ``"equal: 0.001 [-0.004, 0.005] lies within ±0.009"``."""
        where = {
            "equal": "lies within", "better": "lies above 0 and not within", "worse": "lies below 0 and not within",
            "undecided": "neither excludes 0 nor lies within",
        }  # fmt: skip
        return f"{self.said}: {self.interval:.3f} {where[self.outcome]} ±{self.margin:.3f}"


def decide(
    first: Arm, second: Arm, metric: str, relative_margin: float, alpha: float = 0.05, samples: int = SAMPLES
) -> Decision:
    """Two one-sided tests of the difference of two arms, by the bootstrap over users and seeds.

    *Equal* if the (1 − 2α) interval lies within the margin; else *better* or *worse* if it excludes 0; else
    *undecided*. Equal goes first: a difference that is shown and too small to matter is said to be none that matters.

    Args:
        first: reports of one recommender, one per seed.
        second: reports of another, whose mean the margin is a share of.
        metric: such as ``"ndcg@20"``.
        relative_margin: above 0; 0.07 is 7 % of the second's mean.
        alpha: level of each one-sided test.
        samples: number of resamples.

    Raises:
        ValueError: for a margin or level out of range, and as :func:`rrec_lib.evaluation.compare.compare`.

    Source: two one-sided tests, Schuirmann (1987), with percentiles of :func:`~rrec_lib.evaluation.compare.compare`'s
    resamples in the place of t.
    """
    if not relative_margin > 0 or not 0 < alpha < 0.5:
        raise ValueError(f"need a margin above 0 and alpha between 0 and 0.5, got {relative_margin} and {alpha}")
    means, draws = resampled_means([first, second], metric, samples, seed=0)
    margin, users = relative_margin * means[1], first[0].users
    low, high = np.quantile(draws[0] - draws[1], [alpha, 1 - alpha])
    interval = Interval(means[0] - means[1], float(low), float(high), 1 - 2 * alpha, len(np.unique(users)), len(users))
    outcome = "better" if low > 0 else "worse" if high < 0 else "undecided"
    if -margin < low and high < margin:
        outcome = "equal"
    return Decision(outcome, interval, margin, min(len(first), len(second)))
