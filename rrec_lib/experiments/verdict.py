"""The verdict's tables: arms at equal targets and at equal CPU time, decided by a margin that was set beforehand.

Reports of an arm stand in ``results/verdict/equal-targets/DATASET-PROFILE/``. Where an arm needs another run to be
compared at equal CPU time, that stands in ``results/verdict/equal-time/DATASET-PROFILE/``; else the same one counts for
both. A report says how many ``targets`` its training saw and how many ``cpu_seconds`` it took.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.core.reading import read_json, read_json_lines
from rrec_lib.evaluation.compare import (
    SAMPLES,
    Comparison,
    arm_interval,
    compare,
    detectable_difference,
    on_shared_seeds,
    user_spread,
)
from rrec_lib.evaluation.equivalence import Decision, decide
from rrec_lib.evaluation.intervals import Interval
from rrec_lib.evaluation.reports import Report
from rrec_lib.experiments.ablations import ABLATIONS, NOT_RUN, WARMUP_ALONE
from rrec_lib.experiments.reference import METRIC, SECOND_TRIAL, WITH, WITHOUT, read_arms, tuned_baselines
from rrec_lib.training.skills import SKILLS

MARGIN = 0.07  # of the NDCG@20 of the arm without reasoning
NOTHING = "Not run yet."
VERDICT_ARMS = {
    WITH: WITH,
    WITHOUT: WITHOUT,
    WARMUP_ALONE: f"{WITH}, warm-up alone",
    "distilled": "trained with reasoning, read without",
    **{f"only {skill}": f"with reasoning of one skill alone: {skill}" for skill in SKILLS},
    **{line.name: f"RecPO, {line.name}" for line in ABLATIONS.values() if line.in_trial},
}


@dataclass(frozen=True)
class Budget:
    """What is equal in a table.

    Attributes:
        title: of the table.
        key: of a report's run, whose value has to be equal.
        unit: of that value, in words.
        folders: below ``results``; of an arm in several the last counts.
        tolerance: how far two arms may be apart, as a share.
        by_seed: whether runs are made equal seed by seed, so that those of the seeds that both have are compared.
    """

    title: str
    key: str
    unit: str
    folders: tuple[str, ...]
    tolerance: float
    by_seed: bool = False


TARGETS = Budget("At equal targets", "targets", "targets", (SECOND_TRIAL,), 0.01)
CPU_TIME = Budget(
    "At equal CPU time", "cpu_seconds", "CPU seconds", (SECOND_TRIAL, "verdict/equal-time"), 0.05, by_seed=True
)


@dataclass(frozen=True)
class Line:
    """An arm in a table.

    Attributes:
        name: of the arm.
        seeds: how many runs; 0 reads *not run*.
        targets, cpu_seconds: of training, means over its runs; None where a report doesn't say.
        interval: mean of the metric over users and runs.
        difference: from the arm without reasoning.
        decision: by the margin.
        detectable: the smallest true difference to that arm which 80 of 100 such test sets show by the verdict's 90 %
            interval; seeds' own spread comes on top.
        refused: why it isn't compared: another budget, or none recorded.
    """

    name: str
    seeds: int = 0
    targets: float | None = None
    cpu_seconds: float | None = None
    interval: Interval | None = None
    difference: Comparison | None = None
    decision: Decision | None = None
    detectable: float | None = None
    refused: str = ""


def verdict_arms(source: Path, place: str, budget: Budget) -> dict[str, list[Report]]:
    """The arms of a data set as a table takes them: ``place`` is data set and profile, such as ``"movielens-cpu"``."""
    return read_arms(*(source / "results" / folder / place for folder in budget.folders))


def verdict_lines(arms: Mapping[str, Sequence[Report]], budget: Budget, samples: int = SAMPLES) -> list[Line]:
    """A line for each arm of :data:`VERDICT_ARMS`, then for each other one.

    Args:
        arms: reports by arm.
        budget: an arm is compared with the one without reasoning only if it is equal in this.
        samples: bootstrap resamples.
    """
    without, lines = arms.get(WITHOUT), []
    for name in {**VERDICT_ARMS, **arms}:
        arm = arms.get(name)
        if not arm:
            lines.append(Line(name))
            continue
        found: dict[str, Any] = {}
        if without and name != WITHOUT:
            pair = on_shared_seeds(arm, without) if budget.by_seed else (arm, without)
            arm = pair[0] if pair else arm  # the row is of the runs that are compared
            refused = _refused(*pair, budget) if pair else "no seed in common"
            found = {"refused": refused} if refused or not pair else _against(*pair, samples)
        spent = {key: spent_by(arm, key) for key in ("targets", "cpu_seconds")}
        interval = arm_interval(arm, METRIC, samples)
        lines.append(Line(name, len(arm), spent["targets"], spent["cpu_seconds"], interval, **found))
    return lines


def spent_by(arm: Sequence[Report], key: str) -> float | None:
    """Mean over an arm's runs of ``targets`` or ``cpu_seconds``; None if one doesn't say."""
    values = [report.run.get(key) for report in arm]
    return None if None in values else float(np.mean(values))  # type: ignore[arg-type]


def _against(arm: Sequence[Report], without: Sequence[Report], samples: int) -> dict[str, Any]:
    rows = [np.mean([report.metric(METRIC) for report in reports], axis=0) for reports in (arm, without)]
    users = arm[0].users
    return {
        "difference": compare(arm, without, METRIC, samples),
        "decision": decide(arm, without, METRIC, MARGIN, samples=samples),
        "detectable": detectable_difference(len(np.unique(users)), user_spread(rows[0] - rows[1], users), level=0.9),
    }


def _refused(arm: Sequence[Report], without: Sequence[Report], budget: Budget) -> str:
    """Why two arms are not equal in a budget; empty if they are."""
    pairs = [([one], [other]) for one, other in zip(arm, without, strict=True)] if budget.by_seed else [(arm, without)]
    for pair in pairs:
        mine, theirs = (spent_by(reports, budget.key) for reports in pair)
        if mine is None or theirs is None:
            return f"{budget.unit} not recorded"
        if abs(mine - theirs) > budget.tolerance * theirs:
            return f"not comparable: {mine:,.0f} {budget.unit} against {theirs:,.0f}"
    return ""


def verdict_table(arms: Mapping[str, Sequence[Report]], budget: Budget, samples: int = SAMPLES) -> str:
    """Markdown table of :func:`verdict_lines`, the margin and what was not run below it; or a line if nothing was."""
    rows = ["| arm | runs | targets | CPU h | NDCG@20, 95 % | minus without, 95 % | verdict, 90 % "
            "| detectable |",
            "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines = verdict_lines(arms, budget, samples)
    titles = {line.name: VERDICT_ARMS.get(line.name, line.name) for line in lines}
    rows += [f"| {titles[line.name]} | {' | '.join(_cells(line, line.interval))} |" for line in lines if line.interval]
    missing = [titles[line.name] for line in lines if not line.interval]
    if len(missing) == len(lines):
        return f"{NOTHING}\n"
    margins = {line.decision.margin for line in lines if line.decision}
    if margins:
        first = next(iter(arms.values()))[0]
        rows += ["", f"Margin: ±{margins.pop():.3f}, {MARGIN:.0%} of the arm without reasoning; "
                 f"{len(first.users)} rows of {len(np.unique(first.users))} users."]  # fmt: skip
    return "\n".join([*rows, *not_run_yet(missing)]) + "\n"


def _cells(line: Line, interval: Interval) -> list[str]:
    targets = "–" if line.targets is None else f"{line.targets:,.0f}"
    hours = "–" if line.cpu_seconds is None else f"{line.cpu_seconds / 3600:.2f}"
    against = f"{line.difference.interval:.3f}" if line.difference else line.refused
    verdict = f"{line.decision.said}: {line.decision.interval:.3f}" if line.decision else ""
    detectable = "" if line.detectable is None else f"{line.detectable:.3f}"
    return [str(line.seeds), targets, hours, f"{interval.mean:.3f}, {interval:.3f to}", against, verdict, detectable]


def not_run_yet(names: Sequence[str]) -> list[str]:
    """Lines below a table that name what it lacks."""
    return ["", f"Not run yet: {'; '.join(names)}."] if names else []


def or_not_run(table: str) -> str:
    """A table in Markdown, or a line in its place if nothing of it was run."""
    rows = [row for row in table.splitlines()[2:] if row]
    return table if any(NOT_RUN not in row for row in rows) else f"{NOTHING}\n"


def verdict_tables(source: Path, place: str) -> str:
    """Markdown: both tables of a data set and the best baseline, or a line if nothing of them was run.

    Args:
        source: the repository.
        place: data set and profile.
    """
    tables = {}
    for budget in (TARGETS, CPU_TIME):
        arms = verdict_arms(source, place, budget)
        made_equal = not budget.by_seed or read_arms(source / "results" / budget.folders[-1] / place)
        tables[budget.title] = verdict_table(arms, budget) if made_equal else f"{NOTHING}\n"
    if all(table.strip() == NOTHING for table in tables.values()):
        return f"{NOTHING}\n"
    if beside := beside_baseline(source, place):
        _, best, against = beside
        tables[TARGETS.title] += (
            f"\nThe best tuned baseline on the same rows is {best.name}, at {arm_interval([best], METRIC).mean:.3f}. "
            f"Without reasoning at equal targets, beside it: {against.sentence}.\n"
        )
    return "\n".join(f"#### {title}\n\n{table}" for title, table in tables.items())


def beside_baseline(source: Path, place: str) -> tuple[list[Report], Report, Comparison] | None:
    """The arm without reasoning at equal targets, the best tuned baseline, and how the first does beside the second.

    None while either is missing.
    """
    without, baselines = verdict_arms(source, place, TARGETS).get(WITHOUT), tuned_baselines(place, source)
    if not without or not baselines:
        return None
    return without, baselines[0], compare(without, baselines[:1], METRIC)


def ledger(source: Path, folders: Sequence[str]) -> dict[str, dict[str, float]]:
    """CPU seconds that the files below ``results`` say they took, by folder.

    Arms may share a stage, so where stages have left logs, training is what these end with, and elsewhere a report's
    ``cpu_seconds``. On top comes what its rows took to be read. A cell of the lab counts its process, a search its
    trials.

    Args:
        source: the repository.
        folders: below ``results``; a folder that isn't there has no files.

    Returns:
        Per folder: ``files``, ``training`` and ``reading`` in seconds, and how many files are ``silent`` about a
        training that they had.
    """
    found = {}
    for folder in folders:
        sums = {"files": 0.0, "training": 0.0, "reading": 0.0, "silent": 0.0}
        for path in sorted((source / "results" / folder).rglob("*.json")):
            content = read_json(path)
            training, known = (0.0, True) if any(path.parent.glob("*.jsonl")) else _training_seconds(content)
            _add(sums, training, known, _reading_seconds(content))
        for path in sorted((source / "results" / folder).rglob("*.jsonl")):
            rows = read_json_lines(path)
            spent = [float(row["cpu_seconds"]) for row in rows if row.get("cpu_seconds") is not None]
            _add(sums, max(spent, default=0.0), bool(spent))
        found[folder] = sums
    return found


def _add(sums: dict[str, float], training: float, known: bool, reading: float = 0.0) -> None:
    """A file more."""
    sums["files"] += 1
    sums["training"] += training
    sums["silent"] += not known
    sums["reading"] += reading


def _training_seconds(content: Mapping[str, Any]) -> tuple[float, bool]:
    """Seconds of training, and whether the file says it where there was any."""
    if content.get("cpu_seconds") is not None:
        return float(content["cpu_seconds"]), True
    of_lab = float(content.get("seconds", {}).get("process", 0.0))
    trials = sum(trial.get("cpu_seconds", 0.0) for trial in content.get("trials", ()))
    return of_lab + trials, "cpu_seconds" not in content and not content.get("settings", {}).get("hours")


def _reading_seconds(content: Mapping[str, Any]) -> float:
    rows = content.get("rows") or len(str(content.get("users", "")).split())
    per_row = float(content.get("writing", {}).get("cpu_seconds_per_row", 0.0))
    return per_row * rows + float(content.get("evaluation_cpu_seconds", 0.0))


def ledger_table(source: Path, folders: Sequence[str]) -> str:
    """Markdown table of :func:`ledger` in hours, with their sum."""
    found = ledger(source, folders)
    rows = ["| `results/` | files | training, CPU h | reading, CPU h |", "|---|---|---|---|"]
    for folder, sums in found.items():
        if not sums["files"]:
            rows.append(f"| `{folder}` | {NOT_RUN} | | |")
            continue
        training = f"{sums['training'] / 3600:.2f}"
        if sums["silent"]:
            told = f"{training}; " if sums["training"] else ""
            training = f"{told}not recorded in {sums['silent']:.0f} files"
        rows.append(f"| `{folder}` | {sums['files']:.0f} | {training} | {sums['reading'] / 3600:.2f} |")
    totals = [sum(sums[name] for sums in found.values()) / 3600 for name in ("training", "reading")]
    files = sum(sums["files"] for sums in found.values())
    return "\n".join([*rows, f"| together | {files:.0f} | {totals[0]:.2f} | {totals[1]:.2f} |"]) + "\n"
