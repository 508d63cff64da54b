"""The recorded runs of the lab: all arms, one seed after the other, and how the page shows them.

Each line of each seed leaves a checkpoint; the same call started again goes on behind the last one, and with other
knobs it takes other folders. Every finished seed becomes ``seed-N.json``, reports that ``rrec compare`` reads, and
``lab.json`` sums up all seeds named.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.core.console import say
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import plain, provenance, write_json
from rrec_lib.evaluation.compare import SAMPLES, arm_interval, compare
from rrec_lib.evaluation.reports import Report, save_reports
from rrec_lib.lab import CONDITIONS, LAB_ABLATIONS, LAB_ARMS, LabConfig, LabRun, run_arm

METRICS = ("hit@1", "hit@5", "ndcg@20")
RANKS = ("n_greater", "n_equal")
LAB_LINES: dict[str, tuple[str, Any]] = {
    **{arm: (arm, {}) for arm in LAB_ARMS},
    **{name: ("full", knobs) for name, knobs in LAB_ABLATIONS.items()},
}


def run_lab(
    config: LabConfig,
    seeds: Sequence[int],
    lines: Sequence[str],
    out: Path,
    checkpoints: Path,
    samples: int = SAMPLES,
) -> None:
    """Run lines of :data:`LAB_LINES`, seed by seed, and write what is found after each.

    Args:
        config: the knobs; a line turns its own on top.
        seeds: of the model and the training.
        lines: their names.
        out: folder of results.
        checkpoints: folder of finished lines.
        samples: of the bootstrap.

    Raises:
        ValueError: if a checkpoint is of other knobs.
    """
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        own = [run_or_resume(config, line, seed, checkpoints) for line in lines]
        reports = [report_of(saved, samples) for run in own for saved in run["final"].values()]
        save_reports(out / f"seed-{seed}.json", reports, "lab", reports[0].examples, seed)
        runs += own
        found = plain(figures(config, runs, samples), "lab")
        write_json(out / "lab.json", {"name": "lab", **provenance(), **found})
        say(f"seed {seed} is in {out}")


def search_rate(config: LabConfig, rates: Sequence[float], path: Path, seed: int = 0) -> None:
    """Write the arm without reasoning at several rates; what counts is Hit@1 on valid users at the end of the curve."""
    tried = []
    for rate in rates:
        run = run_arm(replace(config, learning_rate_without=rate), "without reasoning", seed)
        tried.append({"learning_rate_without": rate, "seconds": run.seconds, "curves": run.curves})
        found = {"name": "lab search", **provenance(seed), "config": asdict(config), "trials": tried}
        write_json(path, plain(found, "search"))


def run_or_resume(config: LabConfig, line: str, seed: int, folder: Path) -> dict[str, Any]:
    """One line of one seed, from its checkpoint if there is one.

    Raises:
        ValueError: if the checkpoint is of other knobs.
    """
    arm, knobs = LAB_LINES[line]
    config = replace(config, **knobs)
    path = folder / f"{line.replace(' ', '-')}-{seed}.json"
    if path.exists():
        saved = read_json(path, "config")
        then = asdict(LabConfig()) | saved["config"]  # a knob that came later was at its default
        if other := [knob for knob, value in asdict(config).items() if then[knob] != value]:
            raise ValueError(
                f"{path} is of other knobs ({', '.join(other)}); name other --checkpoints and another --out"
            )
        return saved
    say(f"{line}, seed {seed}")
    start = time.monotonic()
    run = plain(as_dict(line, run_arm(config, arm, seed)), line)
    run |= {"wall seconds": round(time.monotonic() - start, 1), "provenance": provenance(seed)}
    write_json(path, run)
    return run


def as_dict(line: str, run: LabRun) -> dict[str, Any]:
    """A run as JSON holds it; a report is its ranks and what identifies its examples."""
    reports = {}
    for condition, report in run.final.items():
        ranks = {name: getattr(report, name) for name in RANKS}
        rest = {name: getattr(report, name) for name in ("repeats", "samples", "seed", "n_items", "examples")}
        reports[condition] = ranks | rest | {"name": line if condition == "own" else f"{line}, read: {condition}"}
    return {
        "line": line, "seed": run.seed, "config": asdict(run.config), "curves": run.curves, "lessons": run.lessons,
        "seconds": run.seconds, "final": reports,
    }  # fmt: skip


def report_of(saved: Mapping[str, Any], samples: int) -> Report:
    ranks = {name: np.array(saved[name]) for name in RANKS}
    return Report(**{**saved, **ranks, "samples": samples}, users=np.arange(len(ranks["n_equal"])))


def figures(config: LabConfig, runs: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Means and intervals over users and seeds, differences from the full arm, curves and seconds."""
    arms: dict[str, list[Report]] = {}
    for run in runs:
        for saved in run["final"].values():
            arms.setdefault(saved["name"], []).append(report_of(saved, samples))
    table = {}
    for name, reports in arms.items():
        row: dict[str, Any] = {metric: asdict(arm_interval(reports, metric, samples)) for metric in METRICS}
        row["hit@1 per seed"] = [report.metric("hit@1").mean() for report in reports]
        if name != "full" and "full" in arms:
            against = {metric: compare(arms["full"], reports, metric, samples) for metric in METRICS}
            row["full against it"] = {metric: found.sentence for metric, found in against.items()}
        table[name] = row
    kept = ("line", "seed", "lessons", "seconds", "wall seconds", "curves")
    return {
        "config": asdict(config), "arms": LAB_ARMS, "knobs": LAB_ABLATIONS, "conditions": CONDITIONS,
        "seeds": sorted({run["seed"] for run in runs}), "table": table,
        "runs": [{name: run[name] for name in kept} | run["provenance"] for run in runs],
    }  # fmt: skip


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
