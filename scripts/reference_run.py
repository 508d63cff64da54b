"""The reference run: R²ec with and without reasoning, several seeds, each with the same budget of CPU time.

With reasoning, a part of the budget is the warm-up's and the rest RecPO's; without, all of it trains the states behind
the bare prompt. A stage ends when three evaluations on valid bring no gain, or with its budget, and goes on with its
best weights; RecPO's may be those it started from. Stopped at any moment and started again, the script goes on from the
last evaluation; finished runs are read back, and other settings than a run was begun with are refused. Each run's
adapters stand in its folder, its test report and its logs in results/reference/DATASET-PROFILE/.

    python scripts/reference_run.py --hours 1 --seeds 0 1 2
"""

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from torch import Tensor

from rrec_lib.core.console import forgive_terminals
from rrec_lib.core.paths import REPOSITORY, replacing
from rrec_lib.core.profiles import Profile, available_profiles, load_profile, parse_overrides
from rrec_lib.core.results import describe_run, log_lines
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.checks import check_blind
from rrec_lib.evaluation.evaluate import Example, evaluate_scores, mean_ndcg, sample_examples, training_counts
from rrec_lib.evaluation.reports import data_hash, load_reports, save_reports
from rrec_lib.experiments.reference import UNTRAINED, WITH, WITHOUT
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.model.prompts import encode_items, encode_users, marker_ids, prompts_hash
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.callbacks import StopOnValid
from rrec_lib.training.run_folder import check_same, claim, settings_of
from rrec_lib.training.stages import save_stage, train_recpo, warm_up
from rrec_lib.training.warmup_trainer import WarmupTrainer

# Small steps of rows that share a prompt. RecPO's softmax is over what a user has not seen of the catalogue, that of
# the warm-up over the batch, so that every target's own row is trained.
SETTINGS = {
    "warmup.users_per_step": 4, "warmup.targets_per_user": 8, "warmup.item_negatives": 32, "warmup.learning_rate": 2e-3,
    "training.item_softmax": "catalogue", "training.item_negatives": 32, "training.users_per_step": 8,
    "training.learning_rate": 1e-4,
}  # fmt: skip
ARMS = {WITH: "own", WITHOUT: "none", UNTRAINED: "none"}  # what stands before the marker
SENTENCE_EVERY = 4  # warm-up steps; sentences make a step longer
# A quarter of the sentences carry the form by their full weight alone.
OF_ARM = {
    "own": {"warmup.sentence_every": SENTENCE_EVERY, "warmup.token_weight": 1.0}, "none": {"warmup.sentence_every": 0},
}  # fmt: skip
WARMUP_SHARE = 0.6  # of the budget of the arm with reasoning
EVERY = (100, 20)  # steps between evaluations of the warm-up and of RecPO, whose steps take several times as long
ENDLESS = 10**6  # steps; the budget ends a stage


def main() -> None:
    forgive_terminals()
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
    print(describe_run(arguments.profile), flush=True)
    for seed in arguments.seeds:  # seed by seed, so that a comparison is there as soon as possible
        for arm in arguments.arms:
            if arm == UNTRAINED and seed != arguments.seeds[0]:
                continue  # fresh LoRA is the identity, whatever its seed
            overrides = {**SETTINGS, **OF_ARM[ARMS[arm]], **parse_overrides(arguments.set)}
            profile = load_profile(arguments.profile, overrides)
            run(profile, arm, seed, arguments)


