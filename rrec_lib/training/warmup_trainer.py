"""Warm-up: a short supervised stage before RecPO. A departure from the paper, for small models only.

SmolLM2-135M, untrained, repeats the question, rarely writes the marker, and its states say nothing about taste: RecPO
would score noise. The warm-up teaches two things at once. *Format*: cross-entropy on sentences built from the history's
own genres, years and ratings, never from the target. *States*: the state behind that sentence is drawn to the target's
item embedding, by the same softmax as RecPO's item term, with more negatives and the logQ correction. Successive
targets of a user are packed, see :mod:`rrec_lib.training.packed_sequences`. Profiles switch the stage off with
``warmup.steps: 0``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from datasets import DatasetDict
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from rrec_lib.core.hardware import autocast
from rrec_lib.core.profiles import Profile, WarmupProfile
from rrec_lib.evaluation.scoring import seen_items
from rrec_lib.model.encode import plain_attention
from rrec_lib.model.packing import PackedGroups, group_states, pack, packed_forward
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import MARKER, encode_users
from rrec_lib.recpo.losses import item_logprobs
from rrec_lib.recpo.step_items import choose_items, step_seed
from rrec_lib.training.failures import check_loss
from rrec_lib.training.history_sentences import history_sentence
from rrec_lib.training.item_trainer import ItemTrainer
from rrec_lib.training.packed_sequences import (
    longest_history,
    order_by_length,
    split_prefix,
    successive_targets,
    with_common_start,
)

Examples = Sequence[Mapping[str, Any]]


class WarmupTrainer(ItemTrainer, Trainer):
    """Cross-entropy on history sentences, and a sampled softmax of the target behind them."""

    def __init__(
        self,
        policy: Policy,
        args: TrainingArguments,
        dataset: DatasetDict,
        profile: Profile,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """Arguments as :class:`ItemTrainer`."""
        self.settings: WarmupProfile = profile.warmup
        self.parts: dict[str, float] = {}
        train = dataset["train"]
        order = list(train.select_columns(["user_id", "history", "seen"]))  # what targets are packed by
        packed = successive_targets(order, self.settings.targets_per_user)
        self.lengths = [longest_history([order[row] for row in rows]) for rows in packed]
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

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Mean cross-entropy of the sentences' tokens, the marker included, and that of the targets behind them."""
        if self.whole_catalogue:
            self.refresh_item_table()
        with plain_attention(self.policy), autocast(self.policy.compute_dtype, self.accelerator.device):
            groups, real = self.pack_targets(inputs["successive"])
            if self.with_sentences:
                output = packed_forward(model, groups)
                mask = groups.loss_mask.flatten(0, 1)
                states, token = output.states, -(output.logprobs * mask).sum() / mask.sum()
            else:
                states = group_states(model, groups)
                token = states.new_zeros(())
        item = self._item_loss(model, states[real], inputs["successive"])
        self.parts = {"token_loss": token.item(), "item_loss": item.item()}
        return check_loss(self, self.settings.token_weight * token + item)

    @property
    def with_sentences(self) -> bool:
        """Whether sentences stand before the markers of this step; the last of every so many steps has them."""
        every = self.settings.sentence_every
        return every > 0 and (self.state.global_step + 1) % every == 0

    def pack_targets(self, batch: Sequence[Examples]) -> tuple[PackedGroups, Tensor]:
        """A packed sequence per user: what the prompts share, then each target's rest of its prompt, sentence, marker.

        Returns:
            The sequences, with as many completions each, and (R,) which of these are targets and no filling.
        """
        tokenizer, width = self.policy.tokenizer, max(map(len, batch))
        prefixes: list[list[int]] = []
        completions: list[list[int]] = []
        shared: list[int] = []
        prompt_ends: list[int] = []  # how many tokens of each completion are its prompt's
        real: list[bool] = []
        for successive in batch:
            packed = split_prefix(encode_users(tokenizer, with_common_start(successive), self.items))
            filling = width - len(successive)
            prefixes.append(packed.prefix)
            for rest, ending in zip(packed.rest, self.endings(successive), strict=True):
                completions.append(rest + list(tokenizer(ending, add_special_tokens=False)["input_ids"]))
            completions += packed.rest[-1:] * filling
            shared += packed.shared + packed.shared[-1:] * filling
            prompt_ends += [len(rest) for rest in packed.rest + packed.rest[-1:] * filling]
            real += [True] * len(successive) + [False] * filling
        lengths = [len(completion) for completion in completions]
        learned = lengths if self.with_sentences else [0] * len(lengths)
        device = self.accelerator.device
        groups = pack(prefixes, completions, learned, tokenizer.pad_token_id, device, shared, prompt_ends)
        return groups, torch.tensor(real, device=device)

    def endings(self, successive: Examples) -> list[str]:
        """What stands behind each prompt of a user: the sentence, where there is one, and the marker."""
        if not self.with_sentences:
            return [MARKER] * len(successive)
        step = self.state.global_step
        return [
            f"{history_sentence(example, self.items, frame=number + step)}\n{MARKER}"
            for number, example in enumerate(successive)
        ]

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
        seed = step_seed(self.args.seed, self.state.global_step)
        ids, log_q = choose_items(targets, self.target_share, self.settings.item_negatives, seed, whole)
        with plain_attention(self.policy), autocast(self.policy.compute_dtype, device):
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
