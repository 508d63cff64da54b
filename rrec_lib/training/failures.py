"""What a run can't go on from: each stops it in a sentence that names the reason, the remedy and what remains."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from rrec_lib.core.console import TrainingError
from rrec_lib.core.paths import no_room
from rrec_lib.training.checkpoints import last_checkpoint


def stopped(trainer: Trainer, reason: str) -> TrainingError:
    """The error that ends a run, and names what it can go on from."""
    checkpoint = last_checkpoint(Path(str(trainer.args.output_dir)))
    remains = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
    return TrainingError(f"training stopped: {reason}; {remains}")


def check_loss(trainer: Trainer, loss: Tensor) -> Tensor:
    """Pass on a finite loss; any other stops every process before its backward pass."""
    losses: Any = trainer.accelerator.gather(loss.detach().reshape(1))
    if not losses.isfinite().all():
        raise stopped(
            trainer,
            f"the loss of step {trainer.state.global_step + 1} is {losses[~losses.isfinite()][0].item()}; lower the"
            " learning rate, or set model.dtype=float32",
        )
    return loss


def check_grad_norm(trainer: Trainer, norm: Any, limit: float) -> None:
    """Stop before the weights take a gradient that is no number, or too large.

    float16's scaler leaves out a step that overflows and tries a smaller scale; the log shows the norm. DeepSpeed gives
    none, or gives it after its step.
    """
    value = 0.0 if norm is None else float(norm)
    if trainer.accelerator.scaler is None and not value <= limit:
        raise stopped(
            trainer,
            f"the gradient norm of step {trainer.state.global_step + 1} is {value:.3g}, the limit {limit:g}; lower the"
            " learning rate, or raise training.grad_norm_limit if such norms are usual here",
        )


def explain(error: Exception, step: int, run: Path) -> str | None:
    """Why a step failed and what to do, for the failures that a reader can mend; None for any other."""
    text = str(error)
    no_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    if no_memory or "allocate memory" in text:  # a CPU has no class for it
        return (
            f"out of memory at step {step}; lower training.users_at_once, which changes no step, or"
            " warmup.users_per_step, rollouts.group_size or rollouts.max_new_tokens, which do"
        )
    if no_room(error):
        return f"{run} can't be written at step {step} ({text}); make room there and start the same run again"
    if "probability tensor contains" in text:
        return (
            f"the token probabilities of step {step} are no numbers, so nothing can be sampled; lower the learning"
            " rate, or set model.dtype=float32"
        )
    return None
