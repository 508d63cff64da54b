"""LangPTune's encoder: states of profiles and items, how well profiles rank, and the trainer that teaches it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainingArguments

from rrec_lib.baselines.generative.title_trainer import Answers
from rrec_lib.baselines.generative.titles import encode_once
from rrec_lib.core.profiles import Profile, override
from rrec_lib.data.examples import Item
from rrec_lib.evaluation.metrics import ndcg_at_k
from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_items, item_kind, marker_ids, render
from rrec_lib.model.ragged import Row, ragged_row
from rrec_lib.training.callbacks import StepLines
from rrec_lib.training.packed_sequences import split_prefix
from rrec_lib.training.warmup_trainer import WarmupTrainer

READ_INSTRUCTION = "Name the next {kind} that suits this person between <answer> and </answer>."


def profile_ids(tokenizer: PreTrainedTokenizerBase, profiles: Sequence[str], items: Sequence[Item]) -> list[list[int]]:
    """Token ids of each profile's prompt: the profile and no history, the assistant's turn opened with the marker."""
    instruction = READ_INSTRUCTION.format(kind=item_kind(items[0]))
    turns = [[{"role": "system", "content": instruction}, {"role": "user", "content": text}] for text in profiles]
    encoded = tokenizer([render(tokenizer, messages) for messages in turns], add_special_tokens=False)["input_ids"]
    return [[*ids, *marker_ids(tokenizer)] for ids in encoded]


def item_states(policy: Policy, items: Sequence[Item]) -> Tensor:
    """(N, d) states of the items' own prompts, those of R²ec's item table."""
    return encode_once(policy, encode_items(policy.tokenizer, items), "encoding items")


def profile_states(policy: Policy, profiles: Sequence[str], items: Sequence[Item]) -> Tensor:
    """(n, d) states of profiles."""
    return encode_once(policy, profile_ids(policy.tokenizer, profiles, items), "encoding profiles")


def profile_rewards(policy: Policy, profiles: Answers, items: Sequence[Item], encoded: Tensor) -> Tensor:
    """(E, K) what each profile is worth: NDCG of the target among all that the user has not seen.

    ``encoded`` are the items' states, which take minutes for a catalogue.
    """
    states = profile_states(policy, [text for texts in profiles.titles for text in texts], items)
    scores = score_items(states, encoded).view(len(profiles.examples), -1, len(items))
    targets = torch.tensor([example["target"] for example in profiles.examples], device=scores.device)
    scores = mask_items(scores, [example["seen"] for example in profiles.examples], targets)
    return ndcg_at_k(scores, targets[:, None].expand(scores.shape[:2]), len(items))


class EncoderTrainer(WarmupTrainer):
    """The warm-up's softmax of the target among the batch's and drawn items, behind profiles instead of histories."""

    judged_by = "valid_reward"

    def __init__(
        self, policy: Policy, args: TrainingArguments, profile: Profile, items: Sequence[Item],
        train: Answers, valid: Answers,
    ) -> None:  # fmt: skip
        """Args:
        policy: trained in place.
        args: see :func:`rrec_lib.training.configuration.warmup_arguments`.
        profile: sizes and hyperparameters.
        items: the item table.
        train, valid: profiles of each example; all of them are learned from, or judge.
        """
        self.valid_profiles = valid
        rows = [
            {**example, "profile": text}
            for example, texts in zip(train.examples, train.titles, strict=True)
            for text in texts
        ]
        dataset = DatasetDict({"train": Dataset.from_list(rows), "items": Dataset.from_list(list(items))})
        in_batch, lines = override(profile, "training.item_softmax", "batch"), StepLines(("loss", "grad_norm"), 10)
        super().__init__(policy, args, dataset, in_batch, [lines], texts=[])

    def row(self, successive: Sequence[Mapping[str, Any]]) -> Row:
        """What the profiles' prompts share, and behind it each one's rest."""
        profiles = [example["profile"] for example in successive]
        packed = split_prefix(profile_ids(self.policy.tokenizer, profiles, self.items))
        return ragged_row(packed.prefix, packed.rest, packed.shared)

    def valid_score(self) -> float:
        """The mean reward on valid."""
        encoded = item_states(self.policy, self.items)
        return float(profile_rewards(self.policy, self.valid_profiles, self.items, encoded).mean())
