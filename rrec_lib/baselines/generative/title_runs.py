"""Runs on titles: a folder for each setting, a budget of processor hours, the weights that valid likes best.

What rounds of writing and learning share stands here too.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from transformers import TrainingArguments

from rrec_lib.baselines.generative.recommender import GenerativeRecommender
from rrec_lib.baselines.generative.title_trainer import ENDLESS, Answers, Loss, TitleTrainer
from rrec_lib.baselines.generative.titles import title_answers, title_ids, title_prompts
from rrec_lib.baselines.generative.trie import build_trie
from rrec_lib.baselines.generative.walk import Rule
from rrec_lib.baselines.registry import SEQUENCE_MODEL, BudgetError, Means, Splits
from rrec_lib.baselines.sequence import SequenceRecommender
from rrec_lib.baselines.tuning import fit_tuned, tune_other
from rrec_lib.core.console import say
from rrec_lib.core.hardware import users_of_a_process
from rrec_lib.core.profiles import TrainingProfile, WarmupProfile, non_defaults
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import write_json
from rrec_lib.data.examples import Example, Item
from rrec_lib.evaluation.evaluate import Recommender, sample_examples
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.model.prompts import item_name
from rrec_lib.training.callbacks import StopOnValid
from rrec_lib.training.configuration import warmup_arguments
from rrec_lib.training.loop import run_in

VALID_ROWS = 200  # whose loss judges a run
ROUND_ROWS = 512  # of training, written for and learned from in a round
PART = 64  # of them, whose texts are written and kept together
WRITING = 1 / 3  # of a round's time, after which no more is begun to be written


def means_of(splits: Splits) -> Means:
    """What a language model is trained or read with.

    Raises:
        ValueError: if the splits don't say.
    """
    if splits.means is None:
        raise ValueError("this baseline needs a language model: give Splits.of a Means, or use `rrec baselines`")
    return splits.means


def valid_rows(splits: Splits) -> list[Example]:
    """The rows of valid whose loss judges runs: fixed, no user with many."""
    most = means_of(splits).profile.evaluation.max_rows_per_user
    return sample_examples(splits.valid, VALID_ROWS, most, seed=0)


def true_titles(policy: Policy, examples: Sequence[Example], items: Sequence[Item]) -> Answers:
    """Each example with its target's title alone."""
    answers = title_answers(policy.tokenizer, items)
    return Answers(examples, [[answers[example["target"]]] for example in examples])


def with_negatives(
    policy: Policy, examples: Sequence[Example], items: Sequence[Item], count: int, seed: int
) -> Answers:
    """Each example with its target's title and those of drawn items, which the user has not seen.

    Where fewer are left some are drawn twice, where none is the example is left out.
    """
    answers, names = title_answers(policy.tokenizer, items), [item_name(item) for item in items]
    kept, titles = list[Example](), list[list[str]]()
    for number, example in enumerate(examples):
        allowed = np.ones(len(items), dtype=bool)
        allowed[list(example["seen"])] = False
        free = [row for row in np.flatnonzero(allowed).tolist() if names[row] != names[example["target"]]]
        if free:
            drawn = np.random.default_rng([seed, number]).choice(free, count, replace=len(free) < count).tolist()
            kept.append(example)
            titles.append([answers[row] for row in (example["target"], *drawn)])
    return Answers(kept, titles)


def train_titles(
    policy: Policy,
    splits: Splits,
    name: str,
    seed: int,
    hours: float,
    train: Answers,
    valid: Answers,
    loss: Loss | None = None,
    trainer_class: Callable[..., TitleTrainer] = TitleTrainer,
    **settings: Any,
) -> TitleTrainer:
    """Train in a folder of its own, or go on, until valid or the budget ends it; the policy has its best weights then.

    Supervised runs take rate and size of a step from the profile's warm-up, those of preferences from its RecPO.

    Args:
        policy: trained in place.
        splits: with means.
        name: of the run.
        seed: of the order.
        hours: of the processor.
        train, valid: see :class:`Answers`.
        loss: of preferences; supervised without one.
        trainer_class: or what makes a trainer of the same arguments.
        settings: what else the outcome depends on, such as the loss's parameters.
    """
    profile = means_of(splits).profile

    def make(arguments: TrainingArguments) -> TitleTrainer:
        return trainer_class(policy, arguments, profile, splits.items, train, valid, loss)

    stage = profile.warmup if loss is None else profile.training
    return train_answers(policy, splits, name, seed, hours, stage, train, valid, make, **settings)


