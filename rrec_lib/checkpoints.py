"""What both trainers share: the item table, its refreshes, and checkpoints that are whole or not taken."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from rrec_lib.policy import Policy, item_table
from rrec_lib.prompts import encode_items

COMPLETE, ITEM_TABLE = "complete", "item_table.safetensors"


class CheckpointMixin:
    """The item table of a trainer: encoded in full on a schedule, updated in place, kept in every checkpoint."""

    args: Any  # these four are the trainer's
    state: Any
    accelerator: Any
    _get_output_dir: Any

    def prepare_items(self, policy: Policy, dataset: DatasetDict, refresh_steps: int = 0) -> None:
        """Set up the table; a trainer that scores with it encodes it at its first step."""
        self.policy, self.items, self.refresh_steps = policy, list(dataset["items"]), refresh_steps
        counts = torch.bincount(torch.tensor(dataset["train"]["target"]), minlength=len(self.items))
        self.target_share = counts / counts.sum()  # (N,) of the training targets
        self.item_prompts = encode_items(policy.tokenizer, self.items)
        self.item_embeddings: Tensor | None = None  # (N, d), as of item_table_step
        self.item_table_step = -1

    def refresh_item_table(self) -> None:
        """Encode the whole table if its refresh is due."""
        step = self.state.global_step
        if self.item_embeddings is None or self.item_table_step < step - step % self.refresh_steps:
            # Only the start of a run is likely to have been encoded before, or to be again.
            table = item_table(self.policy, self.items, use_cache=step == 0)
            self.item_embeddings, self.item_table_step = table.clone(), step

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if not self.args.should_save:
            return
        if self.item_embeddings is not None:
            step = torch.tensor(self.item_table_step)
            save_file({"states": self.item_embeddings.cpu().contiguous(), "step": step}, folder / ITEM_TABLE)
        (folder / COMPLETE).touch()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None and (Path(checkpoint) / ITEM_TABLE).is_file():
            saved = load_file(Path(checkpoint) / ITEM_TABLE)
            self.item_embeddings = saved["states"].to(self.accelerator.device)
            self.item_table_step = int(saved["step"])


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None; a half-written one is never taken."""
    complete = [marker.parent for marker in output_dir.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


class StepLines(TrainerCallback):
    """Print a line per step: where the run is, how long a step takes, and a few figures."""

    def __init__(self, names: tuple[str, ...], every: int = 1) -> None:
        self.names, self.every, self.start = names, every, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs is None or state.global_step % self.every:
            return
        figures = "  ".join(f"{name} {logs[name]:.4g}" for name in self.names if logs.get(name) is not None)
        if figures:
            elapsed = time.monotonic() - self.start
            print(
                f"step {state.global_step}/{state.max_steps}  {elapsed:.0f} s  {figures}", flush=True, file=sys.stdout
            )


def log_lines(history: list[dict[str, float]], path: Path) -> None:
    """Write a trainer's log history as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
