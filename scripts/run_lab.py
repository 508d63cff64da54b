"""All arms of the lab, one seed after the other, into recorded results.

    python scripts/run_lab.py --search 3e-4 1e-3 3e-3   # rate of the arm without reasoning, on valid users, seed 0
    python scripts/run_lab.py --seeds 0 1 2 3 4

Each line of each seed leaves a checkpoint; the same command started again goes on behind the last one, and with other
knobs it takes other folders. Every finished
seed becomes ``seed-N.json``, reports that ``rrec compare`` reads, and ``lab.json`` sums up all seeds named.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrec_lib.core.console import forgive_terminals, say
from rrec_lib.core.profiles import parse_overrides
from rrec_lib.core.results import plain, provenance, write_json
from rrec_lib.evaluation.compare import SAMPLES, arm_interval, compare
from rrec_lib.evaluation.reports import Report, save_reports
from rrec_lib.lab import CONDITIONS, LAB_ABLATIONS, LAB_ARMS, LabConfig, LabRun, run_arm

METRICS = ("hit@1", "hit@5", "ndcg@20")
RANKS = ("n_greater", "n_equal")
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    **{arm: (arm, {}) for arm in LAB_ARMS}, **{name: ("full", knobs) for name, knobs in LAB_ABLATIONS.items()},
}  # fmt: skip


def main() -> None:
    forgive_terminals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="(default: 0 to 4)")
    parser.add_argument("--lines", nargs="+", default=list(LINES), choices=list(LINES), help="default: all")
    parser.add_argument("--out", type=Path, default=Path("results/lab"), help="(default: results/lab)")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/lab"), help="finished lines (default: runs/lab)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KNOB=VALUE", help="knobs of LabConfig")
    parser.add_argument("--search", type=float, nargs="+", metavar="RATE", help="only try these, into search.json")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the bootstrap (default: 10000)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        config = LabConfig(**parse_overrides(arguments.set))
    except (TypeError, ValueError) as problem:
        parser.error(f"--set: {problem}")
    if arguments.search:
        search(config, arguments.search, arguments.out / "search.json")
        return
    runs: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        own = [run_or_resume(config, line, seed, arguments.checkpoints) for line in arguments.lines]
        reports = [report_of(saved, arguments.samples) for run in own for saved in run["final"].values()]
        save_reports(arguments.out / f"seed-{seed}.json", reports, "lab", reports[0].examples, seed)
        runs += own
        found = plain(figures(config, runs, arguments.samples), "lab")
        write_json(arguments.out / "lab.json", {"name": "lab", **provenance(), **found})
        say(f"seed {seed} is in {arguments.out}")


def search(config: LabConfig, rates: list[float], path: Path, seed: int = 0) -> None:
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
    arm, knobs = LINES[line]
    config = replace(config, **knobs)
    path = folder / f"{line.replace(' ', '-')}-{seed}.json"
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
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
        reports[condition] = ranks | rest | {"name": report_name(line, condition)}
    return {
        "line": line, "seed": run.seed, "config": asdict(run.config), "curves": run.curves, "lessons": run.lessons,
        "seconds": run.seconds, "final": reports,
    }  # fmt: skip


def report_name(line: str, condition: str) -> str:
    return line if condition == "own" else f"{line}, read: {condition}"


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


if __name__ == "__main__":
    main()
