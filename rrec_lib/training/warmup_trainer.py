"""Warm-up: a short supervised stage before RecPO. A departure from the paper, for small models only.

SmolLM2-135M, untrained, repeats the question, rarely writes the marker, and its states say nothing about taste: RecPO
would score noise. The warm-up teaches two things at once. *Format*: cross-entropy on texts of several skills, which
follow from the history and from training data, never from the target (:mod:`rrec_lib.training.skills`). *States*: the
state behind such a text is drawn to the target's item embedding, by the same softmax as RecPO's item term, with more
negatives and the logQ correction. Successive targets of a user are packed, see
:mod:`rrec_lib.training.packed_sequences`, and what the frozen layers make of them can be kept. Profiles switch the
stage off with ``warmup.steps: 0``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from rrec_lib.core.hardware import autocast
from rrec_lib.core.profiles import Profile, WarmupProfile
from rrec_lib.evaluation.scoring import seen_items
from rrec_lib.model.frozen_states import FrozenStates
from rrec_lib.model.packing import TokenLogprobs
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import MARKER
from rrec_lib.model.ragged import Row, ragged_forward, ragged_rows
from rrec_lib.recpo.losses import item_logprobs
from rrec_lib.recpo.step_items import choose_items
from rrec_lib.training.failures import check_loss
from rrec_lib.training.item_trainer import ItemTrainer
from rrec_lib.training.packed_sequences import (
    longest_history,
    order_by_length,
    packed_row,
    successive_targets,
)
from rrec_lib.training.skills import SKILLS, world_of

Examples = Sequence[Mapping[str, Any]]
Text = Callable[[Mapping[str, Any]], str]


class WarmupTrainer(ItemTrainer, Trainer):
    """Cross-entropy on reasonings, and a sampled softmax of the target behind them."""

    def __init__(
        self,
        policy: Policy,
        args: TrainingArguments,
        dataset: DatasetDict,
        profile: Profile,
        callbacks: list[TrainerCallback] | None = None,
        frozen: Path | None = None,
        texts: Sequence[Text] | None = None,
    ) -> None:
        """Arguments as :class:`ItemTrainer`, and:

        frozen: folder for what the frozen layers make of rows, which runs on the same data may share; None keeps it
            nowhere.
        texts: what stands before the marker in turns, each from an example to a text; the profile's skills, if not
            given.
        """
        self.settings: WarmupProfile = profile.warmup
        self.parts: dict[str, float] = {}
        train = dataset["train"]
        order = list(train.select_columns(["user_id", "history", "seen"]))  # what targets are packed by
        packed = successive_targets(order, self.settings.targets_per_user)
        self.lengths = [longest_history([order[row] for row in rows]) for rows in packed]
        self.frozen = FrozenStates(policy, frozen)
        if texts is None and self.settings.skills:
            world = world_of(dataset)
            texts = [partial(SKILLS[name], world=world) for name in self.settings.skills]
        self.texts: Sequence[Text] = texts or ()
        super().__init__(
            policy,
            args,
            dataset,
            profile,
            callbacks,
            train_dataset=packed,
            data_collator=lambda batch: {"successive": [[train[row] for row in rows] for rows in batch]},
        )

    def draw_rows(self, sampler: Any, generator: torch.Generator) -> Iterable[int]:
        """Rows of like lengths beside each other."""
        return order_by_length(self.lengths, self.args.train_batch_size * self.args.world_size, generator)

    def seconds_saved(self) -> float:
        return self.frozen.saved

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Mean cross-entropy of the reasonings' tokens, the marker included, and that of the targets behind them."""
        if self.whole_catalogue:
            self.refresh_item_table()
        rows = [self.row(successive).to(self.accelerator.device) for successive in inputs["successive"]]
        with ragged_rows(model), autocast(self.policy.compute_dtype, self.accelerator.device):
            output = ragged_forward(model, rows, self.frozen(model, rows), self.frozen.depth)
        predicted, token = torch.cat([row.predicted for row in rows]), output.states.new_zeros(())
        if len(predicted):
            columns = torch.arange(len(predicted), device=predicted.device)
            token = -TokenLogprobs.apply(output.logits, columns, predicted, 1.0, False)[0].mean()
        item = self._item_loss(model, output.states, inputs["successive"])
        self.spent.targets += len(output.states) * self.args.world_size
        self.parts = {"token_loss": token.item(), "item_loss": item.item()}
        return check_loss(self, self.settings.token_weight * token + item)

    def row(self, successive: Examples) -> Row:
        """What the prompts of a user's successive targets share, and behind it each one's rest, reasoning and marker.

        Every target has a reasoning behind its prompt; of a share of them, others in each step, it is learned.
        """
        # Evenly spread: of a share of a half every other one, and in the next step the ones between.
        share, step = self.settings.token_share if self.texts else 0.0, self.state.global_step
        learned = [int((number + step + 1) * share) > int((number + step) * share) for number in range(len(successive))]
        return packed_row(self.policy.tokenizer, successive, self.items, self.endings(successive), learned)

    def endings(self, successive: Examples) -> list[str]:
        """What stands behind each prompt of a user: a skill's text, where the warm-up teaches any, and the marker.

        Skills take turns over a user's targets and, for each target, over the epochs.
        """
        if not self.texts:
            return [MARKER] * len(successive)
        epoch = int(self.state.epoch or 0)
        chosen = [self.texts[(len(example["seen"]) + epoch) % len(self.texts)] for example in successive]
        return [f"{text(example)}\n{MARKER}" for text, example in zip(chosen, successive, strict=True)]

    def _item_loss(self, model: torch.nn.Module, states: Tensor, batch: Sequence[Examples]) -> Tensor:
        """Mean cross-entropy of the targets, over the step's items or the catalogue, without what a user has seen."""
        device, tau, whole = self.accelerator.device, self.profile.reward.temperature, self.whole_catalogue
        # Beside the batch's other targets, those packed together are met far more often than log q says, and their user
        # is about to take them: they are no negatives of each other.
        seen = [
            [*example["seen"], *([] if whole else (other["target"] for other in successive))]
            for successive in batch
            for example in successive
        ]
        targets = torch.tensor([example["target"] for successive in batch for example in successive], device=device)
        excluded = seen_items(seen, targets, len(self.items))
        count, seed, step = self.settings.item_negatives, self.args.seed, self.state.global_step
        ids, log_q = choose_items(targets, self.target_share, count, seed, step, whole)
        with autocast(self.policy.compute_dtype, device):
            fresh = self.item_encoder(model, ids.tolist(), device)
        if not whole:
            rows = torch.searchsorted(ids, targets)
            return -item_logprobs(states, fresh, rows, None, tau, log_q, excluded[:, ids]).mean()
        assert self.item_embeddings is not None
        table = self.item_embeddings.index_copy(0, ids, fresh)
        self.item_embeddings[ids] = fresh.detach()
        return -item_logprobs(states, table, targets, None, tau, excluded_items=excluded).mean()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the loss's two parts to every step's line."""
        super().log({**logs, **self.parts} if "loss" in logs else logs, *args, **kwargs)
