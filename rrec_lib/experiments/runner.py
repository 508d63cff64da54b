"""What the recorded runs share: stages that end on valid or with a budget of CPU seconds, resuming, and the report.

A stage ends when three evaluations on valid bring no gain, or with its budget, and goes on with its best weights;
RecPO's may be those it started from. Stopped at any moment and started again, a run goes on from its last evaluation; a
finished one is read back, and other settings than it was begun with are refused.
"""

import hashlib
import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rrec_lib.core.paths import REPOSITORY
from rrec_lib.core.profiles import Profile, available_profiles, parse_overrides
from rrec_lib.core.reading import check_same
from rrec_lib.core.results import log_lines
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.checks import Finding, check_blind
from rrec_lib.evaluation.chunks import CHUNK, in_chunks
from rrec_lib.evaluation.evaluate import Example, evaluate_scores, mean_ndcg, sample_examples, training_counts
from rrec_lib.evaluation.reports import data_hash, load_reports, save_reports
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.model.prompts import encode_items, encode_users, marker_ids, prompts_hash
from rrec_lib.recommend.controls import CHEAT, GIVEN_TEXTS, SWAPPED, WITH_WORLD
from rrec_lib.recommend.recommender import ReasoningRecommender, Reasonings
from rrec_lib.recpo.rollouts import Closed
from rrec_lib.training.callbacks import StopOnValid
from rrec_lib.training.run_folder import claim, settings_of
from rrec_lib.training.skills import world_of
from rrec_lib.training.stages import save_stage, train_recpo, warm_up

# Small steps of rows that share a prompt. RecPO's softmax is over what a user has not seen of the catalogue, that of
# the warm-up over the batch, so that every target's own row is trained.
SETTINGS: dict[str, Any] = {
    "warmup.users_per_step": 4, "warmup.targets_per_user": 8, "warmup.item_negatives": 32, "warmup.learning_rate": 2e-3,
    "training.item_softmax": "catalogue", "training.item_negatives": 32, "training.users_per_step": 8,
    "training.learning_rate": 1e-4,
}  # fmt: skip
WINDOW = 10  # lines of history, in the second trial and its ceiling
OF_ITS_OWN = ("own", "other", "random", SWAPPED)  # controls that need what the policy wrote
ENDLESS = 10**6  # steps; the budget ends a stage


@dataclass(frozen=True)
class Options:
    """What a user may choose for all runs of an experiment.

    Attributes:
        hours: CPU hours of training a run.
        every: steps between evaluations on valid; a pair for an experiment with two stages.
        runs: folder of checkpoints.
        out: folder of reports.
        profile: its name.
        overrides: other profile values, by ``section.field``.
        rows: of valid that decide.
    """

    hours: float
    every: Any
    runs: Path
    out: Path
    profile: str = "cpu"
    overrides: dict[str, Any] = field(default_factory=dict)
    rows: int = 300


