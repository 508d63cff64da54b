"""The lab's arms: teach two styles of writing, warm up the states, then RecPO from recommendation labels alone.

Every formula is the library's own (rewards, advantages, objective, metrics); only the world and the model are small.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from rrec_lib.core.console import progress
from rrec_lib.evaluation.compare import SAMPLES
from rrec_lib.evaluation.metrics import hit_rate_at_k
from rrec_lib.evaluation.ranks import target_rank
from rrec_lib.evaluation.reports import Report
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab.lessons import BETAS, descend, teach
from rrec_lib.lab.model import LabModel, read_out, sample
from rrec_lib.lab.settings import ARMS, LabConfig, LabRun
from rrec_lib.lab.world import N_ITEMS, Split, World, make_world, tally_shares, write_chatter
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.losses import best_trajectory_mask, item_logprobs, recpo_loss
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward

RAMP = 20  # first steps at a rising rate: early, noisy rewards would unlearn the tallies, and states get stuck
OnStep = Callable[[int, dict[str, float]], None]
_WORLD = ("world_seed", "train_users", "valid_users", "test_users")
_LESSONS = (*_WORLD, "width", "layers", "heads", "teach_right", "teach_steps", "teach_mixed_steps",
            "teach_learning_rate", "teach_rows")  # fmt: skip
_WARMUP = (*_LESSONS, "warmup_hits", "warmup_steps", "warmup_last_steps", "warmup_learning_rate", "warmup_rows",
           "temperature", "item_temperature", "user_state", "item_rows", "evaluate_every")  # fmt: skip


@dataclass
class _Lab:
    """What the phases of a run share: knobs, world, the model under training, its draws, curves and clock."""

    config: LabConfig
    world: World
    model: LabModel
    generator: torch.Generator
    on_step: OnStep | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def batch(self, users: int) -> Split:
        """Users to learn from, drawn with replacement."""
        train = self.world.train
        drawn = torch.randint(len(train.targets), (users,), generator=self.generator)
        return Split(train.histories[drawn], train.targets[drawn])

    def steps(self, count: int, first: int, reasons: bool, name: str, until: float = math.inf) -> Iterator[int]:
        """Count steps, add a point to the curves before some of them and after the last, and time the rest.

        It ends early at a point whose Hit@1 is high enough.
        """
        for step in progress(range(count), name):
            if step % self.config.evaluate_every == 0:
                self.point(first + step, reasons)
                if self.curves["hit@1"][-1] >= until:
                    return
            start = time.process_time()
            yield step
            self.seconds += time.process_time() - start
        self.point(first + count, reasons)

    def point(self, step: int, reasons: bool) -> None:
        """Add a point to the curves, on the valid users and with draws of its own."""
        valid, draws = self.world.valid, torch.Generator().manual_seed(self.config.world_seed)
        reasoning = self.write(valid, draws) if reasons else None
        hits = hit_rate_at_k(self.scores(valid, reasoning), valid.targets, 1)
        figures = {"step": float(step), "hit@1": float(hits.mean())}
        if reasoning is not None:
            digits, right = tally_shares(self.world, valid.histories, reasoning)
            figures |= {"tallies": float(digits.mean()), "right": float(right.mean())}
        for curve, value in figures.items():
            self.curves.setdefault(curve, []).append(value)
        if self.on_step:
            self.on_step(step, figures)

    def take_last_point(self) -> int:
        """Remove the curves' last point, which the next phase makes again, and give its step."""
        step = int(self.curves["step"][-1])
        self.curves = {name: curve[:-1] for name, curve in self.curves.items()}
        return step

    def write(self, split: Split, generator: torch.Generator) -> Tensor:
        """One reasoning per user, (B, 8)."""
        return sample(self.model, split.histories, 1, generator, self.config.temperature)[0]

    @torch.no_grad()
    def scores(self, split: Split, reasoning: Tensor | None) -> Tensor:
        """(B, N) scores of all items behind the reasoning."""
        states, _ = read_out(self.model, split.histories, reasoning)
        return score_items(states, self.model.item_states(), self.config.item_temperature)


