"""What both trainers share: the item table, the order of rows, checkpoints, gradients that are numbers."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from rrec_lib.core.private_names import order_rows, watch_grad_norm
from rrec_lib.core.processes import check_launch, of_main
from rrec_lib.core.profiles import Profile, TrainingProfile, WarmupProfile
from rrec_lib.model.item_encoder import ItemEncoder
from rrec_lib.model.item_table import item_table
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_items
from rrec_lib.recpo.step_items import check_item_softmax
from rrec_lib.training.callbacks import SPENT, TARGETS, LogFile, Spent
from rrec_lib.training.checkpoints import Checkpoints
from rrec_lib.training.failures import check_grad_norm

ITEM_TABLE = "item_table.safetensors"


class ItemTrainer(Trainer):
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
        """Args:
        policy: the policy to train, in place.
        args: see :mod:`rrec_lib.training.configuration`.
        dataset: splits ``train`` and ``items``, see :mod:`rrec_lib.data.examples`.
        profile: its ``reward``, ``warmup`` and ``training`` sections.
        callbacks: beside the log file and the checkpoints.
        options: of the other trainer.

        Raises:
            ValueError: for processes that can't train here, an item softmax without items to train, or with activation
                checkpointing.
        """
        check_launch(args)
        check_item_softmax(profile.training.item_softmax, self.settings.item_negatives)
        self.whole_catalogue = profile.training.item_softmax == "catalogue"
        policy.compute_dtype = of_main(policy.compute_dtype)  # on a CPU each process has measured for itself
        self.policy, self.profile, self.items = policy, profile, list(dataset["items"])
        counts = torch.bincount(torch.tensor(dataset["train"]["target"]), minlength=len(self.items))
        self.target_share = counts / counts.sum()  # (N,) of the training targets
        self.item_encoder = ItemEncoder(policy.model, encode_items(policy.tokenizer, self.items))
        self.item_embeddings: Tensor | None = None  # (N, d), as of item_table_step; None until it is used
        self.item_table_step = -1
        super().__init__(model=policy.model, args=args, callbacks=callbacks, **options)
        names = ("gradient_checkpointing", "activation_checkpointing")  # of an argument and of modules, by version
        if any(getattr(where, name, None) for where in (args, *policy.model.modules()) for name in names):
            raise ValueError(
                "activation checkpointing (gradient_checkpointing) runs layers again in the backward pass, when the"
                " item encoder no longer feeds them; leave it off, and save memory with fewer users at once"
            )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.spent = Spent()
        self.add_callback(self.spent)
        self.add_callback(LogFile())
        self.add_callback(Checkpoints(self, args.save_total_limit))
        args.save_total_limit = None  # the callback deletes, whole checkpoints alone
        limit = profile.training.grad_norm_limit
        watch_grad_norm(self, lambda norm: check_grad_norm(self, norm, limit))
        order_rows(self, self.epoch_order)

    def epoch_order(self, sampler: Any) -> Sampler:
        """Rows in an order by seed and epoch alone, so that a resumed run goes on with it."""
        epoch = lambda: int(self.state.epoch or 0)  # noqa: E731
        return EpochSampler(partial(self.draw_rows, sampler), len(sampler), int(self.args.seed), epoch)

    def draw_rows(self, sampler: Any, generator: torch.Generator) -> Iterable[int]:
        """The rows of an epoch: as the trainer's own sampler has them, but whose order depends on the whole run."""
        sampler.generator = generator
        return sampler

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
            saved = load_file(folder / ITEM_TABLE)
            self.item_embeddings = saved["states"].to(self.accelerator.device)
            self.item_table_step = int(saved["step"])

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Lines say what was spent so far; the last line's loss is of the whole run, however often it was resumed."""
        if "loss" in logs:
            logs = {**logs, SPENT: self.spent.seconds, TARGETS: self.spent.targets}
        if "train_loss" in logs:
            losses = [row["loss"] for row in self.state.log_history if "loss" in row]
            logs = {**logs, "train_loss": math.fsum(losses) / max(len(losses), 1)}
        super().log(logs, *args, **kwargs)


class EpochSampler(Sampler):
    """An order that is drawn anew, by seed and epoch."""

    def __init__(
        self, draw: Callable[[torch.Generator], Iterable[int]], length: int, seed: int, epoch: Callable[[], int]
    ) -> None:
        self.draw, self.length, self.seed, self.epoch = draw, length, seed, epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw(torch.Generator().manual_seed(self.seed + self.epoch())))

    def __len__(self) -> int:
        return self.length
