"""Record the evaluation on the test rows: baselines and every stage of the model, in chunks that resume.

Writes results/evaluation-movielens-PROFILE.json, which notebook 06 shows as a recorded run, and beside it
reports-movielens-PROFILE.json for `rrec compare`.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rrec_lib.baselines import fitted_baselines
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation import Report, evaluate, evaluate_scores, training_counts
from rrec_lib.paths import REPOSITORY
from rrec_lib.policy import weights_hash
from rrec_lib.profiles import available_profiles, load_profile
from rrec_lib.reasoning import ReasoningRecommender
from rrec_lib.reports import data_hash, save_reports
from rrec_lib.results import provenance, write_json
from rrec_lib.training import has_adapter, load_stage

# What is recorded, most important first: name, stage, control.
RUNS = (
    ("RecPO", "recpo", "own"),
    ("untrained", "base", "none"),
    ("RecPO, no reasoning", "recpo", "none"),
    ("warmed up", "warmup", "own"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chunk", type=int, default=64, help="examples per chunk (default: 64)")
    parser.add_argument("--rows", type=int, help="the first ROWS of a seeded shuffle of the test rows (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs/evaluation"), help="folder of finished chunks")
    arguments = parser.parse_args()
    profile = load_profile(arguments.profile, {"evaluation.batch_size": arguments.chunk})
    dataset = prepare_profile(profile)
    items, test = list(dataset["items"]), list(dataset["test"])
    # Shuffled, so that a run that is cut short has a fair sample of the rows.
    order = np.random.default_rng(arguments.seed).permutation(len(test))[: arguments.rows].tolist()
    test = [test[i] for i in order]
    draws, counts = profile.evaluation.bootstrap_samples, training_counts(dataset["train"], len(items))
    reports = {
        name: evaluate(baseline, test, name, draws, arguments.seed, counts)
        for name, baseline in fitted_baselines(dataset).items()
    }
    extra: dict[str, Any] = {}
    path = (REPOSITORY or Path.cwd()) / "results" / f"evaluation-{profile.data.dataset}-{profile.name}.json"
    for name, stage, control in RUNS:
        if stage != "base" and not has_adapter(profile, stage):
            print(f"{name}: not run, profile {profile.name} has no {stage} adapter")
            continue
        recommender = ReasoningRecommender(load_stage(profile, dataset, stage, arguments.seed), items, profile)
        findings = recommender.check(test, name, trained=stage != "base")
        states, finished = chunked_states(recommender, test, control, arguments.chunk, arguments.runs)
        reports[name] = evaluate_scores(
            lambda part, of=recommender, rows=states: of.score_states(rows[part].to(of.policy.device)),  # type: ignore[misc]
            test, name, draws, arguments.seed, counts, findings=findings,
        )  # fmt: skip
        if control == "own":
            extra[name] = {"finished_fraction": finished}
        write(path, profile.name, arguments.seed, reports, extra)
        ranks = path.with_name(path.name.replace("evaluation-", "reports-"))
        save_reports(ranks, list(reports.values()), profile.name, data_hash(dataset), arguments.seed)
        print(f"{name}: NDCG@20 {reports[name].interval('ndcg@20')}", flush=True)


def chunked_states(
    recommender: ReasoningRecommender, examples: list[Any], control: str, size: int, runs: Path
) -> tuple[Tensor, float]:
    """States of all examples, chunk by chunk; finished chunks of the same weights and examples are read back."""
    policy = recommender.policy
    key = f"{policy.base_hash} {weights_hash(policy.model, True)} {control} {size} {json.dumps(examples[:size])}"
    folder = runs / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    start, parts, finished = time.monotonic(), [], 0.0
    for first in range(0, len(examples), size):
        chunk, path = examples[first : first + size], folder / f"{first:06d}.safetensors"
        if not path.is_file():
            if control == "own":
                written = recommender.reason(chunk)
                states, closed = written.states, written.finished_fraction * len(chunk)
            else:
                states, closed = recommender.states(chunk, control), 0.0
            save_file({"states": states.cpu(), "finished": torch.tensor(closed)}, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
            print(f"{control} {first + len(chunk)}/{len(examples)}, {time.monotonic() - start:.0f} s", flush=True)
        saved = load_file(path)
        parts.append(saved["states"])
        finished += saved["finished"].item()
    return torch.cat(parts), finished / len(examples)


def write(path: Path, profile: str, seed: int, reports: dict[str, Report], extra: dict[str, Any]) -> None:
    """Write what is there so far, with every difference to the first model."""
    differences = {}
    first = next(name for name, _, _ in RUNS if name in reports)
    for name, report in reports.items():
        if name != first:
            i = reports[first].difference(report, "ndcg@20")
            differences[f"{first} − {name}"] = {"mean": i.mean, "low": i.low, "high": i.high}
    figures = {"reports": {n: r.figures() for n, r in reports.items()}, "differences_ndcg@20": differences, **extra}
    write_json(path, {"name": path.stem, "profile": profile, **provenance(seed), "figures": figures})


if __name__ == "__main__":
    main()
