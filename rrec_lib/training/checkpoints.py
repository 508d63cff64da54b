"""Checkpoints: which are whole, how many stay, and how a run goes on from one.

A checkpoint is whole once it holds a file named ``complete``, which is written last and deleted first.
"""

import re
import shutil
from pathlib import Path
from typing import Any, Protocol

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

COMPLETE = "complete"


class Resumable(Protocol):
    """What a trainer keeps beside its weights, its optimiser and its log."""

    def save_progress(self, folder: Path) -> None:
        """Write it to a checkpoint; called on every process."""

    def load_progress(self, folder: Path) -> None:
        """Read it back."""


class Checkpoints(TrainerCallback):
    """Complete a trainer's checkpoints, delete the oldest beyond a limit, and restore progress from one."""

    def __init__(self, trainer: Resumable, limit: int | None) -> None:
        """Args:
        trainer: whose progress is kept.
        limit: of whole checkpoints; None keeps all.
        """
        self.trainer, self.limit = trainer, limit

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self.trainer.load_progress(checkpoint_of(args, state))
        if args.should_save:  # what a killed run left
            for folder in set(all_checkpoints(_run(args))) - set(complete_checkpoints(_run(args))):
                shutil.rmtree(folder)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.should_save:  # one that lies there already is of another pass, and about to be replaced
            (checkpoint_of(args, state) / COMPLETE).unlink(missing_ok=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = checkpoint_of(args, state)
        self.trainer.save_progress(folder)
        PartialState().wait_for_everyone()
        if args.should_save:
            (folder / COMPLETE).touch()
            for old in complete_checkpoints(_run(args))[: -self.limit if self.limit else 0]:
                (old / COMPLETE).unlink()
                shutil.rmtree(old)


def _run(args: TrainingArguments) -> Path:
    return Path(str(args.output_dir))


def checkpoint_of(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the present step's checkpoint lies."""
    return _run(args) / f"checkpoint-{state.global_step}"


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None; a half-written one is never taken."""
    return next(reversed(complete_checkpoints(output_dir)), None)


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return [folder for folder in all_checkpoints(output_dir) if (folder / COMPLETE).is_file()]


def all_checkpoints(output_dir: Path) -> list[Path]:
    """A run's checkpoints, oldest first, half-written ones included; a copy of another name is none of them."""
    found = {int(match[1]): folder for folder in output_dir.glob("checkpoint-*")
             if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name))}  # fmt: skip
    return [found[step] for step in sorted(found)]