def run(profile: Profile, arm: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train one arm with one seed, or go on with it, and write its report."""
    name = f"{arm.replace(' ', '-')}-{seed}"
    folder, report = arguments.runs / place(profile) / name, arguments.out / place(profile) / f"{name}.json"
    settings = settings_of(profile, hours=arguments.hours, every=arguments.every, rows=arguments.rows)
    if not finished(folder, report, settings):
        dataset = prepare_profile(profile)
        policy = load_policy(profile.model, seed)
        if arm != UNTRAINED:
            train(policy, profile, dataset, arm, seed, folder, report, arguments)
        write_report(report, policy, profile, dataset, arm, ARMS[arm], seed, folder, settings, trained=arm != UNTRAINED)
    print(f"{arm}, seed {seed}: {report}", flush=True)


def place(profile: Profile) -> str:
    """What runs on the same data with the same profile stand under."""
    return f"{Path(profile.data.dataset).name}-{profile.name}"


def finished(folder: Path, report: Path, settings: dict[str, Any]) -> bool:
    """Whether a run's report is there; the run's folder is tied to its settings.

    Raises:
        ValueError: if report or folder belong to a run with other settings.
    """
    if report.is_file():
        kept = load_reports(report)[0].run.get("settings")
        check_same(report, kept, settings, "give the same ones, or move it away")
        return True
    claim(folder, settings)
    return False


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
        log_lines(trainer.state.log_history, report.with_name(f"{report.stem}-{stage}.jsonl"))

    control, seconds = ARMS[arm], 3600 * arguments.hours
    valid = valid_rows(profile, dataset, arguments.rows, seed)
    share = WARMUP_SHARE if control == "own" else 1.0
    print(f"{arm}, seed {seed}: warm-up", flush=True)
    stop = judge(policy, profile, dataset, valid, control, arguments.every[0], share * seconds)
    keep(train_states(policy, dataset, profile, folder / "warmup", seed, stop), "warmup")
    if control == "own":
        print(f"{arm}, seed {seed}: RecPO", flush=True)
        reached = stop.values[stop.best_step]
        stop = judge(policy, profile, dataset, valid, control, arguments.every[1], (1 - share) * seconds, reached)
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
    reached: float | None = None,
) -> StopOnValid:
    """What ends a stage: NDCG@20 on valid, from what was reached before, and a budget of CPU seconds."""
    items = list(dataset["items"])

    def measure() -> float:
        value = mean_ndcg(ReasoningRecommender(policy, items, profile, use_cache=False, control=control), valid)
        print(f"valid NDCG@20 {value:.4f} on {len(valid)} rows", flush=True)
        return value

    return StopOnValid(measure, every=every, budget=seconds, start=reached)


def write_report(
    path: Path,
    policy: Policy,
    profile: Profile,
    dataset: DatasetDict,
    name: str,
    control: str,
    seed: int,
    folder: Path,
    settings: dict[str, Any],
    trained: bool = True,
    rows_per_user: int | None = None,
) -> None:
    """Evaluate on all test rows, or some of each user, chunk by chunk, and write the ranks with their provenance."""
    items, test = list(dataset["items"]), list(dataset["test"])
    recommender = ReasoningRecommender(policy, items, profile)
    if rows_per_user is not None:
        test = sample_examples(test, len(test), rows_per_user, seed=0)  # the same rows whatever the run's seed
    findings = recommender.check(test, name, trained=trained)
    few = sample_examples(test, 4, 1, seed=0)
    findings.append(check_blind(lambda rows: recommender.score_states(recommender.states(rows, control)), few, name))
    states, writing = chunked_states(recommender, test, control, 64, folder / "evaluation")
    counts = training_counts(dataset["train"], len(dataset["items"]))
    report = evaluate_scores(
        lambda part: recommender.score_states(states[part].to(policy.device)),
        test, name, profile.evaluation.bootstrap_samples, seed, counts, findings=findings,
    )  # fmt: skip
    print(f"{name}, seed {seed}: test NDCG@20 {report.interval('ndcg@20')}", flush=True)
    prompts = {"history": encode_users(policy.tokenizer, test, items), "item": encode_items(policy.tokenizer, items)}
    tokens = {of: float(np.mean([len(ids) for ids in encoded])) for of, encoded in prompts.items()}
    save_reports(
        path, [report], profile.name, data_hash(dataset), seed, settings=settings, writing=writing, tokens=tokens
    )


def chunked_states(
    recommender: ReasoningRecommender, examples: list[Example], control: str, size: int, runs: Path
) -> tuple[Tensor, dict[str, float]]:
    """States of all examples, chunk by chunk, and what writing them took; finished chunks are read back.

    A chunk's file is named by all that its states depend on: weights, prompts, rollouts, control, its examples. These
    are drawn from all, so that a chunk has several users and another's reasoning is at hand.
    """
    policy, rollouts = recommender.policy, recommender.profile.rollouts
    marker = len(marker_ids(policy.tokenizer))
    made_by = f"{policy.made_by} {prompts_hash(policy.tokenizer)} {rollouts} {control}"
    order = np.random.default_rng(0).permutation(len(examples))
    parts: list[dict[str, Tensor]] = []
    for numbers in np.array_split(order, -(-len(order) // size)):
        chunk = [examples[number] for number in numbers]
        key = hashlib.sha256(f"{made_by} {json.dumps(chunk)}".encode()).hexdigest()[:16]
        path = runs / f"{key}.safetensors"
        if not path.is_file():
            start = time.process_time()
            written = recommender.reason(chunk) if control == "own" else None
            states, closed = recommender.states(chunk, control, written), written.closed if written else []
            found = {
                "states": states.cpu(),
                "seconds": torch.tensor([time.process_time() - start]),
                "tokens": torch.tensor([float(len(reasoning.ids) - marker) for reasoning in closed]),
                "finished": torch.tensor([float(reasoning.finished) for reasoning in closed]),
            }
            with replacing(path) as temporary:
                save_file(found, temporary)
            done = (len(parts) + 1) * size
            print(f"{control} {min(done, len(examples))}/{len(examples)}, {found['seconds'].item():.0f} s", flush=True)
        parts.append(load_file(path))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    states = joined["states"][np.argsort(order)]
    writing = {"cpu_seconds_per_row": float(joined["seconds"].sum()) / len(examples)}
    if control == "own":
        writing |= {"tokens": float(joined["tokens"].mean()), "unfinished": 1 - float(joined["finished"].mean())}
    return states, writing


if __name__ == "__main__":
    main()
