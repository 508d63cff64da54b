"""The ablations of RecPO on MovieLens: one table, by which they are run, read and shown.

Each line turns one knob of RecPO and trains from the warm-up of the reference run, a quarter of that run's budget long.
Two go on with the warm-up in RecPO's place: *warm-up goes on* as it was, *without reasoning* with the state behind the
bare prompt. *Without warm-up* has the warm-up's budget on top of its own. *Warm-up alone* is where all start. It trains
nothing, and nor do *shipped adapter* and the controls, which read it with something else before the marker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import load_profile
from rrec_lib.core.reading import check_same
from rrec_lib.core.results import describe_run
from rrec_lib.evaluation.compare import SAMPLES, Comparison, arm_interval, compare, group_reports
from rrec_lib.evaluation.intervals import Interval
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments.published import STATES, TABLE_2
from rrec_lib.experiments.reference import METRIC, SKILLS, WARMUP_SHARE, WITHOUT

if TYPE_CHECKING:  # who only reads needs no trainer
    from datasets import DatasetDict

    from rrec_lib.experiments.runner import Options, Run
    from rrec_lib.model.policy import Policy

NOT_RUN = "not run"
FULL, SHIPPED, WARMUP_ALONE = "full", "shipped adapter", "warm-up alone"


@dataclass(frozen=True)
class Ablation:
    """A line of the table.

    Attributes:
        name: of its reports.
        changes: what it changes, in words.
        knobs: the same as profile values, ``section.field``.
        start: the adapter it starts from, ``"warmup"`` or ``"recpo"``; ``"base"`` for the untrained model; None for
            what only the lab can run.
        trains: the stage that is trained, ``"recpo"`` or ``"warmup"``; None for a line that only reads.
        control: what stands before the marker, see :class:`rrec_lib.recommend.recommender.ReasoningRecommender`.
        against: the line it is compared with.
        in_trial: whether it is an arm of the trial as well (:mod:`rrec_lib.experiments.trial`).
    """

    name: str
    changes: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = "warmup"
    trains: str | None = "recpo"
    control: str = "own"
    against: str = FULL
    in_trial: bool = False


def _read(name: str, changes: str, control: str) -> Ablation:
    """A line that reads the shipped adapter with something else before the marker."""
    return Ablation(name, changes, start="recpo", trains=None, control=control, against=SHIPPED)


# A batch keeps its number of reasonings.
ABLATIONS = {line.name: line for line in (
    Ablation(FULL, "GRPO, G = 4, temperature 1, state at the marker, softmax over what the user has not seen, warm-up"),
    Ablation(WITHOUT, "the same model, trained to answer at once, at equal compute",
             SKILLS["none"], trains="warmup", control="none"),
    Ablation("contrastive only", "the item term alone: the reasoning's tokens are never rewarded",
             {"training.token_weight": 0.0}),
    Ablation("warm-up goes on", "on its own reasonings and items, in RecPO's place", SKILLS["own"], trains="warmup"),
    Ablation(WARMUP_ALONE, "where all lines start", trains=None),
    Ablation("classification head", "a linear layer over the catalogue in the place of rec_head", start=None),
    Ablation("without R_d", "the reward is R_c alone: how likely, not at which rank", {"reward.beta": 1.0},
             in_trial=True),
    Ablation("without R_c", "the reward is R_d alone: at which rank, not how likely", {"reward.beta": 0.0},
             in_trial=True),
    Ablation("RLOO", "advantages without division by the group's spread", {"training.advantage": "rloo"},
             in_trial=True),
    Ablation("G = 2", "two reasonings per user", {"rollouts.group_size": 2, "training.users_per_step": 16}),
    Ablation("G = 8", "eight reasonings per user", {"rollouts.group_size": 8, "training.users_per_step": 4}),
    Ablation("temperature 0.7", "reasonings sampled closer to the likeliest", {"rollouts.temperature": 0.7}),
    Ablation("temperature 1.5", "reasonings sampled more freely; the paper's", {"rollouts.temperature": 1.5}),
    Ablation("mean state", "the user's state is the mean over the reasoning's tokens", start=None),
    Ablation("last-token state", "the user's state is that of the reasoning's last token", start=None),
    Ablation("in-batch softmax", "a target is told from the batch's other targets alone",
             {"training.item_softmax": "batch", "training.item_negatives": 0}),
    Ablation("logQ correction", "the same, and popular items weigh less as negatives",
             {"training.item_softmax": "batch", "training.item_negatives": 0, "training.logq_correction": True}),
    Ablation("without warm-up", "RecPO from the untrained model, as in the paper", start="base"),
    Ablation(SHIPPED, "the reference run's weights, which the controls read", start="recpo", trains=None),
    _read("random text", "random words in the place of the reasoning", "random"),
    _read("another user's reasoning", "each user is answered from the reasoning of another", "other"),
    _read("shuffled history", "the history's films in random order", "shuffled"),
)}  # fmt: skip
RUNNABLE = [name for name, line in ABLATIONS.items() if line.start is not None]


def run_ablations(
    options: "Options",
    names: Sequence[str] = tuple(RUNNABLE),
    seed: int = 0,
    test_rows: int = 8,
    warmup_hours: float = WARMUP_SHARE,
    adapters: Mapping[str, Path | None] | None = None,
) -> None:
    """Train lines and write their reports, or go on with them.

    Args:
        options: of all lines.
        names: of :data:`RUNNABLE`.
        seed: of data order and sampling.
        test_rows: of a user at most.
        warmup_hours: what a line without warm-up gets on top, in CPU hours.
        adapters: folder of the ``"warmup"`` and the ``"recpo"`` adapter that lines start from; by default the shipped.

    Raises:
        FileNotFoundError: if there is no such adapter.
        ValueError: if a report or a folder is of a run with other settings, or a line that stands in the folder already
            started from another adapter.
    """
    from rrec_lib.experiments.runner import SETTINGS, Run, carry_out
    from rrec_lib.model.adapters import weights_digest

    print(describe_run(options.profile), flush=True)
    lines = [ABLATIONS[name] for name in names]
    shipped = {stage: resource(path) for stage, path in load_profile(options.profile).adapters.items() if path}
    found = {**shipped, **{stage: path for stage, path in (adapters or {}).items() if path}, "base": None}
    for stage in {str(line.start) for line in lines} - {"base"}:
        if not (folder := found.get(stage)) or not folder.is_dir():
            said = folder or "is shipped for this profile"
            raise FileNotFoundError(f"no adapter {said}; name one with --{stage}")
    runs = []
    for line in lines:
        adapter, more = found[str(line.start)], {}
        if adapter and adapter != shipped.get(str(line.start)):
            more["adapter"] = weights_digest(adapter)
        profile = load_profile(options.profile, {**SETTINGS, **options.overrides, **line.knobs})
        hours = options.hours + (warmup_hours if line.start == "base" else 0)
        run = Run(line.name, line.control, seed, options, profile, hours, test_rows, more=more)
        _check_beside(run, line)  # before any work
        runs.append((run, partial(_train, line, adapter)))
    for run, train in runs:
        carry_out(run, train)


def _check_beside(run: "Run", line: Ablation) -> None:
    """Require that lines of one table that start alike start from the same adapter, seed by seed."""
    for path in sorted(run.report.parent.glob("*.json")):
        kept = load_reports(path)[0]
        other = ABLATIONS.get(kept.name)
        if other and other.start == line.start and kept.run["seed"] == run.seed:
            theirs, ours = ({"adapter": one.get("adapter")} for one in (kept.run["settings"], run.settings))
            check_same(path, theirs, ours, "give the same one, or another --out")


def _train(line: Ablation, adapter: Path | None, run: "Run", policy: "Policy", dataset: "DatasetDict") -> None:
    """Load what a line starts from, and train what it trains."""
    from rrec_lib.experiments.readings import load_as_trained
    from rrec_lib.experiments.runner import train_stage

    if adapter is not None:
        load_as_trained(policy, adapter, dataset, run.profile)
    if line.trains is not None:
        train_stage(run, line.trains, policy, dataset, 3600 * run.hours, run.options.every)


@dataclass(frozen=True)
class Row:
    """What is recorded of one line.

    Attributes:
        name: of the line.
        what: it changes, in words.
        seeds: how many runs; 0 reads *not run*.
        interval: mean of the metric over users and runs; None if not run.
        difference: from the line it is compared with; None for ``"full"`` itself, or if one of the two was not run.
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


def read_ablations(folder: Path | None = None, metric: str = METRIC, samples: int = SAMPLES) -> list[Row]:
    """One row per line of :data:`ABLATIONS`, then one for each other name in the folder.

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
    for name in {**ABLATIONS, **arms}:
        line, arm = ABLATIONS.get(name, Ablation(name, "not a line of this table")), arms.get(name)
        other = arms.get(line.against) if name != FULL else None
        interval = arm_interval(arm, metric, samples) if arm else None
        difference = compare(arm, other, metric, samples) if arm and other else None
        rows.append(Row(name, line.changes, len(arm or ()), interval, difference))
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
    return f"– / {STATES[name][3]} / –" if name in STATES else ""
