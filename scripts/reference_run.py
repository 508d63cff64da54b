"""The reference run: R²ec with and without reasoning, several seeds, each with the same budget of CPU time.

With reasoning, a part of the budget is the warm-up's and the rest RecPO's; without, all of it trains the states behind
the bare prompt. A stage ends when three evaluations on valid bring no gain, or with its budget, and goes on with its
best weights. Stopped at any moment and started again, the script goes on from the last evaluation; finished runs are
read back. Each run's adapters stand in its folder, its test report and its values on valid in
results/reference/DATASET-PROFILE/.

    python scripts/reference_run.py --hours 1 --seeds 0 1 2
"""

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from torch import Tensor

from rrec_lib.checkpoints import log_lines
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation import evaluate_scores, mean_ndcg, sample_examples, training_counts
from rrec_lib.paths import REPOSITORY
from rrec_lib.policy import Policy, load_policy, weights_hash
from rrec_lib.profiles import Profile, available_profiles, load_profile, parse_overrides
from rrec_lib.reasoning import ReasoningRecommender
from rrec_lib.reference import UNTRAINED, WITH, WITHOUT
from rrec_lib.reports import data_hash, save_reports
from rrec_lib.stopping import VALUE, StopOnValid
from rrec_lib.training import save_stage, train_recpo, warm_up
from rrec_lib.warmup import WarmupTrainer

