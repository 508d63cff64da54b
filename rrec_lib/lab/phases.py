"""The lab's training: contrastive warm-up of the states, and RecPO from recommendation labels alone.

Every formula is the library's own (rewards, advantages, losses, metrics); only the world and the model are small.
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from rrec_lib.core.console import progress
from rrec_lib.evaluation.metrics import hit_rate_at_k
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab.model import LabModel, read_out, read_silent, sample
from rrec_lib.lab.settings import LabConfig
from rrec_lib.lab.sft import BETAS, descend
from rrec_lib.lab.world import Split, World, kinds, tally_shares
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.losses import best_trajectory_mask, item_logprobs, recpo_loss
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward

RATE_WARMUP = 20  # first steps at a rising rate: early, noisy rewards would unlearn the tallies, and states get stuck
OnStep = Callable[[int, dict[str, float]], None]


@dataclass
class LabTrainer:
    """What the phases of a run share: knobs, world, the model under training, its draws, curves and clock.

    Its way of thinking is ``"text"``, or one of :func:`rrec_lib.lab.model.read_silent`.
    """

    config: LabConfig
    world: World
    model: LabModel
    generator: torch.Generator
    on_step: OnStep | None = None
    way: str = "text"
    curves: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def batch(self, users: int) -> Split:
        """Users to learn from, drawn with replacement."""
        train = self.world.train
        drawn = torch.randint(len(train.targets), (users,), generator=self.generator)
        return Split(train.histories[drawn], train.targets[drawn])

    def steps(self, count: int, first: int, name: str, until: float = math.inf) -> Iterator[int]:
        """Count steps, add a point to the curves before some of them and after the last, and time the rest.

        It ends early at a point whose Hit@1 is high enough.
        """
        for step in progress(range(count), name):
            if step % self.config.evaluate_every == 0:
                self.point(first + step)
                if self.reached() >= until:
                    return
            start = time.process_time()
            yield step
            self.seconds += time.process_time() - start
        self.point(first + count)

    def point(self, step: int) -> None:
        """Add a point to the curves, on the valid users and with draws of its own."""
        valid, draws = self.world.valid, torch.Generator().manual_seed(self.config.world_seed)
        reasoning = self.write(valid, draws) if self.way == "text" else None
        values = {"hit@1": hit_rate_at_k(self.scores(valid, reasoning), valid.targets, 1)}
        if reasoning is not None:
            values["tallies"], values["right"] = tally_shares(self.world, valid.histories, reasoning)
        figures = {"step": float(step), **{curve: float(value.mean()) for curve, value in values.items()}}
        if self.config.habits:
            for kind, users in kinds(self.world, valid.histories).items():
                if users.any():
                    figures |= {f"{curve}, {kind}": float(value[users].mean()) for curve, value in values.items()}
        for curve, value in figures.items():
            self.curves.setdefault(curve, []).append(value)
        if self.on_step:
            self.on_step(step, figures)

    def reached(self) -> float:
        """Hit@1 at the last point: the lower of the sum users' and half of the habit users', where there are habits."""
        parts = {"hit@1, sum": 1.0, "hit@1, habit": 0.5} if self.config.habits else {"hit@1": 1.0}
        return min(self.curves[curve][-1] * part for curve, part in parts.items() if curve in self.curves)

    def take_last_point(self) -> int:
        """Remove the curves' last point, which the next phase makes again, and give its step."""
        step = int(self.curves["step"][-1])
        self.curves = {name: curve[:-1] for name, curve in self.curves.items()}
        return step

    def write(self, split: Split, generator: torch.Generator) -> Tensor:
        """One reasoning per user, (B, 2 chain)."""
        return sample(self.model, split.histories, 1, generator, self.config.temperature)[0]

    def read(self, histories: Tensor, reasoning: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """:func:`rrec_lib.lab.model.read_out` behind a reasoning, else the states of a silent way or at once."""
        if reasoning is not None:
            return read_out(self.model, histories, reasoning, self.config.temperature)
        way = "none" if self.way == "text" else self.way
        return read_silent(self.model, histories, way, self.model.reasoning), None

    @torch.no_grad()
    def scores(self, split: Split, reasoning: Tensor | None) -> Tensor:
        """(B, N) scores of all items behind the reasoning, or what stands in its place."""
        states, _ = self.read(split.histories, reasoning)
        return score_items(states, self.model.item_states(), self.config.item_temperature)


def run_contrastive(lab: LabTrainer, steps: int, rate: float, teacher: LabModel | None = None) -> None:
    """Train the states alone, at a rate that rises, stays and falls."""
    learn = state_trainer(lab, teacher)
    for step in lab.steps(steps, 0, "states"):
        learn(rate * min((step + 1) / RATE_WARMUP, 1.0, 2 - 2 * step / steps))


def state_trainer(lab: LabTrainer, teacher: LabModel | None = None) -> Callable[[float], None]:
    """A step at a given rate that trains the states, with the item term on sampled reasoning, or in a silent way.

    The reasoning comes from the policy as it was at the start. Trained on its own tokens it stays there, although the
    states share its weights: cross-entropy on samples of a policy is the divergence from it, up to a constant.

    Args:
        lab: the run.
        teacher: a policy that writes, whose states behind its own reasoning those of a silent way are drawn to as well.
    """
    config, model = lab.config, lab.model
    writer = deepcopy(lab.model) if lab.way == "text" else teacher
    optimizer = torch.optim.AdamW(model.parameters(), betas=BETAS)

    def learn(rate: float) -> None:
        optimizer.param_groups[0]["lr"] = rate
        users, written = lab.batch(config.warmup_rows), None
        if writer is not None:
            written, _ = sample(writer, users.histories, 1, lab.generator, config.temperature)
        states, logprobs = lab.read(users.histories, written if lab.way == "text" else None)
        items = model.item_states()[users.targets]
        loss = -item_logprobs(states, items, torch.arange(len(items)), users.targets, config.item_temperature).mean()
        if logprobs is not None:
            loss = loss - logprobs.mean()
        if teacher is not None:
            with torch.no_grad():
                shown, _ = read_out(teacher, users.histories, written)
            loss = loss + (1 - cosine_similarity(states, shown)).mean()
        descend(optimizer, loss)

    return learn


def run_recpo(lab: LabTrainer, steps: int, others: bool) -> None:
    """RecPO: sample groups, reward them by how they let the model rank the target, train tokens and recommendation."""
    config, model = lab.config, lab.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=BETAS, weight_decay=0.0)
    groups = torch.arange(config.users).repeat_interleave(config.group_size)
    for step in lab.steps(steps, 0, "RecPO"):
        optimizer.param_groups[0]["lr"] = config.learning_rate * min(
            (step + 1) / RATE_WARMUP, 1.0, 2 - 2 * step / steps
        )
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
