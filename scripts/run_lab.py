"""All arms of the lab, several seeds, into one recorded result.

    python scripts/run_lab.py --seeds 5 --out results/lab.json

Each arm of each seed leaves a checkpoint; the same command started again goes on behind the last one.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrec_lib.comparison import arm_interval, compare
from rrec_lib.console import say
from rrec_lib.lab import ARMS, LabConfig, LabRun, run_arm
from rrec_lib.reports import Report
from rrec_lib.results import plain, provenance, write_json

METRICS = ("hit@1", "hit@5", "ndcg@20")
RANKS = ("n_greater", "n_equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm (default: 5)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), help="default: all")
    parser.add_argument("--out", type=Path, default=Path("results/lab.json"))
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/lab"), help="finished arms (default: runs/lab)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KNOB=VALUE", help="knobs of LabConfig, in JSON")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = LabConfig(**{knob: json.loads(value) for knob, value in (pair.split("=", 1) for pair in arguments.set)})
    runs = [run_or_resume(config, arm, seed, arguments.checkpoints) for seed in range(arguments.seeds) for arm in ARMS]
    write_json(arguments.out, {"name": "lab", **provenance(), **plain(figures(config, runs), "lab")})
    say(f"wrote {arguments.out}")


def run_or_resume(config: LabConfig, arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """One arm of one seed, from its checkpoint if the knobs are the same."""
    path = folder / f"{arm.replace(' ', '-')}-{seed}.json"
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["config"] == asdict(config):
            return saved
    say(f"{arm}, seed {seed}")
    run = plain(as_dict(run_arm(config, arm, seed)), arm) | {"provenance": provenance(seed)}
    write_json(path, run)
    return run


def as_dict(run: LabRun) -> dict[str, Any]:
    """A run as JSON holds it; a report is its ranks and what identifies its examples."""
    reports = {}
    for condition, report in run.final.items():
        ranks = {name: getattr(report, name) for name in RANKS}
        rest = ("name", "repeats", "samples", "seed", "n_items", "examples")
        reports[condition] = ranks | {name: getattr(report, name) for name in rest}
    return {
        "arm": run.arm, "seed": run.seed, "config": asdict(run.config), "curves": run.curves,
        "seconds": run.seconds, "final": reports,
    }  # fmt: skip


def report_of(saved: Mapping[str, Any]) -> Report:
    ranks = {name: np.array(saved[name]) for name in RANKS}
    return Report(**{**saved, **ranks}, users=np.arange(len(ranks["n_equal"])))


def figures(config: LabConfig, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and intervals over users and seeds, differences from the full arm, curves and wall clock."""
    arms: dict[str, list[Report]] = {}
    for run in runs:
        for condition, saved in run["final"].items():
            key = run["arm"] if condition == "own" else f"{run['arm']}, evaluated with {condition}"
            arms.setdefault(key, []).append(report_of(saved))
    table = {}
    for key, reports in arms.items():
        row: dict[str, Any] = {metric: asdict(arm_interval(reports, metric)) for metric in METRICS}
        row["hit@1 per seed"] = [report.metric("hit@1").mean() for report in reports]
        if key != "full" and "full" in arms:
            row["full against it"] = {metric: compare(arms["full"], reports, metric).sentence for metric in METRICS}
        table[key] = row
    kept = ("arm", "seed", "seconds", "curves")
    return {
        "config": asdict(config), "arms": ARMS, "table": table,
        "runs": [{name: run[name] for name in kept} | run["provenance"] for run in runs],
    }  # fmt: skip


if __name__ == "__main__":
    main()
