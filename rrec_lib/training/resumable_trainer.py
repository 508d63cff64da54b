"""What every trainer here shares: the order of rows, its log, checkpoints to go on from, gradients that are numbers."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from rrec_lib.core.private_names import order_rows, watch_grad_norm
from rrec_lib.core.processes import check_launch, of_main
from rrec_lib.core.profiles import Profile
from rrec_lib.model.policy import Policy
from rrec_lib.training.callbacks import SAVED, SPENT, TARGETS, LogFile, Spent
from rrec_lib.training.checkpoints import Checkpoints
from rrec_lib.training.failures import check_grad_norm


class ResumableTrainer(Trainer):
    """A trainer of a policy that can be killed anywhere and goes on as if nothing had happened.

    To be named in front of the trainer that it is combined with.
    """

    def __init__(
        self,
        policy: Policy,
        args: TrainingArguments,
        profile: Profile,
        callbacks: list[TrainerCallback] | None = None,
        **options: Any,
    ) -> None:
        """Args:
        policy: the policy to train, in place.
        args: see :mod:`rrec_lib.training.configuration`.
        profile: sizes and hyperparameters.
        callbacks: beside the log file and the checkpoints.
        options: of the other trainer.

        Raises:
            ValueError: for processes that can't train here.
        """
        check_launch(args)
        policy.compute_dtype = of_main(policy.compute_dtype)  # on a CPU each process has measured for itself
        self.policy, self.profile = policy, profile
        super().__init__(model=policy.model, args=args, callbacks=callbacks, **options)
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

    def seconds_saved(self) -> float:
        """CPU seconds that this process has been spared by what was kept on disk."""
        return 0.0

    def save_progress(self, folder: Path) -> None:
        """Save to a checkpoint what Transformers does not: nothing, unless a trainer has more."""

    def load_progress(self, folder: Path) -> None:
        """Restore what :meth:`save_progress` saved."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Lines say what was spent so far; the last line's loss is of the whole run, however often it was resumed."""
        if "loss" in logs:
            logs = {**logs, SPENT: self.spent.seconds, TARGETS: self.spent.targets}
            if saved := self.spent.saved + self.seconds_saved():
                logs[SAVED] = saved
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
        return iter(self.draw(torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())))

    def __len__(self) -> int:
        return self.length
