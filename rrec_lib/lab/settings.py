"""The lab's knobs, its arms, and what a run leaves."""

from dataclasses import dataclass, fields
from typing import Any

from rrec_lib.evaluation.reports import Report
from rrec_lib.lab.model import ITEM_ROWS, USER_STATES, LabModel
from rrec_lib.lab.world import HISTORY
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.losses import TOKEN_NORMALIZATIONS

LAB_ARMS = {
    "full": "reasoning, states warmed up, RecPO",
    "without reasoning": "answers at once; contrastive, for longer than full's warm-up and RecPO together",
    "another user's reasoning": "as full, but trained to answer each user from the reasoning of another",
    "without warm-up": "RecPO from the taught policy, for as many steps as full's warm-up and RecPO together",
    "contrastive only": "the warm-up goes on; the reasoning's tokens are never rewarded",
}
LAB_ABLATIONS: dict[str, dict[str, Any]] = {  # arm full, one knob turned; reasonings in a batch stay as many
    "without R_c": {"beta": 0.0},
    "without R_d": {"beta": 1.0},
    "RLOO": {"estimator": "rloo"},
    "G = 2": {"group_size": 2, "users": 64},
    "G = 8": {"group_size": 8, "users": 16},
    "temperature 0.7": {"temperature": 0.7},
    "temperature 1.5": {"temperature": 1.5},
    "mean state": {"user_state": "mean"},
    "last-token state": {"user_state": "last token"},
    "classification head": {"item_rows": "classes"},
    "every reasoning trains the item": {"best_only": False},
    "4 updates a batch, clipped": {"updates_per_batch": 4, "steps": 50},
    "4 updates a batch, not clipped": {"updates_per_batch": 4, "steps": 50, "clip_eps": 1e6},
}
LAB_WAYS = {  # of thinking before the marker, all from the taught policy
    "text": "arm full: writes its reasoning",
    "latent": "as many latent steps as text has tokens: the last hidden state is the next input embedding",
    "pause": "as many pause tokens",
    "none": "the marker follows the history at once",
    "distilled": "from text's end, read at once, its states drawn to those that text has behind its reasoning",
}
CONDITIONS = {
    "own": "what the model wrote, or nothing where the arm writes nothing",
    "another user's": "what the model wrote for the user before",
    "shuffled": "what the model wrote, its tokens in random order",
    "random text": "idle words in its place",
    "nothing": "the marker at once",
}


@dataclass(frozen=True)
class LabConfig:
    """Every knob of the lab."""

    beta: float = 0.05  # weight of R_c in the reward; R_d gets the rest
    reward_k: int = 1000  # cutoff of R_d's NDCG
    group_size: int = 4  # G, reasonings per user
    estimator: str = "grpo"  # of the advantages, "grpo" or "rloo"
    clip_eps: float = 0.2  # ε of the clipped ratio; it binds only with several updates per batch
    updates_per_batch: int = 1  # optimiser steps on each batch of reasonings
    best_only: bool = True  # the best reasoning of a group trains the recommendation (the paper), or all of them
    temperature: float = 1.0  # of the sampled tokens, in training and evaluation
    item_temperature: float = 0.1  # τ of the item softmax and of R_c
    token_normalization: str = "trajectory"  # see losses.token_loss
    user_state: str = "marker"  # which of the states is the user's, one of lab.model.USER_STATES
    item_rows: str = "described"  # what the item table is made of, one of lab.model.ITEM_ROWS
    steps: int = 200  # batches of RecPO
    users: int = 32  # B, users per batch
    learning_rate: float = 5e-4  # of AdamW in RecPO
    # The warm-up of the states goes on at full rate until Hit@1 on the valid users, looked at before each point of the
    # curve, is this high. Half of what is written are tallies, so about 0.5 can be reached; habit users need none, and
    # have to reach twice this.
    warmup_hits: float = 0.4
    # Until then at most, on reasoning sampled from the taught policy; 0 switches the warm-up off.
    warmup_steps: int = 1500
    warmup_last_steps: int = 125  # after that, at a rate that falls to zero
    warmup_learning_rate: float = 1e-3  # of AdamW in the warm-up and the contrastive arm that goes on with it
    warmup_rows: int = 128  # users per batch there
    # Lessons in tallies end once this share of the written tallies is right, on users made up for it.
    teach_right: float = 0.97
    teach_steps: int = 2000  # lessons in tallies at most
    teach_mixed_steps: int = 126  # lessons after those, half tallies and half chatter, at a rate that falls to zero
    teach_learning_rate: float = 4e-3  # of AdamW in the lessons
    teach_rows: int = 128  # sequences per lesson
    # Steps of the arm without reasoning for one of full's warm-up and RecPO: it has as long, and some two thirds more.
    steps_without: int = 5
    learning_rate_without: float = 1e-3  # of AdamW there; chosen on valid users
    width: int = 128  # d of the model
    layers: int = 2  # blocks of the model
    heads: int = 4  # attention heads of the model
    habits: float = 0.0  # p, share of items, and so of users, behind which habit decides; 0 is sums alone
    chain: int = HISTORY  # items that are summed
    world_seed: int = 0  # of the world and its users
    train_users: int = 100_000  # users to learn from
    valid_users: int = 256  # users behind each point of a curve
    test_users: int = 1024  # users behind the final figures
    evaluate_every: int = 10  # steps between points of a curve

    def __post_init__(self) -> None:
        choices = {"estimator": ADVANTAGES, "user_state": USER_STATES, "item_rows": ITEM_ROWS}
        choices["token_normalization"] = TOKEN_NORMALIZATIONS
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        may_be_zero = {"beta", "habits", "steps", "warmup_hits", "warmup_steps", "world_seed", "clip_eps", "best_only"}
        for knob in fields(self):
            value = getattr(self, knob.name)
            if isinstance(value, str):
                continue
            if not 0 <= value < float("inf") or (value == 0 and knob.name not in may_be_zero):
                raise ValueError(f"{knob.name} must be positive, got {value}")
        shares = (self.beta, self.teach_right, self.warmup_hits, self.habits)
        if self.group_size < 2 or max(shares) > 1 or self.teach_rows % 2:
            raise ValueError(
                "need group_size >= 2, beta, teach_right, warmup_hits and habits at most 1 and an even teach_rows, got "
                f"{self.group_size}, {', '.join(map(str, shares))} and {self.teach_rows}"
            )


@dataclass(frozen=True)
class LabRun:
    """One arm, one seed."""

    arm: str  # key of LAB_ARMS or LAB_WAYS
    seed: int  # of the model and the training
    config: LabConfig
    # Per point of the curve "step" (warm-up below 0), "hit@1" on valid, and where there is reasoning "tallies", the
    # share of tokens that are digits, and "right", the share that are the true tally. Where there are habits, these
    # three also for each kind of user that valid has, such as "hit@1, habit".
    curves: dict[str, list[float]]
    # "steps" in tallies until they were right or the most were taken, and the share "right" of those written after all.
    lessons: dict[str, float]
    # Reports on the test users by what stands before the marker, a key of CONDITIONS; with none written "own" alone.
    final: dict[str, Report]
    model: LabModel  # as the arm left it
    seconds: dict[str, float]  # processor time of "lessons", "warm-up" and "training", without the curve's evaluations
