"""The book's spine in one file: MovieLens, SmolLM2, RecPO steps through TRL, a fixed sample before and after.

Notebooks 05 and 06 tell this script as a story. Its log is results/logs/first_steps.txt.
"""

import argparse
import tempfile
import time
from pathlib import Path

from rrec_lib.baselines import fitted_baselines
from rrec_lib.core import hardware
from rrec_lib.core.console import forgive_terminals
from rrec_lib.core.profiles import available_profiles, load_profile
from rrec_lib.core.results import describe_run
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.evaluate import evaluate, evaluate_scores, sample_examples
from rrec_lib.evaluation.reports import Report
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.stages import load_stage, train_recpo


def main() -> None:
    forgive_terminals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", default="base", help="start from: base, warmup or recpo (default: base)")
    parser.add_argument("--runs", type=Path, help="keep checkpoints here, and resume from them")
    arguments = parser.parse_args()
    start = time.perf_counter()
    profile = load_profile(arguments.profile)
    print(f"{describe_run(profile.name)}, stage {arguments.stage}")

    dataset = prepare_profile(profile)
    items = list(dataset["items"])
    print(f"data: { ({name: len(split) for name, split in dataset.items()}) }")
    settings = profile.evaluation
    sample = sample_examples(dataset["test"], settings.sample_size, settings.max_rows_per_user, arguments.seed)
    print(f"sample: {len(sample)} examples of {len({e['user_id'] for e in sample})} users")
    for name, baseline in fitted_baselines(dataset).items():
        show(evaluate(baseline, sample, name, settings.bootstrap_samples, arguments.seed))

    policy = load_stage(profile, dataset, arguments.stage, arguments.seed)
    print(f"model: {profile.model.name}, base weights {policy.base_hash}, arithmetic {policy.compute_dtype}")
    reports = []
    for moment in ("before", "after"):
        if moment == "after":
            with tempfile.TemporaryDirectory() as folder:
                trainer = train_recpo(policy, dataset, profile, arguments.runs or Path(folder), arguments.seed)
            steps = [row for row in trainer.state.log_history if "reward" in row]
            print(f"trained {len(steps)} steps, {time.perf_counter() - start:.0f} s so far")
        recommender = ReasoningRecommender(policy, items, profile)
        written = recommender.reason(sample)
        scores = recommender.score_states(written.states)
        reports.append(evaluate_scores(scores, sample, f"R²ec {moment}", settings.bootstrap_samples, arguments.seed))
        print(f"finished reasonings: {written.finished_fraction:.2f}; first three: {written.texts[:3]}")
        show(reports[-1])
    change = reports[1].difference(reports[0], "ndcg@20")
    print(f"NDCG@20 after - before: {change:+.4f}")
    print(f"{time.perf_counter() - start:.0f} s, peak memory {hardware.peak_memory_mb():.0f} MB")


def show(report: Report) -> None:
    """Print a report's metrics with their intervals."""
    for metric in report.values:
        interval = report.interval(metric)
        print(f"  {report.name:24} {metric:8} {interval:.4f}")


if __name__ == "__main__":
    main()