def options_parser(description: str | None, defaults: Options) -> ArgumentParser:
    """A script's parser with the options of every experiment; the script adds its own.

    Without hours in the defaults an experiment's length is said in steps, and nothing is stopped on valid.
    """
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default=defaults.profile, choices=available_profiles())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another profile value")
    parser.add_argument("--runs", type=Path, default=defaults.runs, help="checkpoints (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=(REPOSITORY or Path()) / defaults.out, help="reports")
    if not defaults.hours:
        parser.set_defaults(hours=defaults.hours, every=defaults.every, rows=defaults.rows)
        return parser
    parser.add_argument("--hours", type=float, default=defaults.hours, help="CPU hours of training a run (%(default)s)")
    pair: dict[str, Any] = {"nargs": 2, "metavar": ("WARMUP", "RECPO")} if isinstance(defaults.every, Sequence) else {}
    parser.add_argument(
        "--every", type=int, default=defaults.every, help="steps between evaluations (default: %(default)s)", **pair
    )
    parser.add_argument("--rows", type=int, default=defaults.rows, help="rows of valid that decide (%(default)s)")
    return parser


def options_of(arguments: Namespace) -> Options:
    """What :func:`options_parser` has read."""
    chosen = {one.name: getattr(arguments, one.name) for one in fields(Options) if one.name != "overrides"}
    return Options(**chosen, overrides=parse_overrides(arguments.set))


@dataclass(frozen=True)
class Run:
    """One arm or ablation with one seed.

    Attributes:
        name: of the arm or ablation, which its report bears.
        control: what stands before the marker, see :class:`ReasoningRecommender`.
        seed: of LoRA weights, data order and sampling.
        options: of the experiment.
        profile: with the run's own values.
        hours: CPU hours of training.
        test_rows: test rows of a user at most; None takes all.
        trained: false for a model as it was before training.
        more: what else its outcome depends on.
    """

    name: str
    control: str
    seed: int
    options: Options
    profile: Profile
    hours: float
    test_rows: int | None = None
    trained: bool = True
    more: dict[str, Any] = field(default_factory=dict)

    def below(self, folder: Path, suffix: str = "") -> Path:
        """This run's place below a folder; runs on the same data with the same profile stand together."""
        place = f"{Path(self.profile.data.dataset).name}-{self.profile.name}"
        return folder / place / f"{self.name.replace(' ', '-')}-{self.seed}{suffix}"

    @property
    def report(self) -> Path:
        return self.below(self.options.out, ".json")

    @property
    def settings(self) -> dict[str, Any]:
        """What the outcome depends on beside the seed, as the report keeps it."""
        more = self.more if self.test_rows is None else {"test_rows": self.test_rows, **self.more}
        return settings_of(self.profile, hours=self.hours, every=self.options.every, rows=self.options.rows, **more)

    def finished(self) -> bool:
        """Whether the report is there; the folder of checkpoints is tied to the settings.

        Raises:
            ValueError: if report or folder belong to a run with other settings.
        """
        if not self.report.is_file():
            claim(self.below(self.options.runs), self.settings)
            return False
        kept = load_reports(self.report)[0].run.get("settings")
        check_same(self.report, kept, self.settings, "give the same ones, or move it away")
        return True


def carry_out(run: Run, train: Callable[[Run, Policy, DatasetDict], dict[str, Any] | None]) -> None:
    """Train a run, or go on with it, and write its report, unless that is there.

    Args:
        run: which.
        train: brings a fresh policy to what is evaluated; the report keeps what it returns.
    """
    if not run.finished():
        dataset = prepare_profile(run.profile)
        policy = load_policy(run.profile.model, run.seed)
        write_report(run, policy, dataset, **(train(run, policy, dataset) or {}))
    print(f"{run.name}, seed {run.seed}: {run.report}", flush=True)


def train_stage(
    run: Run,
    stage: str,
    policy: Policy,
    dataset: DatasetDict,
    seconds: float,
    every: int,
    reached: float | None = None,
) -> float:
    """Train one stage until valid or the budget ends it; the policy ends with its best weights.

    Checkpoints stand in the run's folder, the weights in ``STAGE-adapter`` beside them, the log beside the report.

    Args:
        run: whose profile and seed count.
        stage: ``"warmup"``, with the softmax over the batch, or ``"recpo"``.
        policy: trained in place.
        dataset: splits ``train``, ``valid`` and ``items``.
        seconds: of the CPU, the budget.
        every: steps between evaluations.
        reached: NDCG@20 on valid of the weights it starts from, where it is known.

    Returns:
        NDCG@20 on valid of the best weights.
    """
    profile, items = run.profile, list(dataset["items"])
    valid = sample_examples(list(dataset["valid"]), run.options.rows, profile.evaluation.max_rows_per_user, run.seed)

    def measure() -> float:
        value = mean_ndcg(ReasoningRecommender(policy, items, profile, use_cache=False, control=run.control), valid)
        print(f"valid NDCG@20 {value:.4f} on {len(valid)} rows", flush=True)
        return value

    print(f"{run.name}, seed {run.seed}: {stage}", flush=True)
    stop = StopOnValid(measure, every=every, budget=seconds, start=reached)
    folder = run.below(run.options.runs)
    over_batch = replace(profile, training=replace(profile.training, item_softmax="batch"))
    train, own = (warm_up, over_batch) if stage == "warmup" else (train_recpo, profile)
    trainer: Any = train(policy, dataset, own, folder / stage, run.seed, stop=stop, max_steps=ENDLESS)
    save_stage(policy, trainer, folder / f"{stage}-adapter", dataset, profile, run.seed)
    log_lines(trainer.state.log_history, run.below(run.options.out, f"-{stage}.jsonl"))
    return stop.values[stop.best_step]


def write_report(run: Run, policy: Policy, dataset: DatasetDict, **more: Any) -> None:
    """Evaluate on all test rows, or some of each user, chunk by chunk; write the ranks, their provenance, and more."""
    items, test, name, profile = list(dataset["items"]), test_rows_of(run, dataset), run.name, run.profile
    world = world_of(dataset) if run.control in WITH_WORLD else None
    recommender = ReasoningRecommender(policy, items, profile, world=world)
    findings = recommender.check(test, name, trained=run.trained)
    if run.control == CHEAT:
        findings.append(Finding("blind", None, "this control reads the target on purpose"))
    else:
        of_four = sample_examples(test, 4, 1, seed=0)
        findings.append(
            check_blind(lambda rows: recommender.score_states(recommender.states(rows, run.control)), of_four, name)
        )
    folders = run.below(run.options.runs) / "evaluation", run.options.runs / "written"
    states, writing = chunked_states(recommender, test, run.control, CHUNK, *folders)
    report = evaluate_scores(
        lambda part: recommender.score_states(states[part].to(policy.device)),
        test, name, profile.evaluation.bootstrap_samples, run.seed, training_counts(dataset["train"], len(items)),
        findings=findings,
    )  # fmt: skip
    print(f"{name}, seed {run.seed}: test NDCG@20 {report.interval('ndcg@20')}", flush=True)
    prompts = {"history": encode_users(policy.tokenizer, test, items), "item": encode_items(policy.tokenizer, items)}
    tokens = {of: float(np.mean([len(ids) for ids in encoded])) for of, encoded in prompts.items()}
    made = {"settings": run.settings, "writing": writing, "tokens": tokens, **more}
    save_reports(run.report, [report], profile.name, data_hash(dataset), run.seed, **made)


def test_rows_of(run: Run, dataset: DatasetDict) -> list[Example]:
    """All test rows, or some of each user; the same ones whatever the run's seed."""
    test = list(dataset["test"])
    return test if run.test_rows is None else sample_examples(test, len(test), run.test_rows, seed=0)


def chunked_states(
    recommender: ReasoningRecommender, examples: list[Example], control: str, size: int, runs: Path, written: Path
) -> tuple[Tensor, dict[str, float]]:
    """States of all examples, chunk by chunk, and what writing them took; finished chunks are read back.

    Args:
        recommender, examples, control: whose states.
        size: rows of a chunk at most.
        runs: folder of the chunks' files.
        written: folder of the chunks' reasonings, which several controls of the same weights may share.

    Returns:
        (E, d) states in the order of the examples; CPU seconds a row and, for its own reasoning, which has those of
        writing it among them, mean tokens and the share that was not finished.
    """

    def compute(chunk: list[Example]) -> dict[str, Tensor]:
        if control not in OF_ITS_OWN:
            return {"states": recommender.states(chunk, control)}
        own, seconds = reasoned(recommender, chunk, written)
        found = {"states": recommender.states(chunk, control, own)}
        figures = {"writing": seconds, **reasoning_figures(recommender.policy, own)}
        return {**found, **figures} if control == "own" else found

    given = [GIVEN_TEXTS[control](row, recommender.world) for row in examples] if control in GIVEN_TEXTS else []  # type: ignore[arg-type]
    joined = in_chunks(examples, compute, chunk_key(recommender, control, *given), runs, size, control)
    writing = {"cpu_seconds_per_row": float(joined["seconds"].mean())}
    if control == "own":
        writing["cpu_seconds_per_row"] += float(joined["writing"].mean())
        writing |= {"tokens": float(joined["tokens"].mean()), "unfinished": 1 - float(joined["finished"].mean())}
    return joined["states"], writing


def reasoned(recommender: ReasoningRecommender, chunk: list[Example], folder: Path) -> tuple[Reasonings, Tensor]:
    """The greedy reasonings of a chunk, written once for all that is read behind them, and (E,) CPU seconds of it."""

    def write(rows: list[Example]) -> dict[str, Tensor]:
        made = recommender.reason(rows)
        kept = {
            "ids": [torch.tensor(closed.ids) for closed in made.closed],
            "text": [torch.tensor([*text.encode(), 0], dtype=torch.uint8) for text in made.texts],
        }
        figures = [[closed.sampled, closed.finished, closed.trimmed] for closed in made.closed]
        padded = {of: pad_sequence(rows, batch_first=True, padding_value=0) for of, rows in kept.items()}
        lengths = torch.tensor([[len(row) for row in rows] for rows in kept.values()]).T
        return {**padded, "lengths": lengths, "closed": torch.tensor(figures), "states": made.states}

    found = in_chunks(chunk, write, chunk_key(recommender, "greedy", with_world=False), folder, len(chunk), "written")
    closed, texts = [], []
    for row, (ids, letters) in enumerate(found["lengths"].tolist()):
        sampled, finished, trimmed = found["closed"][row].tolist()
        closed.append(Closed(found["ids"][row, :ids].tolist(), sampled, bool(finished), bool(trimmed)))
        texts.append(bytes(found["text"][row, : letters - 1].tolist()).decode())
    return Reasonings(texts, closed, found["states"].to(recommender.policy.device)), found["seconds"]


def chunk_key(recommender: ReasoningRecommender, *more: object, with_world: bool = True) -> str:
    """What states depend on beside their rows: weights, prompts, items, rollouts, a world's neighbours, and more."""
    policy, world = recommender.policy, recommender.world if with_world else None
    known = [] if world is None else [hashlib.sha256(json.dumps(world.neighbours).encode()).hexdigest()[:16]]
    items = hashlib.sha256(json.dumps(recommender.items).encode()).hexdigest()[:16]
    words = policy.fingerprint, prompts_hash(policy.tokenizer), items, recommender.profile.rollouts, *known, *more
    return "\n".join(map(str, words))


def reasoning_figures(policy: Policy, written: Reasonings) -> dict[str, Tensor]:
    """(E,) tokens of each reasoning without its marker, and whether the policy closed it itself."""
    marker = len(marker_ids(policy.tokenizer))
    return {
        "tokens": torch.tensor([float(len(reasoning.ids) - marker) for reasoning in written.closed]),
        "finished": torch.tensor([float(reasoning.finished) for reasoning in written.closed]),
    }
