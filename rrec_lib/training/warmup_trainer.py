"""Warm-up: a short supervised stage before RecPO. A departure from the paper, for small models only.

SmolLM2-135M, untrained, repeats the question, rarely writes the marker, and its states say nothing about taste: RecPO
would score noise. The warm-up teaches two things at once. *Format*: cross-entropy on sentences built from the history's
own genres, years and ratings, never from the target. *States*: the state behind that sentence is drawn to the target's
row of the item table, by the same softmax as RecPO's item term, with more negatives and the logQ correction. Successive
targets of a user share a row, see :mod:`rrec_lib.training.packed_histories`. Profiles switch the stage off with
``warmup.steps: 0``.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from torch import Tensor
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from rrec_lib.core.hardware import autocast, needs_loss_scaling, users_of_a_process
from rrec_lib.core.processes import check_launch
from rrec_lib.core.profiles import Profile
from rrec_lib.evaluation.scoring import seen_items
from rrec_lib.model.encode import plain_attention
from rrec_lib.model.packing import PackedGroups, group_states, pack, packed_forward
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import MARKER, encode_users, item_kind
from rrec_lib.recpo.losses import item_logprobs
from rrec_lib.recpo.step_items import check_item_softmax, choose_items, step_seed
from rrec_lib.training.checkpoints import CheckpointMixin
from rrec_lib.training.packed_histories import (
    as_seen_from_the_end,
    lines_of_block,
    share_row,
    steps_of_like_lengths,
    successive_targets,
)

Items = Sequence[Mapping[str, Any]]
_FRAMES = (
    "This person likes {liked}{mostly}{but}. They may enjoy another {first} {kind}.",
    "Mostly {era}{kind}s. High ratings for {liked}{but}, so {first} suits them.",
    "{first} stands out among the {era}{kind}s they like: {liked}{but}.",
)
_TITLE_WORD = re.compile(r"[^\W\d_]{4,}")


def history_sentence(example: Mapping[str, Any], items: Items, frame: int) -> str:
    """A sentence that a history supports: its best-rated genres, its usual decade, what it rates lower.

    Where items have no genres, their most special categories take their place, or words of their titles.

    Args:
        example: ``history`` and ``history_ratings``; the target is not looked at.
        items: the item table.
        frame: which of the sentence frames to fill, modulo their number.
    """
    ratings: dict[str, list[float]] = {}
    for index, rating in zip(example["history"], example["history_ratings"], strict=True):
        for label in _labels(items[index]):
            ratings.setdefault(label, []).append(rating)
    # More and better-rated items first; the name decides ties, so that the sentence is a function of the history.
    score = {label: sum(values) - 2.5 * len(values) for label, values in ratings.items()}
    ranked = sorted(score, key=lambda label: (-score[label], label)) or ["varied"]
    decades = Counter(items[i]["year"] // 10 * 10 for i in example["history"] if items[i].get("year") is not None)
    era = f"{max(decades, key=lambda decade: (decades[decade], decade))}s" if decades else ""
    low = [label for label in reversed(ranked[3:]) if sum(ratings[label]) < 3 * len(ratings[label])]
    return _FRAMES[frame % len(_FRAMES)].format(
        liked=" and ".join([", ".join(ranked[:2]), ranked[2]]) if len(ranked) > 2 else " and ".join(ranked),
        mostly=f", mostly from the {era}" if era else "",
        era=f"{era} " if era else "",
        kind=item_kind(items[example["history"][-1]]),
        but=f", but rates {low[0]} lower" if low else "",
        first=ranked[0],
    )


def _labels(item: Mapping[str, Any]) -> list[str]:
    """An item's genres, or its last two categories, or words of its title."""
    if "genres" in item:
        return list(item["genres"])
    return list(item.get("categories") or [])[-2:] or _TITLE_WORD.findall(str(item["title"]).lower())[:3]


def warmup_arguments(profile: Profile, output_dir: Path, seed: int = 0, **overrides: Any) -> TrainingArguments:
    """Training arguments of the warm-up stage; ``overrides`` are fields of ``TrainingArguments``."""
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": seed,
        "max_steps": profile.warmup.steps,
        "per_device_train_batch_size": users_of_a_process(profile.warmup.users_per_step)[0],
        "learning_rate": profile.warmup.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(profile.warmup.steps // 20, 1),
        "save_steps": 20,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "fp16": needs_loss_scaling(profile.model.dtype),
        "bf16": False,  # autocast is the policy's own choice, see hardware.choose_dtype
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
    }
    return TrainingArguments(**{**settings, **overrides})


