"""What both trainers share: the item table, checkpoints that are whole or not there, and stops that say why."""

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState

from rrec_lib.console import TrainingError
from rrec_lib.item_encoder import ItemEncoder
from rrec_lib.paths import no_room
from rrec_lib.policy import Policy, item_table
from rrec_lib.processes import of_main
from rrec_lib.prompts import encode_items
from rrec_lib.results import log_lines
from rrec_lib.stopping import StopOnValid

COMPLETE, ITEM_TABLE, SAVING = "complete", "item_table.safetensors", ".saving"
GRAD_NORM_LIMIT = 1e4  # recorded runs stay below 3


class CheckpointMixin:
    """The item table of a trainer: encoded in full on a schedule, updated in place, kept in every checkpoint.

    Checkpoints are written to a hidden folder and appear under their name in one rename. A loss or gradient that is no
    number, or too large, stops the run before the weights take it.
    """

    args: Any  # these are the trainer's
    state: Any
    control: Any
    accelerator: Any
    callback_handler: Any
    add_callback: Any
    remove_callback: Any
    _load_from_checkpoint: Any
    _saving = False

    def prepare_items(self, policy: Policy, dataset: DatasetDict, refresh_steps: int = 0) -> None:
        """Set up the table; a trainer that scores with it encodes it at its first step."""
        policy.compute_dtype = of_main(policy.compute_dtype)  # on a CPU each process has measured for itself
        self.policy, self.items, self.refresh_steps = policy, list(dataset["items"]), refresh_steps
        counts = torch.bincount(torch.tensor(dataset["train"]["target"]), minlength=len(self.items))
        self.target_share = counts / counts.sum()  # (N,) of the training targets
        self.item_encoder = ItemEncoder(policy.model, encode_items(policy.tokenizer, self.items))
        self.item_embeddings: Tensor | None = None  # (N, d), as of item_table_step
        self.item_table_step = -1

    def finish_setup(self) -> None:
        """Log to ``log.jsonl`` in the output folder rather than to the screen, and refuse activation checkpointing."""
        names = ("gradient_checkpointing", "activation_checkpointing")  # of an argument and of modules, by version
        if any(getattr(where, name, None) for where in (self.args, *self.policy.model.modules()) for name in names):
            raise ValueError(
                "activation checkpointing (gradient_checkpointing) runs layers again in the backward pass, when the"
                " item encoder no longer feeds them; leave it off, and save memory with fewer users at once"
            )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(LogFile(Path(self.args.output_dir) / "log.jsonl"))

    def refresh_item_table(self) -> None:
        """Encode the whole table if its refresh is due, every process an equal share."""
        step = self.state.global_step
        if self.item_embeddings is None or self.item_table_step < step - step % self.refresh_steps:
            # Only the start of a run is likely to have been encoded before, or to be again.
            count, index = self.accelerator.num_processes, self.accelerator.process_index
            own = item_table(self.policy, self.items[index::count], use_cache=step == 0)
            shares = self.accelerator.gather(self.accelerator.pad_across_processes(own))
            table = shares.unflatten(0, (count, -1)).transpose(0, 1).flatten(0, 1)[: len(self.items)]
            self.item_embeddings, self.item_table_step = table.clone(), step

    def drawn_anew(self, draw: Callable[[torch.Generator], Iterable[int]], length: int) -> Sampler:
        """An order of rows that depends on the seed and the epoch alone, so that a resumed run goes on with it."""
        return EpochSampler(draw, length, int(self.args.seed), lambda: int(self.state.epoch or 0))

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        run = super()._get_output_dir(trial)  # type: ignore[misc]
        return str(Path(run) / SAVING) if self._saving else run

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        run, name = Path(self._get_output_dir(trial)), f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(run / SAVING, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self._saving = False
        self.save_progress(run / SAVING / name)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (run / SAVING / name / COMPLETE).touch()
            if (run / name).exists():
                (run / name).rename(run / SAVING / "replaced")
            (run / SAVING / name).rename(run / name)
            self._rotate(run)
            shutil.rmtree(run / SAVING)

    def save_progress(self, folder: Path) -> None:
        """Save what TRL does not; called on every process."""
        if self.args.should_save and self.item_embeddings is not None:
            step = torch.tensor(self.item_table_step)
            save_file({"states": self.item_embeddings.cpu().contiguous(), "step": step}, folder / ITEM_TABLE)

    def load_progress(self, folder: Path) -> None:
        """Restore what :meth:`save_progress` saved."""
        if (folder / ITEM_TABLE).is_file():
            saved = load_file(folder / ITEM_TABLE)
            self.item_embeddings = saved["states"].to(self.accelerator.device)
            self.item_table_step = int(saved["step"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None:
            self.load_progress(Path(checkpoint))

    @property
    def judges(self) -> list[StopOnValid]:
        """What ends the run beside its steps."""
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, StopOnValid)]

    def _load_finished(self, checkpoint: Path) -> bool:
        """Load a checkpoint whose run was over, by its steps or by a callback; Transformers would train one more."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if not (0 < self.args.max_steps <= state.global_step or any(judge.finished(state) for judge in self.judges)):
            return False
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        self.load_progress(checkpoint)
        self.callback_handler.on_train_begin(self.args, state, self.control)
        self.log({"train_runtime": 0.0, "total_flos": state.total_flos, "train_loss": 0.0})
        self.callback_handler.on_train_end(self.args, state, self.control)
        return True

    def _rotate(self, run: Path) -> None:
        """Delete the oldest checkpoints beyond the limit; a half-deleted one is not left under its name."""
        limit = self.args.save_total_limit
        for folder in _complete(run)[: -limit if limit else 0]:
            folder.rename(run / SAVING / folder.name)

    # -- stops ------------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; running out of memory, or of numbers, ends in a sentence."""
        run = Path(self.args.output_dir)
        if self.args.should_save:
            shutil.rmtree(run / SAVING, ignore_errors=True)  # what a killed run left
        checkpoint = of_main(last_checkpoint(run)) if resume_from_checkpoint is True else resume_from_checkpoint
        if checkpoint is None and resume_from_checkpoint is True:
            raise FileNotFoundError(f"no complete checkpoint in {run} to resume from; train without resuming")
        if checkpoint and self._load_finished(Path(checkpoint)):
            return None
        try:
            return super().train(str(checkpoint) if checkpoint else None, *args, **kwargs)  # type: ignore[misc]
        except Exception as error:  # tokenizers raises the bare class
            reason = _explain(error, self.state.global_step + 1, run)
            if reason is None:
                raise
            raise self.stopped(reason) from error

    def checked(self, loss: Tensor) -> Tensor:
        """Pass on a finite loss; any other stops every process before its backward pass."""
        losses = self.accelerator.gather(loss.detach().reshape(1))
        if not losses.isfinite().all():
            raise self.stopped(
                f"the loss of step {self.state.global_step + 1} is {losses[~losses.isfinite()][0].item()}; lower the"
                " learning rate, or set model.dtype=float32"
            )
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        limit = getattr(self.args, "grad_norm_limit", GRAD_NORM_LIMIT)
        # float16's scaler leaves out a step that overflows and tries a smaller scale; the log shows the norm. DeepSpeed
        # gives none, or gives it after its step.
        value = 0.0 if norm is None else float(norm)
        if self.accelerator.scaler is None and not value <= limit:
            raise self.stopped(
                f"the gradient norm of step {self.state.global_step + 1} is {value:.3g}, the limit {limit:g}; lower the"
                " learning rate, or raise grad_norm_limit if such norms are usual here"
            )
        return norm

    def stopped(self, reason: str) -> TrainingError:
        """The error that ends a run, and names what it can go on from."""
        checkpoint = last_checkpoint(Path(self.args.output_dir))
        remains = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        return TrainingError(f"training stopped: {reason}; {remains}")

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The last line's loss is of the whole run, however often it was resumed."""
        if "train_loss" in logs:
            losses = [row["loss"] for row in self.state.log_history if "loss" in row]
            logs = {**logs, "train_loss": math.fsum(losses) / max(len(losses), 1)}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None; a half-written one is never taken."""
    return next(reversed(_complete(output_dir)), None)


def _complete(output_dir: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    folders = [marker.parent for marker in output_dir.glob(f"checkpoint-*/{COMPLETE}")]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _explain(error: Exception, step: int, run: Path) -> str | None:
    """Why a step failed and what to do, for the failures that a reader can mend; None for any other."""
    text = str(error)
    if (
        isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text
    ):  # a CPU has no class for it
        return (
            f"out of memory at step {step}; use fewer users at a time and more gradient_accumulation_steps, or shorter"
            " reasonings"
        )
    if no_room(error):
        return f"{run} can't be written at step {step} ({text}); make room there and start the same run again"
    if "probability tensor contains" in text:
        return (
            f"the token probabilities of step {step} are no numbers, so nothing can be sampled; lower the learning"
            " rate, or set model.dtype=float32"
        )
    return None


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


class LogFile(TrainerCallback):
    """Write each log line as it comes; a resumed run first drops the lines after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            log_lines(state.log_history, self.path)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")


class StepLines(TrainerCallback):
    """Print a line per step: where the run is, how long a step takes, and a few figures."""

    def __init__(self, names: tuple[str, ...], every: int = 1) -> None:
        self.names, self.every, self.start = names, every, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs is None or state.global_step % self.every or not state.is_world_process_zero:
            return
        figures = "  ".join(f"{name} {logs[name]:.4g}" for name in self.names if logs.get(name) is not None)
        if figures:
            elapsed = time.monotonic() - self.start
            print(
                f"step {state.global_step}/{state.max_steps}  {elapsed:.0f} s  {figures}", flush=True, file=sys.stdout
            )
