"""The ablations on MovieLens: their lines by name, what recorded reports say of each, and the paper's own rows.

A folder of report files (:func:`rrec_lib.evaluation.reports.save_reports`, ``rrec evaluate --name LINE --out FILE``)
becomes one row per line, over all seeds found. A line without a report reads *not run*.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrec_lib.core.paths import resource
from rrec_lib.evaluation.compare import SAMPLES, Comparison, arm_interval, compare, group_reports
from rrec_lib.evaluation.intervals import Interval
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments.published import TABLE_2

NOT_RUN = "not run"
FULL, SHIPPED = "full", "shipped adapter"
LINES = {
    FULL: "GRPO, G = 4, temperature 1, state at the marker, softmax over what the user has not seen, warm-up",
    "without reasoning": "the same model, trained to answer at once, at equal compute",
    "contrastive only": "the item term alone: the reasoning's tokens are never rewarded",
    "warm-up goes on": "on its own sentences and items, in RecPO's place",
    "warm-up alone": "where all lines start",
    "classification head": "a linear layer over the catalogue in the place of rec_head",
    "without R_d": "the reward is R_c alone: how likely, not at which rank",
    "without R_c": "the reward is R_d alone: at which rank, not how likely",
    "RLOO": "advantages without division by the group's spread",
    "G = 2": "two reasonings per user",
    "G = 8": "eight reasonings per user",
    "temperature 0.7": "reasonings sampled closer to the likeliest",
    "temperature 1.5": "reasonings sampled more freely; the paper's",
    "mean state": "the user's state is the mean over the reasoning's tokens",
    "last-token state": "the user's state is that of the reasoning's last token",
    "in-batch softmax": "a target is told from the batch's other targets alone",
    "logQ correction": "the same, and popular items weigh less as negatives",
    "without warm-up": "RecPO from the untrained model, as in the paper",
    SHIPPED: "the reference run's weights, which the controls read",
    "random text": "random words in the place of the reasoning",
    "another user's reasoning": "each user is answered from the reasoning of another",
    "shuffled history": "the history's films in random order",
}
CONTROLS = ("random text", "another user's reasoning", "shuffled history")
# The paper's comparison of embedding positions, on CDs alone: Hit and NDCG at 5 and 10, in units of 1e-4. "full" takes
# the special token there.
PAPER_STATES = {
    FULL: (509, 353, 737, 432),
    "mean state": (528, 368, 796, 453),
    "last-token state": (588, 388, 804, 457),
}


@dataclass(frozen=True)
class Row:
    """What is recorded of one line.

    Attributes:
        name: of the line.
        what: it changes, in words.
        seeds: how many runs; 0 reads *not run*.
        interval: mean of the metric over users and runs; None if not run.
        difference: the line minus ``"full"``, for a control minus ``"shipped adapter"``; None for ``"full"`` itself, or
            if one of the two was not run.
    """

    name: str
    what: str
    seeds: int
    interval: Interval | None
    difference: Comparison | None

    def cells(self) -> dict[str, str]:
        """The row in print, the paper's NDCG@10 at the end."""
        i = self.interval
        if i is None:
            found = {"runs": "–", "mean": NOT_RUN, "95 %": "", "difference": ""}
        else:
            against = "" if self.difference is None else self.difference.sentence
            found = {"runs": str(self.seeds), "mean": f"{i.mean:.3f}", "95 %": f"{i:.3f to}"}
            found |= {"difference": against}
        return {"what": self.what} | found | {"paper, NDCG@10": paper_cell(self.name)}


def read_ablations(folder: Path | None = None, metric: str = "ndcg@20", samples: int = SAMPLES) -> list[Row]:
    """One row per line of :data:`LINES`, then one for each other name in the folder.

    Args:
        folder: of report files; None takes ``results/ablations/movielens-cpu`` of the project. It need not exist.
        metric: such as ``"ndcg@20"``.
        samples: bootstrap resamples.

    Raises:
        ValueError: if a file is no report, or reports are on different examples or data.
    """
    arms = {}
    if paths := report_files(folder):
        arms = group_reports([report for path in paths for report in load_reports(path)])
    rows = []
    for name in [*LINES, *(name for name in arms if name not in LINES)]:
        arm = arms.get(name)
        other = arms.get(SHIPPED if name in CONTROLS else FULL) if name != FULL else None
        rows.append(
            Row(
                name,
                LINES.get(name, "not a line of this table"),
                len(arm or ()),
                arm_interval(arm, metric, samples) if arm else None,
                compare(arm, other, metric, samples) if arm and other else None,
            )
        )
    return rows


def report_files(folder: Path | None = None) -> list[Path]:
    """The folder's JSON files in order; none where there is no folder."""
    if folder is None:
        try:
            folder = resource("results/ablations/movielens-cpu")
        except FileNotFoundError:
            return []
    return sorted(folder.glob("*.json"))


def paper_cell(name: str) -> str:
    """NDCG@10 on the three sets, or on CDs alone; empty where the paper has no such row."""
    if name in TABLE_2:
        return " / ".join(str(figures[3]) for figures in TABLE_2[name])
    return f"– / {PAPER_STATES[name][3]} / –" if name in PAPER_STATES else ""


def lab_cells(recorded: Mapping[str, Any], name: str) -> dict[str, str]:
    """A line of the lab's recorded run (``results/lab/lab.json``) in print, as :meth:`Row.cells` is for MovieLens."""
    row = recorded["table"][name]
    hit, own = row["hit@1"], [run for run in recorded["runs"] if run["line"] == name]
    seconds = [sum(run["seconds"].values()) for run in own]
    return {
        "Hit@1": f"{hit['mean']:.3f}",
        "95 %": f"{hit['low']:.3f} to {hit['high']:.3f}",
        "full against it": row.get("full against it", {}).get("hit@1", ""),
        "processor s": f"{sum(seconds) / len(own):.0f}" if own else "",
    }
