"""What both of R²ec's trainers share: the item table."""

from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from rrec_lib.core.profiles import Profile, TrainingProfile, WarmupProfile
from rrec_lib.core.reading import read_tensors
from rrec_lib.model.item_encoder import ItemEncoder
from rrec_lib.model.item_table import item_table
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_items
from rrec_lib.recpo.step_items import check_item_softmax
from rrec_lib.training.resumable_trainer import ResumableTrainer

ITEM_TABLE = "item_table.safetensors"


class ItemTrainer(ResumableTrainer):
    """A trainer with an item table: encoded in full on a schedule, updated in place, kept in every checkpoint.

    To be named in front of the trainer that it is combined with.
    """

    settings: WarmupProfile | TrainingProfile  # the stage's own section, set by the trainer that is built on this one

    def __init__(
        self,
        policy: Policy,
        args: TrainingArguments,
        dataset: DatasetDict,
        profile: Profile,
        callbacks: list[TrainerCallback] | None = None,
        **options: Any,
    ) -> None:
        """Arguments as :class:`ResumableTrainer`, and:

        dataset: splits ``train`` and ``items``, see :mod:`rrec_lib.data.examples`.

        Raises:
            ValueError: for processes that can't train here, an item softmax without items to train, or with activation
                checkpointing.
        """
        check_item_softmax(profile.training.item_softmax, self.settings.item_negatives)
        self.whole_catalogue = profile.training.item_softmax == "catalogue"
        self.items = list(dataset["items"])
        counts = torch.bincount(torch.tensor(dataset["train"]["target"]), minlength=len(self.items))
        self.target_share = counts / counts.sum()  # (N,) of the training targets
        self.item_encoder = ItemEncoder(policy.model, encode_items(policy.tokenizer, self.items))
        self.item_embeddings: Tensor | None = None  # (N, d), as of item_table_step; None until it is used
        self.item_table_step = -1
        super().__init__(policy, args, profile, callbacks, **options)
        names = ("gradient_checkpointing", "activation_checkpointing")  # of an argument and of modules, by version
        if any(getattr(where, name, None) for where in (args, *policy.model.modules()) for name in names):
            raise ValueError(
                "activation checkpointing (gradient_checkpointing) runs layers again in the backward pass, when the"
                " item encoder no longer feeds them; leave it off, and save memory with fewer users at once"
            )

    def refresh_item_table(self) -> Tensor:
        """The whole table (N, d); if its refresh is due it is encoded, every process an equal share."""
        step, refresh_steps = self.state.global_step, self.profile.training.item_refresh_steps
        if self.item_embeddings is None or self.item_table_step < step - step % refresh_steps:
            # Only the start of a run is likely to have been encoded before, or to be again.
            count, index = self.accelerator.num_processes, self.accelerator.process_index
            own = item_table(self.policy, self.items[index::count], use_cache=step == 0)
            shares: Any = self.accelerator.gather(self.accelerator.pad_across_processes(own))
            table = shares.unflatten(0, (count, -1)).transpose(0, 1).flatten(0, 1)[: len(self.items)]
            self.item_embeddings, self.item_table_step = table.clone(), step
        return self.item_embeddings

    def save_progress(self, folder: Path) -> None:
        """Save what the trainer it is combined with does not; called on every process."""
        if self.args.should_save and self.item_embeddings is not None:
            step = torch.tensor(self.item_table_step)
            save_file({"states": self.item_embeddings.cpu().contiguous(), "step": step}, folder / ITEM_TABLE)

    def load_progress(self, folder: Path) -> None:
        """Restore what :meth:`save_progress` saved."""
        if (folder / ITEM_TABLE).is_file():
            saved = read_tensors(folder / ITEM_TABLE, "states", "step")
            self.item_embeddings = saved["states"].to(self.accelerator.device)
            self.item_table_step = int(saved["step"])