def run_arm(config: LabConfig, arm: str, seed: int, on_step: OnStep | None = None) -> LabRun:
    """Train one arm from one seed and evaluate it on the test users.

    The same config, arm and seed give the same curve on the same number of threads. Lessons and warm-up are the same
    for all arms of a seed and done once per process.

    Args:
        config: the knobs.
        arm: key of :data:`rrec_lib.lab.settings.ARMS`.
        seed: of the model and the training; the world has its own.
        on_step: called with the step and the figures of each new point of the curve.

    Raises:
        ValueError: for an unknown arm.
    """
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}; choose one of {', '.join(ARMS)}")
    warm = config.warmup_steps > 0 and arm not in ("without warm-up", "without reasoning")
    generator = torch.Generator().manual_seed(seed + 2)
    lab = _Lab(config, _world(_only(config, _WORLD)), taught_model(config, seed), generator, on_step)
    warmup_seconds, total = 0.0, config.steps
    if config.warmup_steps > 0:  # the other arms take as many steps, or as long, as full with its warm-up
        start, curves, spent = _warmed(_only(config, _WARMUP), seed)
        total -= int(curves["step"][0])
        if warm:
            lab.model, lab.curves, warmup_seconds = deepcopy(start), deepcopy(curves), spent
    if arm == "without reasoning":  # as many points on its curve as full has
        lab.config = replace(config, evaluate_every=config.evaluate_every * config.steps_without)
        _contrastive(lab, total * config.steps_without, config.learning_rate_without, reasons=False)
    elif arm == "contrastive only":
        _contrastive(lab, config.steps, config.warmup_learning_rate)
    else:
        _recpo(lab, config.steps if warm else total, others=arm == "another user's reasoning")
    lessons = dict(_taught(_only(config, _LESSONS), seed)[1])
    seconds = {"lessons": lessons.pop("seconds"), "warm-up": warmup_seconds, "training": lab.seconds}
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
    lab = _Lab(config, _world(_only(config, _WORLD)), taught_model(config, seed), generator)
    learn, rate, last = _state_lessons(lab, reasons=True), config.warmup_learning_rate, config.warmup_last_steps
    for step in lab.steps(config.warmup_steps, 0, True, "states", until=config.warmup_hits):
        learn(rate * min((step + 1) / RAMP, 1.0))
    for step in lab.steps(last, lab.take_last_point(), True, "states"):
        learn(rate * (1 - step / last))
    done = lab.take_last_point()
    lab.curves["step"] = [step - done for step in lab.curves["step"]]
    return lab.model, lab.curves, lab.seconds


def _contrastive(lab: _Lab, steps: int, rate: float, reasons: bool = True) -> None:
    """Train the states alone, at a rate that rises, stays and falls."""
    learn = _state_lessons(lab, reasons)
    for step in lab.steps(steps, 0, reasons, "states"):
        learn(rate * min((step + 1) / RAMP, 1.0, 2 - 2 * step / steps))


def _state_lessons(lab: _Lab, reasons: bool) -> Callable[[float], None]:
    """A step at a given rate that trains the states, with the item term on sampled reasoning, or on none at all.

    The reasoning comes from the policy as it was at the start. Trained on its own tokens it stays there, although the
    states share its weights: cross-entropy on samples of a policy is the divergence from it, up to a constant.
    """
    config, model, frozen = lab.config, lab.model, deepcopy(lab.model)
    optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS)

    def learn(rate: float) -> None:
        optimizer.param_groups[0]["lr"] = rate
        users = lab.batch(config.warmup_rows)
        reasoning = None
        if reasons:
            reasoning, _ = sample(frozen, users.histories, 1, lab.generator, config.temperature)
        states, logprobs = read_out(model, users.histories, reasoning, config.temperature)
        items = model.item_states()[users.targets]
        loss = -item_logprobs(states, items, torch.arange(len(items)), users.targets, config.item_temperature).mean()
        descend(optimizer, loss if logprobs is None else loss - logprobs.mean())

    return learn


