"""The lab's knobs, its arms, and what a run leaves."""

from dataclasses import dataclass, fields

from rrec_lib.advantages import grpo_advantages, rloo_advantages
from rrec_lib.reports import Report

ARMS = {
    "full": "reasoning, states warmed up, RecPO",
    "without reasoning": "answers at once; contrastive, at least as long as full's warm-up and RecPO together",
    "another user's reasoning": "as full, but each user is answered from the reasoning of another",
    "without warm-up": "RecPO from the taught policy, for as many steps as full's warm-up and RecPO together",
    "contrastive only": "the warm-up goes on; the reasoning's tokens are never rewarded",
}
ESTIMATORS = {"grpo": grpo_advantages, "rloo": rloo_advantages}


@dataclass(frozen=True)
class LabConfig:
    """Every knob of the lab.

    Attributes:
        beta: weight of R_c in the reward; R_d gets the rest.
        reward_k: cutoff of R_d's NDCG.
        group_size: G, reasonings per user.
        estimator: of the advantages, ``"grpo"`` or ``"rloo"``.
        clip_eps: ε of the clipped ratio; it binds only with several updates per batch.
        updates_per_batch: optimiser steps on each batch of reasonings.
        best_only: the best reasoning of a group trains the recommendation (the paper), or all of them.
        temperature: of the sampled tokens, in training and evaluation.
        item_temperature: τ of the item softmax and of R_c.
        token_normalization: see :func:`rrec_lib.objective.recpo_loss`.
        steps: batches of RecPO.
        users: B, users per batch.
        learning_rate: of AdamW in RecPO.
        warmup_steps: of the states, on reasoning sampled from the taught policy; 0 switches it off.
        warmup_learning_rate: of AdamW in the warm-up and the contrastive arms.
        teach_steps: of the supervised writing lessons.
        teach_learning_rate: of AdamW there, falling to zero.
        teach_rows: sequences per lesson; in the last 30 % of the lessons half of them are chatter.
        steps_without: steps of the arm without reasoning for one with it; measured, about 3 take as long.
        width: d of the model.
        layers: blocks of the model.
        heads: attention heads of the model.
        world_seed: of the world and its users.
        train_users: users to learn from.
        valid_users: users behind each point of a curve.
        test_users: users behind the final figures.
        evaluate_every: steps between points of a curve.
    """

    beta: float = 0.05
    reward_k: int = 1000
    group_size: int = 4
    estimator: str = "grpo"
    clip_eps: float = 0.2
    updates_per_batch: int = 1
    best_only: bool = True
    temperature: float = 1.0
    item_temperature: float = 0.1
    token_normalization: str = "trajectory"
    steps: int = 200
    users: int = 32
    learning_rate: float = 5e-4
    warmup_steps: int = 250
    warmup_learning_rate: float = 1e-3
    teach_steps: int = 420
    teach_learning_rate: float = 4e-3
    teach_rows: int = 128
    steps_without: int = 4
    width: int = 128
    layers: int = 2
    heads: int = 4
    world_seed: int = 0
    train_users: int = 100_000
    valid_users: int = 256
    test_users: int = 1024
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        may_be_zero = {"beta", "steps", "warmup_steps", "teach_steps", "world_seed", "clip_eps", "best_only"}
        for knob in fields(self):
            value = getattr(self, knob.name)
            if not isinstance(value, str) and (value < 0 or (value == 0 and knob.name not in may_be_zero)):
                raise ValueError(f"{knob.name} must be positive, got {value}")
        if self.group_size < 2 or self.beta > 1 or self.teach_rows % 2:
            raise ValueError(
                f"need group_size >= 2, beta <= 1 and an even teach_rows, got {self.group_size}, {self.beta}, "
                f"{self.teach_rows}"
            )


@dataclass(frozen=True)
class LabRun:
    """One arm, one seed.

    Attributes:
        arm: key of :data:`ARMS`.
        seed: of the model and the training.
        config: the knobs.
        curves: per point of the curve ``step`` (warm-up below 0), ``hit@1`` on valid, and where there is reasoning
            ``tallies``, the share of tokens that are digits, and ``right``, the share that are the true tally.
        final: reports on the test users, with a rank for each: ``"own"`` reasoning (or none, without reasoning), and
            ``"another user's"``.
        seconds: wall clock of ``"warm-up"`` and ``"training"``, without the curve's evaluations.
    """

    arm: str
    seed: int
    config: LabConfig
    curves: dict[str, list[float]]
    final: dict[str, Report]
    seconds: dict[str, float]