# Small steps of rows that share a prompt. RecPO's softmax is over what a user has not seen of the catalogue, that of
# the warm-up over the batch, so that every target's own row is trained.
SETTINGS = {
    "warmup.users_per_step": 4, "warmup.targets_per_user": 8, "warmup.item_negatives": 32, "warmup.learning_rate": 2e-3,
    "warmup.token_weight": 1.0,
    "training.item_softmax": "catalogue", "training.users_per_step": 8, "training.learning_rate": 1e-4,
}  # fmt: skip
ARMS = {WITH: "own", WITHOUT: "none", UNTRAINED: "none"}  # what stands before the marker
SENTENCE_EVERY = 4  # warm-up steps; sentences make a step longer. So few carry the form by their full weight alone
WARMUP_SHARE = 0.6  # of the budget of the arm with reasoning
EVERY = (100, 20)  # steps between evaluations of the warm-up and of RecPO, whose steps take several times as long
ENDLESS = 10**6  # steps; the budget ends a stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another profile value")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--hours", type=float, default=1.0, help="CPU hours of training a run (default: 1)")
    parser.add_argument(
        "--every", type=int, nargs=2, default=EVERY, metavar=("WARMUP", "RECPO"),
        help="steps between evaluations of either stage (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=300, help="rows of valid that decide (default: 300)")
    parser.add_argument("--runs", type=Path, default=Path("runs/reference"), help="checkpoints (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=(REPOSITORY or Path()) / "results" / "reference")
    arguments = parser.parse_args()
    for seed in arguments.seeds:  # seed by seed, so that a comparison is there as soon as possible
        for arm in arguments.arms:
            if arm == UNTRAINED and seed != arguments.seeds[0]:
                continue  # fresh LoRA is the identity, whatever its seed
            overrides = {
                **SETTINGS,
                "warmup.sentence_every": SENTENCE_EVERY if ARMS[arm] == "own" else 0,
                **parse_overrides(arguments.set),
            }
            profile = load_profile(arguments.profile, overrides)
            run(profile, arm, seed, arguments)


def run(profile: Profile, arm: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train one arm with one seed, or go on with it, and write its report."""
    place = f"{Path(profile.data.dataset).name}-{profile.name}"
    folder = arguments.runs / place / f"{arm.replace(' ', '-')}-{seed}"
    report = arguments.out / place / f"{folder.name}.json"
    if not report.is_file():
        dataset = prepare_profile(profile)
        policy = load_policy(profile.model, seed)
        if arm != UNTRAINED:
            train(policy, profile, dataset, arm, seed, folder, report, arguments)
        write_report(report, policy, profile, dataset, arm, ARMS[arm], seed, folder, trained=arm != UNTRAINED)
    print(f"{arm}, seed {seed}: {report}", flush=True)


def train(
    policy: Policy,
    profile: Profile,
    dataset: DatasetDict,
    arm: str,
    seed: int,
    folder: Path,
    report: Path,
    arguments: argparse.Namespace,
) -> None:
    """Both stages, or the one that the arm has; the policy ends with the best weights of the last."""

    def keep(trainer: Any, stage: str) -> None:
        save_stage(policy, trainer, folder / f"{stage}-adapter", dataset, profile, seed)
        values = [row for row in trainer.state.log_history if VALUE in row]
        log_lines(values, report.with_name(f"{report.stem}-{stage}.jsonl"))

    control, seconds = ARMS[arm], 3600 * arguments.hours
    valid = valid_rows(profile, dataset, arguments.rows, seed)
    share = WARMUP_SHARE if control == "own" else 1.0
    print(f"{arm}, seed {seed}: warm-up", flush=True)
    stop = judge(policy, profile, dataset, valid, control, arguments.every[0], share * seconds)
    keep(train_states(policy, dataset, profile, folder / "warmup", seed, stop), "warmup")
    if control == "own":
        print(f"{arm}, seed {seed}: RecPO", flush=True)
        stop = judge(policy, profile, dataset, valid, control, arguments.every[1], (1 - share) * seconds)
        keep(train_recpo(policy, dataset, profile, folder / "recpo", seed, stop=stop, max_steps=ENDLESS), "recpo")


def train_states(
    policy: Policy, dataset: DatasetDict, profile: Profile, folder: Path, seed: int, stop: StopOnValid
) -> WarmupTrainer:
    """The warm-up until it is stopped, with the softmax over the batch."""
    over_batch = replace(profile, training=replace(profile.training, item_softmax="batch"))
    return warm_up(policy, dataset, over_batch, folder, seed, stop, max_steps=ENDLESS)


def valid_rows(profile: Profile, dataset: DatasetDict, rows: int, seed: int) -> list[Any]:
    """The rows of valid that decide, a few of each user."""
    return sample_examples(list(dataset["valid"]), rows, profile.evaluation.max_rows_per_user, seed)


def judge(
    policy: Policy,
    profile: Profile,
    dataset: DatasetDict,
    valid: list[Any],
    control: str,
    every: int,
    seconds: float,
) -> StopOnValid:
    """What ends a stage: NDCG@20 on valid, and a budget of CPU seconds."""
    items = list(dataset["items"])

    def measure() -> float:
        value = mean_ndcg(ReasoningRecommender(policy, items, profile, use_cache=False, control=control), valid)
        print(f"valid NDCG@20 {value:.4f} on {len(valid)} rows", flush=True)
        return value

    return StopOnValid(measure, every=every, budget=seconds)


def write_report(
    path: Path,
    policy: Policy,
    profile: Profile,
    dataset: DatasetDict,
    name: str,
    control: str,
    seed: int,
    folder: Path,
    trained: bool = True,
    rows_per_user: int | None = None,
) -> None:
    """Evaluate on all test rows, or some of each user, chunk by chunk, and write the ranks with their provenance."""
    recommender, test = ReasoningRecommender(policy, list(dataset["items"]), profile), list(dataset["test"])
    if rows_per_user is not None:
        test = sample_examples(test, len(test), rows_per_user, seed=0)  # the same rows whatever the run's seed
    findings = recommender.check(test, name, trained=trained)
    states = chunked_states(recommender, test, control, 64, folder / "evaluation")
    counts = training_counts(dataset["train"], len(dataset["items"]))
    report = evaluate_scores(
        lambda part: recommender.score_states(states[part].to(policy.device)),
        test, name, profile.evaluation.bootstrap_samples, seed, counts, findings=findings,
    )  # fmt: skip
    print(f"{name}, seed {seed}: test NDCG@20 {report.interval('ndcg@20')}", flush=True)
    save_reports(path, [report], profile.name, data_hash(dataset), seed)


def chunked_states(
    recommender: ReasoningRecommender, examples: list[Any], control: str, size: int, runs: Path
) -> Tensor:
    """States of all examples, chunk by chunk; finished chunks of the same weights and examples are read back."""
    policy = recommender.policy
    key = f"{policy.base_hash} {weights_hash(policy.model, True)} {control} {size} {json.dumps(examples[:size])}"
    folder = runs / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    start, parts = time.monotonic(), []
    for first in range(0, len(examples), size):
        chunk, path = examples[first : first + size], folder / f"{first:06d}.safetensors"
        if not path.is_file():
            save_file({"states": recommender.states(chunk, control).cpu()}, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
            print(f"{control} {first + len(chunk)}/{len(examples)}, {time.monotonic() - start:.0f} s", flush=True)
        parts.append(load_file(path)["states"])
    return torch.cat(parts)


if __name__ == "__main__":
    main()
