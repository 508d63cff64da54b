"""CPU seconds until the states behind the bare prompt reach NDCG@20 of .12 on all of valid, twice in a row.

``ours`` trains with the recorded runs' present settings. ``ratio`` is the recorded run's time, read from its log, over
ours. With ``--sentence-transformers`` the same model, adapters and prompts are trained by that package's own trainer
with MultipleNegativesRankingLoss, until it gets there too or has had five times as long.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from common import finish
from datasets import Dataset, DatasetDict
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rrec_lib.core import hardware
from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import Profile, load_profile
from rrec_lib.data.examples import Example, prepare_profile
from rrec_lib.evaluation.evaluate import evaluate_scores
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.experiments.ceiling import BARE, evaluate_given
from rrec_lib.experiments.runner import SETTINGS
from rrec_lib.model.frozen_states import FrozenStates
from rrec_lib.model.lora import linear_modules
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.model.prompts import encode_items, encode_users, marker_ids
from rrec_lib.training.callbacks import SPENT, VALUE, StopOnValid
from rrec_lib.training.stages import warm_up

GOAL = 0.12
RECORDED = "results/reference/movielens-cpu/without-reasoning-0-warmup.jsonl"
BATCH = 32  # pairs in a step of the other trainer, as many targets as ours has
TIMES = 5  # as long as ours


class Reached(StopOnValid):
    """Ends a run when two evaluations in a row are at the goal."""

    goal = GOAL

    @property
    def converged(self) -> bool:
        return seconds_to(self.goal, [(0.0, value) for value in self.values.values()]) is not None


def seconds_to(goal: float, evaluations: list[tuple[float, float]]) -> float | None:
    """CPU seconds at the first of two successive evaluations, (seconds, value), that are at the goal."""
    for (seconds, value), (_, following) in pairwise(evaluations):
        if min(value, following) >= goal:
            return seconds
    return None


def logged(rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """A log's evaluations."""
    return [(row[SPENT], row[VALUE]) for row in rows if VALUE in row]