def _recpo(lab: _Lab, steps: int, others: bool) -> None:
    """RecPO: sample groups, reward them by how they let the model rank the target, train tokens and recommendation."""
    config, model = lab.config, lab.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=BETAS, weight_decay=0.0)
    groups = torch.arange(config.users).repeat_interleave(config.group_size)
    for step in lab.steps(steps, 0, True, "RecPO"):
        optimizer.param_groups[0]["lr"] = config.learning_rate * min((step + 1) / RAMP, 1.0, 2 - 2 * step / steps)
        users = lab.batch(config.users)
        histories = users.histories[groups]
        reasoning, _ = sample(model, users.histories, config.group_size, lab.generator, config.temperature)
        advantages, old = torch.zeros(len(groups)), None
        for _ in range(config.updates_per_batch):
            states, logprobs = read_out(model, histories, reasoning, config.temperature)
            if others:  # the same reasonings, each in front of the next user's marker
                states, _ = read_out(model, histories, reasoning.roll(config.group_size, 0))
            catalogue = model.item_states()
            softmax = (groups, users.targets, config.item_temperature)
            assert logprobs is not None
            if old is None:  # the first update is on policy: its own pass gives the old values and the rewards
                old = logprobs.detach(), item_logprobs(states, catalogue[users.targets], *softmax).detach()
                advantages = _advantages(config, states.detach(), catalogue.detach(), users.targets)
            loss = recpo_loss(
                logprobs, old[0], torch.ones_like(reasoning), states, catalogue[users.targets], groups, advantages,
                config.group_size, best_mask=_best(config, advantages), old_item_logprobs=old[1],
                item_ids=users.targets, clip_eps=config.clip_eps, temperature=config.item_temperature,
                token_normalization=config.token_normalization,
            )  # fmt: skip
            descend(optimizer, loss.total)


def _advantages(config: LabConfig, states: Tensor, catalogue: Tensor, targets: Tensor) -> Tensor:
    """(R,) advantages of the fused reward."""
    scores = score_items(states, catalogue, config.item_temperature).view(config.users, config.group_size, -1)
    ranking, similarity = ranking_reward(scores, targets, config.reward_k), similarity_reward(scores, targets)
    return ADVANTAGES[config.estimator](fused_reward(ranking, similarity, config.beta)).flatten()


def _best(config: LabConfig, advantages: Tensor) -> Tensor:
    if config.best_only:
        return best_trajectory_mask(advantages, config.group_size)
    return torch.ones_like(advantages, dtype=torch.bool)


def _final(lab: _Lab, arm: str, seed: int) -> dict[str, Report]:
    """A rank for each test user, under every condition."""
    test, draws = lab.world.test, torch.Generator().manual_seed(seed + 3)
    if arm == "without reasoning":
        return {"own": _report(lab, arm, lab.scores(test, None))}
    own = lab.write(test, draws)
    order = torch.rand(own.shape, generator=draws).argsort(1)
    before = {
        "own": own,
        "another user's": own.roll(1, 0),
        "shuffled": own.gather(1, order),
        "random text": write_chatter(len(own), draws),
    }
    return {
        condition: _report(lab, arm if condition == "own" else f"{arm}, read {condition}", lab.scores(test, reasoning))
        for condition, reasoning in before.items()
    }


def _report(lab: _Lab, name: str, scores: Tensor) -> Report:
    test = lab.world.test
    greater, equal = target_rank(scores, test.targets)
    repeats = int((test.histories == test.targets[:, None]).any(1).sum())
    examples = sha256(torch.cat([test.histories, test.targets[:, None]], 1).numpy().tobytes()).hexdigest()[:16]
    users = np.arange(len(test.targets))
    return Report(name, greater.numpy(), equal.numpy(), users, repeats, SAMPLES, 0, N_ITEMS, examples)
