"""The lab's arms: supervised writing, a warm-up of the states, then RecPO; a phase is run once for all arms."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from rrec_lib.evaluation.compare import SAMPLES
from rrec_lib.evaluation.ranks import target_rank
from rrec_lib.evaluation.reports import Report
from rrec_lib.lab.model import LabModel
from rrec_lib.lab.phases import RATE_WARMUP, LabTrainer, OnStep, run_contrastive, run_recpo, state_trainer
from rrec_lib.lab.settings import LAB_ARMS, LAB_WAYS, LabConfig, LabRun
from rrec_lib.lab.sft import teach
from rrec_lib.lab.world import N_ITEMS, World, make_world, write_chatter

_USERS = ("world_seed", "train_users", "valid_users", "test_users", "chain")
_WORLD = (*_USERS, "habits")
_LESSONS = (*_USERS, "width", "layers", "heads", "teach_right", "teach_steps", "teach_mixed_steps",
            "teach_learning_rate", "teach_rows")  # fmt: skip
_WARMUP = (*_LESSONS, "habits", "warmup_hits", "warmup_steps", "warmup_last_steps", "warmup_learning_rate",
           "warmup_rows", "temperature", "item_temperature", "user_state", "item_rows", "evaluate_every")  # fmt: skip


def run_arm(config: LabConfig, arm: str, seed: int, on_step: OnStep | None = None) -> LabRun:
    """Train one arm from one seed and evaluate it on the test users.

    The same config, arm and seed give the same curve on the same number of threads. Lessons and warm-up are the same
    for all arms of a seed and done once per process.

    Args:
        config: the knobs.
        arm: key of :data:`rrec_lib.lab.settings.LAB_ARMS`.
        seed: of the model and the training; the world has its own.
        on_step: called with the step and the figures of each new point of the curve.

    Raises:
        ValueError: for an unknown arm.
    """
    if arm not in LAB_ARMS:
        raise ValueError(f"unknown arm {arm!r}; choose one of {', '.join(LAB_ARMS)}")
    warm = config.warmup_steps > 0 and arm not in ("without warm-up", "without reasoning")
    generator = torch.Generator().manual_seed(seed + 2)
    lab = LabTrainer(config, _world(_only(config, _WORLD)), taught_model(config, seed), generator, on_step)
    warmup_seconds, total = 0.0, config.steps
    if config.warmup_steps > 0:  # the other arms take as many steps, or as long, as full with its warm-up
        start, curves, spent = _warmed(_only(config, _WARMUP), seed)
        total -= int(curves["step"][0])
        if warm:
            lab.model, lab.curves, warmup_seconds = deepcopy(start), deepcopy(curves), spent
    if arm == "without reasoning":  # as many points on its curve as full has
        lab.config, lab.way = replace(config, evaluate_every=config.evaluate_every * config.steps_without), "none"
        run_contrastive(lab, total * config.steps_without, config.learning_rate_without)
    elif arm == "contrastive only":
        run_contrastive(lab, config.steps, config.warmup_learning_rate)
    else:
        run_recpo(lab, config.steps if warm else total, others=arm == "another user's reasoning")
    return _finished(lab, config, arm, seed, {"warm-up": warmup_seconds})


def run_silent(
    config: LabConfig, way: str, seed: int, steps: int, text: LabRun | None = None, on_step: OnStep | None = None
) -> LabRun:
    """Train the states behind thinking that writes nothing, at ``learning_rate_without``, and evaluate them.

    Args:
        config: the knobs; the curve has some twenty points, however many steps there are.
        way: key of :data:`rrec_lib.lab.settings.LAB_WAYS`, but ``"text"``, which is arm full of :func:`run_arm`.
        seed: of the training, and of the taught policy that it starts from.
        steps: batches of ``warmup_rows`` users.
        text: the run in text that is distilled; only for that way.
        on_step: as :func:`run_arm`'s.

    Raises:
        ValueError: for an unknown way, or text without need, or none where there is.
    """
    if way not in LAB_WAYS or way == "text" or (way == "distilled") != (text is not None):
        raise ValueError(f"way {way!r} must be latent, pause or none, or distilled and from a run in text, got {text}")
    model, spent = (taught_model(config, seed), {}) if text is None else (deepcopy(text.model), text.seconds)
    every = replace(config, evaluate_every=-(-steps // 20))
    lab = LabTrainer(every, _world(_only(config, _WORLD)), model, torch.Generator().manual_seed(seed + 2), on_step)
    lab.way = "none" if text else way
    run_contrastive(lab, steps, config.learning_rate_without, text.model if text else None)
    return _finished(lab, config, way, seed, {"text": sum(spent.values()) - spent.get("lessons", 0.0)})


def _finished(lab: LabTrainer, config: LabConfig, arm: str, seed: int, before: dict[str, float]) -> LabRun:
    """What a trained lab leaves; ``before`` is processor time between lessons and training."""
    lessons = dict(_taught(_only(config, _LESSONS), seed)[1])
    seconds = {"lessons": lessons.pop("seconds"), **before, "training": lab.seconds}
    return LabRun(arm, seed, config, lab.curves, lessons, _final(lab, arm, seed), lab.model, seconds)


def taught_model(config: LabConfig, seed: int) -> LabModel:
    """The policy after its writing lessons: tallies or chatter, half and half, and no idea of what comes next."""
    model = deepcopy(_taught(_only(config, _LESSONS), seed)[0])
    model.user_state = config.user_state
    if config.item_rows == "classes":
        model.classify(seed)
    return model


def _only(config: LabConfig, knobs: Iterable[str]) -> LabConfig:
    """The config with all but these knobs at their defaults: what a phase depends on, so that it is done once."""
    return LabConfig(**{knob: getattr(config, knob) for knob in knobs})


@lru_cache(maxsize=4)
def _world(config: LabConfig) -> World:
    return make_world(*(getattr(config, knob) for knob in _WORLD))


@lru_cache(maxsize=8)
def _taught(config: LabConfig, seed: int) -> tuple[LabModel, dict[str, float]]:
    return teach(config, _world(_only(config, _WORLD)), seed)


@lru_cache(maxsize=8)
def _warmed(config: LabConfig, seed: int) -> tuple[LabModel, dict[str, list[float]], float]:
    """The taught model, its states warmed up; the curves' steps are below 0, where RecPO begins."""
    generator = torch.Generator().manual_seed(seed + 1)
    lab = LabTrainer(config, _world(_only(config, _WORLD)), taught_model(config, seed), generator)
    learn, rate, last = state_trainer(lab), config.warmup_learning_rate, config.warmup_last_steps
    for step in lab.steps(config.warmup_steps, 0, "states", until=config.warmup_hits):
        learn(rate * min((step + 1) / RATE_WARMUP, 1.0))
    for step in lab.steps(last, lab.take_last_point(), "states"):
        learn(rate * (1 - step / last))
    done = lab.take_last_point()
    lab.curves["step"] = [step - done for step in lab.curves["step"]]
    return lab.model, lab.curves, lab.seconds