class OtherTrainer(TrainerCallback):
    """Evaluates another trainer's model every few steps, outside its time, and ends it at the goal or its budget."""

    def __init__(self, measure: Callable[[], float], every: int, goal: float, budget: float) -> None:
        self.measure, self.every, self.goal, self.budget = measure, every, goal, budget
        self.spent = self.started = 0.0
        self.found: list[tuple[float, float]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.process_time()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.spent += time.process_time() - self.started
        if state.global_step % self.every == 0 or self.spent >= self.budget:
            self.found.append((self.spent, self.measure()))
            print(f"step {state.global_step}, {self.spent:.0f} CPU s: {self.found[-1][1]:.4f}", flush=True)
        control.should_training_stop = self.spent >= self.budget or seconds_to(self.goal, self.found) is not None


def texts_of(policy: Policy, data: DatasetDict, examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """Prompts with their marker, and item prompts, as text that the tokenizer turns back into our token ids."""
    tokenizer, items = policy.tokenizer, list(data["items"])
    users = [ids + marker_ids(tokenizer) for ids in encode_users(tokenizer, examples, items)]
    both = users, encode_items(tokenizer, items)
    texts = tuple([str(tokenizer.decode(ids)) for ids in part] for part in both)
    if any(tokenizer(text)["input_ids"] != ids for text, ids in zip(texts[0][:99], users, strict=False)):
        raise ValueError("the tokenizer does not give the prompts' token ids back")
    return texts[0], texts[1]


def sentence_transformers_run(
    profile: Profile, data: DatasetDict, every: int, goal: float, budget: float
) -> OtherTrainer:
    """Train the same model, adapters and prompts by the other package; its pairs are prompts and items."""
    from peft import LoraConfig
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    policy, train, valid = load_policy(profile.model), list(data["train"]), list(data["valid"])
    tokenizer, config = policy.tokenizer, profile.model
    users, films = texts_of(policy, data, train)
    asked, _ = texts_of(policy, data, valid)
    base: Any = policy.model.unload()  # type: ignore[operator]
    with tempfile.TemporaryDirectory() as folder:
        base.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=1536)
    other = SentenceTransformer(modules=[transformer, Pooling(base.config.hidden_size, "lasttoken")], device="cpu")
    names = linear_modules(base, config.lora_layers)
    transformer.auto_model.add_adapter(
        LoraConfig(
            r=int(config.lora_rank or 8),
            lora_alpha=config.lora_alpha,
            target_modules=[name.removeprefix("model.") for name in names],
            task_type="FEATURE_EXTRACTION",
        )
    )
    pairs = Dataset.from_dict({"prompt": users, "item": [films[example["target"]] for example in train]})

    def measure() -> float:
        """NDCG@20 on all of valid, by its own encoding."""
        with hardware.autocast(policy.compute_dtype, policy.device):
            states, table = (
                other.encode(texts, convert_to_tensor=True, show_progress_bar=False).float() for texts in (asked, films)
            )
        scores = score_items(states, table, profile.reward.temperature)
        return evaluate_scores(scores, valid, "sentence-transformers", 100, 0).interval("ndcg@20").mean

    clock = OtherTrainer(measure, every, goal, budget)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder, per_device_train_batch_size=BATCH, max_steps=10**6, learning_rate=2e-3, warmup_steps=12,
            lr_scheduler_type="constant_with_warmup", save_strategy="no", report_to="none", disable_tqdm=True,
            use_cpu=True, bf16=policy.compute_dtype == torch.bfloat16, logging_steps=10**6,
        )  # fmt: skip
        loss = MultipleNegativesRankingLoss(other, scale=1 / profile.reward.temperature)
        SentenceTransformerTrainer(other, arguments, pairs, loss=loss, callbacks=[clock]).train()
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="random weights and a goal below chance; only --out is written"
    )
    parser.add_argument("--out", type=Path, help="the result's file (default: in results/benchmarks)")
    parser.add_argument("--every", type=int, default=25, help="steps between evaluations (%(default)s)")
    parser.add_argument("--budget", type=float, default=3600, help="CPU seconds of ours at most (%(default)s)")
    parser.add_argument("--sentence-transformers", action="store_true", help="train by that package too (installed)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    goal, every = (0.0, 1) if chosen.quick else (GOAL, chosen.every)
    states_alone = {"warmup.skills": [], "warmup.token_weight": 0, "training.item_softmax": "batch"}
    profile = load_profile("smoke" if chosen.quick else "cpu", {**({} if chosen.quick else SETTINGS), **states_alone})
    data, policy = prepare_profile(profile), load_policy(profile.model)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "frozen"
        frozen = FrozenStates(policy, kept)

        def evaluate() -> float:
            report, _ = evaluate_given(policy, data, profile, frozen, BARE, None, 0)
            return float(report.metric("ndcg@20").mean())

        stop = Reached(evaluate, every, chosen.budget)
        stop.goal = goal
        trainer = warm_up(policy, data, profile, Path(folder) / "run", stop=stop, max_steps=10**6, frozen=kept)
        found = logged(trainer.state.log_history)
        ours = seconds_to(goal, found)
        recorded = [json.loads(line) for line in resource(RECORDED).read_text(encoding="utf-8").splitlines()]
        before = seconds_to(GOAL, logged(recorded))
        figures: dict[str, Any] = {
            "goal": goal, "ours": {"seconds": ours, "evaluations": found, "targets": BATCH},
            "recorded": {"seconds": before, "evaluations": logged(recorded)},
            "peak_memory_mb": hardware.peak_memory_mb(),
        }  # fmt: skip
        if chosen.sentence_transformers:
            longest = TIMES * (ours or chosen.budget) + 1
            clock = sentence_transformers_run(profile, data, every, goal, longest)
            reached = seconds_to(goal, clock.found)
            figures["sentence_transformers"] = {"seconds": reached, "spent": clock.spent, "evaluations": clock.found}
    ratio = before / ours if before and ours else 0.0
    finish("states", [ratio], figures, chosen)


if __name__ == "__main__":
    main()
