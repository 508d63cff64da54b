"""The reference run: R²ec with and without reasoning, several seeds, each with the same budget of CPU time; its reader.

With reasoning, a part of the budget is the warm-up's and the rest RecPO's; without, all of it trains the states behind
the bare prompt. Beside them stand the tuned baselines on the same test rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import load_profile
from rrec_lib.core.results import describe_run
from rrec_lib.evaluation.compare import group_reports
from rrec_lib.evaluation.reports import Report, load_reports

if TYPE_CHECKING:  # who only reads needs no trainer
    from datasets import DatasetDict

    from rrec_lib.experiments.runner import Options, Run
    from rrec_lib.model.policy import Policy

METRIC = "ndcg@20"
BASELINES = 2  # the best on test, beside the curve of compute
WITH, WITHOUT, UNTRAINED = "with reasoning", "without reasoning", "untrained"
ARMS = {WITH: f"R²ec {WITH}", WITHOUT: f"R²ec {WITHOUT}", UNTRAINED: "the language model, untrained"}
FIRST_TRIAL, SECOND_TRIAL = "reference", "verdict/equal-targets"  # below results/
BEFORE_MARKER = {WITH: "own", WITHOUT: "none", UNTRAINED: "none"}
# With reasoning every target has one before its marker; a quarter of them carry the form by their full weight alone.
SKILLS: dict[str, dict[str, Any]] = {
    "own": {"warmup.token_share": 0.25, "warmup.token_weight": 1.0}, "none": {"warmup.skills": []},
}  # fmt: skip
WARMUP_SHARE = 0.6  # of the budget of the arm with reasoning
EVERY = (100, 20)  # steps between evaluations of the warm-up and of RecPO, whose steps take several times as long


def run_reference(options: "Options", arms: Sequence[str] = tuple(ARMS), seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Train the arms and write their reports, or go on with them.

    Args:
        options: ``every`` of two numbers, for the warm-up and for RecPO.
        arms: of :data:`ARMS`.
        seeds: one after the other, so that a comparison is there as soon as possible.

    Raises:
        ValueError: if a report or a folder is of a run with other settings.
    """
    from rrec_lib.experiments.runner import SETTINGS, Run, carry_out

    print(describe_run(options.profile), flush=True)
    for seed in seeds:
        for arm in arms:
            if arm == UNTRAINED and seed != seeds[0]:
                continue  # fresh LoRA is the identity, whatever its seed
            control = BEFORE_MARKER[arm]
            profile = load_profile(options.profile, {**SETTINGS, **SKILLS[control], **options.overrides})
            run = Run(arm, control, seed, options, profile, options.hours, trained=arm != UNTRAINED)
            carry_out(run, _train)


def _train(run: "Run", policy: "Policy", dataset: "DatasetDict") -> None:
    """Both stages, or the one that the arm has; the policy ends with the best weights of the last."""
    from rrec_lib.experiments.runner import train_stage

    if not run.trained:
        return
    share = WARMUP_SHARE if run.control == "own" else 1.0
    shares = {"warmup": share, "recpo": 1 - share} if run.control == "own" else {"warmup": share}
    reached, seconds = None, 3600 * run.hours
    for (stage, part), every in zip(shares.items(), run.options.every, strict=False):
        reached = train_stage(run, stage, policy, dataset, part * seconds, every, reached)


def reference_arms(place: str, root: Path | None = None, trial: str = FIRST_TRIAL) -> dict[str, list[Report]]:
    """Reports by arm, over all seeds that were recorded; an arm that was not run is missing.

    Args:
        place: data set and profile, such as ``"movielens-cpu"``.
        root: that has ``results/``; None takes the project's.
        trial: the folder below it.

    Raises:
        ValueError: if reports are on different examples or data.
    """
    folder = _results(f"{trial}/{place}", root)
    arms = read_arms(folder) if folder else {}
    return {name: arms[name] for name in ARMS if name in arms}


def read_arms(*folders: Path) -> dict[str, list[Report]]:
    """Reports by arm; of an arm that stands in several folders, those of the last. Folders need not exist.

    Raises:
        ValueError: if reports are on different examples or data.
    """
    arms: dict[str, list[Report]] = {}
    for folder in folders:
        reports = [report for path in sorted(folder.glob("*.json")) for report in load_reports(path)]
        arms |= group_reports(reports) if reports else {}
    return arms


def tuned_baselines(place: str, root: Path | None = None) -> list[Report]:
    """The tuned baselines on the same test rows, best mean on test first; arguments as :func:`reference_arms`."""
    folder = _results(f"baselines/{place}", root)
    reports = load_reports(folder / "reports.json") if folder and (folder / "reports.json").is_file() else []
    return sorted(reports, key=lambda report: -report.metric(METRIC).mean())


def _results(relative: str, root: Path | None) -> Path | None:
    try:
        path = resource(f"results/{relative}") if root is None else root / "results" / relative
    except FileNotFoundError:
        return None
    return path if path.is_dir() else None