def train_answers(
    policy: Policy,
    splits: Splits,
    name: str,
    seed: int,
    hours: float,
    stage: WarmupProfile | TrainingProfile,
    train: Answers,
    valid: Answers,
    make: Callable[[TrainingArguments], Any],
    **settings: Any,
) -> Any:
    """Train by any trainer that learns from answers, as :func:`train_titles` does.

    Args:
        policy, splits, name, seed, hours, train, valid, settings: as there.
        stage: whose rate and size of a step are taken.
        make: the trainer; its ``valid_score`` judges, under the name ``judged_by``.
    """
    means, profile = means_of(splits), means_of(splits).profile
    step = {"learning_rate": stage.learning_rate, "users_per_step": stage.users_per_step}
    model = {key: value for key, value in non_defaults(profile.model).items() if key not in ("name", "revision")}
    model["dtype"] = policy.dtype_name  # auto may measure another the next time
    told = json.dumps([[[e["user_id"], len(e["seen"]), e["target"]] for e in part.examples] + list(part.titles)
                       + list(part.rewards) for part in (train, valid)], default=str)  # fmt: skip
    made_with = {
        "run": name, "seed": seed, "budget": hours * 3600, "evaluated_every": means.every, **step, **settings,
        "targets_per_user": profile.warmup.targets_per_user, "model": model, "instruction": train.instruction,
        "data_hash": splits.data, "answers": hashlib.sha256(told.encode()).hexdigest()[:16],
        "base_weights": policy.base_hash, "starts_from": weights_hash(policy.model, only_trainable=True),
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:8]
    folder = means.folder / "runs" / f"{name}-seed-{seed}-{digest}"
    arguments = warmup_arguments(
        profile, folder, seed, max_steps=ENDLESS, learning_rate=stage.learning_rate,
        per_device_train_batch_size=users_of_a_process(stage.users_per_step)[0],
    )  # fmt: skip
    trainer = make(arguments)
    judge = trainer.valid_score
    start, _ = made_once(splits, "start", json.dumps(made_with, sort_keys=True), judge)
    stop = StopOnValid(judge, means.every, hours * 3600, start=start, name=trainer.judged_by)
    return run_in(folder, trainer, stop, made_with)


def round_rows(splits: Splits, seed: int, number: int) -> list[Example]:
    """The rows of training that a round learns from, drawn anew for each."""
    drawn = np.random.default_rng([seed, number]).permutation(len(splits.train))[:ROUND_ROWS]
    return [splits.train[row] for row in sorted(drawn.tolist())]


def made_once(splits: Splits, name: str, key: str, make: Callable[[], Any]) -> tuple[Any, float]:
    """What took long to make, and the CPU seconds that it took; it is kept, and a run that goes on reads it back.

    Args:
        splits: with means.
        name: of the file.
        key: all that the outcome depends on.
        make: gives what JSON can hold.
    """
    path = means_of(splits).folder / "runs" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        started, written = time.process_time(), make()
        write_json(path, {"written": written, "cpu_seconds": time.process_time() - started})
    found = read_json(path, "written", "cpu_seconds")
    return found["written"], float(found["cpu_seconds"])


def written_in_parts(
    rows: Sequence[Example],
    write: Callable[[list[Example]], tuple[list[Any], float]],
    seconds: float,
    what: str,
    spent: float = 0.0,
) -> tuple[list[Example], list[Any], float]:
    """Write for as many rows as there is time for, part by part, each an even sample of them.

    Args:
        rows: of training.
        write: gives for each row what was written, and the CPU seconds; what it keeps isn't written again.
        seconds: of the processor, after which no part is begun; one always is.
        what: is written.
        spent: CPU seconds before the first part.

    Returns:
        The rows that were written for, what was written, and the CPU seconds, those before included.
    """
    chosen, written = list[Example](), list[Any]()
    count = -(-len(rows) // PART)
    for part in (list(rows[start::count]) for start in range(count)):
        if chosen and spent >= seconds:
            say(f"{what} of {len(chosen)} of {len(rows)} rows took {spent:.0f} s, a round's share for writing")
            break
        more, took = write(part)
        chosen, written, spent = [*chosen, *part], [*written, *more], spent + took
    return chosen, written, spent


def hours_left(hours: float, spent: float, what: str) -> float:
    """What a round has left of its hours.

    Args:
        hours: of the round.
        spent: CPU seconds.
        what: they were spent on.

    Raises:
        BudgetError: if nothing is left.
    """
    if hours * 3600 <= spent:
        raise BudgetError(
            f"{what} took {spent:.0f} CPU seconds of a round's {hours * 3600:.0f}; give more hours or fewer rounds"
        )
    return hours - spent / 3600


def fine_tuned(splits: Splits, seed: int, hours: float) -> Policy:
    """The language model, fine-tuned on history → title; runs of the same settings share it."""
    policy = load_policy(means_of(splits).profile.model, seed)
    train, valid = (true_titles(policy, rows, splits.items) for rows in (splits.train, valid_rows(splits)))
    train_titles(policy, splits, "titles", seed, hours, train, valid)
    return policy


def sequence_model(splits: Splits, seed: int) -> SequenceRecommender:
    """The sequence model that others lean on, tuned."""
    return cast(SequenceRecommender, fit_tuned(tune_other(SEQUENCE_MODEL, splits, seed), splits, seed))


def title_recommender(
    policy: Policy,
    splits: Splits,
    rule: Rule | None = None,
    guide: Recommender | None = None,
    told: Sequence[Item] | None = None,
) -> GenerativeRecommender:
    """The catalogue, ranked by how likely the model is to write each title, by beams or exactly as the means say.

    ``told`` are the items as prompts name them, where that isn't by title alone.
    """
    trie = build_trie(title_ids(policy.tokenizer, splits.items), policy.tokenizer.eos_token_id)
    prompts = partial(title_prompts, policy.tokenizer, items=splits.items if told is None else told)
    return GenerativeRecommender(policy, trie, prompts, means_of(splits).beams, rule or Rule(), guide)