def _final(lab: LabTrainer, arm: str, seed: int) -> dict[str, Report]:
    """A rank for each test user, under every condition."""
    test, draws = lab.world.test, torch.Generator().manual_seed(seed + 3)
    if lab.way != "text":
        return {"own": _report(lab, arm, lab.scores(test, None))}
    own = lab.write(test, draws)
    order = torch.rand(own.shape, generator=draws).argsort(1)
    before: dict[str, Tensor | None] = {
        "own": own,
        "another user's": own.roll(1, 0),
        "shuffled": own.gather(1, order),
        "random text": write_chatter(len(own), draws, own.shape[1]),
        "nothing": None,
    }
    return {
        condition: _report(lab, arm if condition == "own" else f"{arm}, read {condition}", lab.scores(test, reasoning))
        for condition, reasoning in before.items()
    }


def _report(lab: LabTrainer, name: str, scores: Tensor) -> Report:
    test = lab.world.test
    greater, equal = target_rank(scores, test.targets)
    repeats = int((test.histories == test.targets[:, None]).any(1).sum())
    examples = sha256(torch.cat([test.histories, test.targets[:, None]], 1).numpy().tobytes()).hexdigest()[:16]
    users = np.arange(len(test.targets))
    return Report(name, greater.numpy(), equal.numpy(), users, repeats, SAMPLES, 0, N_ITEMS, examples)