class WarmupTrainer(CheckpointMixin, Trainer):
    """Cross-entropy on history sentences, and a sampled softmax of the target behind them."""

    def __init__(
        self,
        policy: Policy,
        args: TrainingArguments,
        dataset: DatasetDict,
        profile: Profile,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """Args:
        policy: trained in place.
        args: see :func:`warmup_arguments`.
        dataset: splits ``train`` and ``items``.
        profile: its ``warmup`` section and the item softmax's temperature.
        """
        check_launch(args)
        check_item_softmax(profile.training.item_softmax, profile.warmup.item_negatives)
        self.prepare_items(policy, dataset, profile.training.item_refresh_steps)
        self.settings, self.temperature = profile.warmup, profile.reward.temperature
        self.whole_catalogue = profile.training.item_softmax == "catalogue"
        self.parts: dict[str, float] = {}
        train = dataset["train"]
        order = list(train.select_columns(["user_id", "history", "seen"]))  # what blocks are cut by
        blocks = successive_targets(order, self.settings.targets_per_user)
        self.block_lines = [lines_of_block([order[row] for row in rows]) for rows in blocks]
        super().__init__(
            model=policy.model,
            args=args,
            train_dataset=blocks,  # type: ignore[arg-type]
            data_collator=lambda blocks: {"blocks": [[train[row] for row in rows] for rows in blocks]},
            callbacks=callbacks,
        )
        self.finish_setup()

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        size = self.args.train_batch_size * self.args.world_size
        return self.drawn_anew(partial(steps_of_like_lengths, self.block_lines, size), len(self.block_lines))

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Mean cross-entropy of the sentences' tokens, the marker included, and that of the targets behind them."""
        if self.whole_catalogue:
            self.refresh_item_table()
        with plain_attention(self.policy), autocast(self.policy.compute_dtype, self.accelerator.device):
            groups, real = self.pack_blocks(inputs["blocks"])
            if self.with_sentences:
                output = packed_forward(model, groups)
                mask = groups.loss_mask.flatten(0, 1)
                states, token = output.states, -(output.logprobs * mask).sum() / mask.sum()
            else:
                states = group_states(model, groups)
                token = states.new_zeros(())
        item = self._item_loss(model, states[real], inputs["blocks"])
        self.parts = {"token_loss": token.item(), "item_loss": item.item()}
        return self.checked(self.settings.token_weight * token + item)

    @property
    def with_sentences(self) -> bool:
        """Whether sentences stand before the markers of this step; the last of every so many steps has them."""
        every = self.settings.sentence_every
        return every > 0 and (self.state.global_step + 1) % every == 0

    def pack_blocks(self, blocks: Sequence[Items]) -> tuple[PackedGroups, Tensor]:
        """A row per block: what its prompts share, then for each target the rest of its prompt, sentence and marker.

        Returns:
            The rows, all as wide as the longest block, and (R,) which of their completions are targets and no filling.
        """
        tokenizer, width = self.policy.tokenizer, max(map(len, blocks))
        beginnings: list[list[int]] = []
        completions: list[list[int]] = []
        visible: list[int] = []
        prefilled: list[int] = []
        real: list[bool] = []
        for block in blocks:
            row = share_row(encode_users(tokenizer, as_seen_from_the_end(block), self.items))
            filling = width - len(block)
            beginnings.append(row.beginning)
            for rest, ending in zip(row.rest, self._endings(block), strict=True):
                completions.append(rest + list(tokenizer(ending, add_special_tokens=False)["input_ids"]))
            completions += row.rest[-1:] * filling
            visible += row.visible + row.visible[-1:] * filling
            prefilled += [len(rest) for rest in row.rest + row.rest[-1:] * filling]
            real += [True] * len(block) + [False] * filling
        lengths = [len(completion) for completion in completions]
        sampled = lengths if self.with_sentences else [0] * len(lengths)
        device = self.accelerator.device
        groups = pack(beginnings, completions, sampled, tokenizer.pad_token_id, device, visible, prefilled)
        return groups, torch.tensor(real, device=device)

    def _endings(self, block: Items) -> list[str]:
        """What stands behind each prompt of a block: the sentence, where there is one, and the marker."""
        if not self.with_sentences:
            return [MARKER] * len(block)
        step = self.state.global_step
        return [
            f"{history_sentence(example, self.items, frame=number + step)}\n{MARKER}"
            for number, example in enumerate(block)
        ]

    def _item_loss(self, model: torch.nn.Module, states: Tensor, blocks: Sequence[Items]) -> Tensor:
        """Mean cross-entropy of the targets, over the step's items or the catalogue, without what a user has seen."""
        device, tau, whole = self.accelerator.device, self.temperature, self.whole_catalogue
        # Beside the batch's other targets, those of a block are met far more often than log q says, and their user is
        # about to take them: they are no negatives of each other.
        seen = [
            [*example["seen"], *([] if whole else (other["target"] for other in block))]
            for block in blocks
            for example in block
        ]
        targets = torch.tensor([example["target"] for block in blocks for example in block], device=device)
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
