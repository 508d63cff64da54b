"""What follows a run from outside: its log file, a line per step, and valid's judgement of when to stop."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rrec_lib.core.hardware import spent
from rrec_lib.core.paths import replacing
from rrec_lib.core.processes import of_main
from rrec_lib.core.reading import read_tensors
from rrec_lib.core.results import log_lines

BEST, STEPS = "best.safetensors", "log.jsonl"
VALUE, SPENT, TARGETS = "valid_ndcg@20", "cpu_seconds", "targets"
SAVED = "cpu_seconds_saved"  # what rows that were read back took when another step or run computed them


class LogFile(TrainerCallback):
    """Write each log line as it comes to ``log.jsonl``; a resumed run first drops the lines after its checkpoint."""

    written = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            log_lines(state.log_history, _file(args, STEPS))
            self.written = len(state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with _file(args, STEPS).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in state.log_history[self.written :])
            self.written = len(state.log_history)


class StepLines(TrainerCallback):
    """Print a line per step: where the run is, how long a step takes, and a few figures."""

    def __init__(self, names: tuple[str, ...], every: int = 1) -> None:
        self.names, self.every, self.start = names, every, time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or state.global_step % self.every or not state.is_world_process_zero:
            return
        figures = "  ".join(f"{name} {logs[name]:.4g}" for name in self.names if logs.get(name) is not None)
        if figures:
            elapsed = time.monotonic() - self.start
            print(
                f"step {state.global_step}/{state.max_steps}  {elapsed:.0f} s  {figures}", flush=True, file=sys.stdout
            )


class Spent(TrainerCallback):
    """CPU seconds of a run's steps and the targets in them, however often it was resumed.

    Evaluations are left out. On a GPU the wall clock counts.
    """

    seconds = started = saved = 0.0
    targets = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        last = next((row for row in reversed(state.log_history) if TARGETS in row), {SPENT: 0.0, TARGETS: 0})
        self.seconds, self.targets, self.saved = float(last[SPENT]), int(last[TARGETS]), float(last.get(SAVED, 0.0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.started = spent()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.seconds += spent() - self.started


class StopOnValid(TrainerCallback):
    """Evaluate every few steps and keep the best weights; stop after some evaluations without gain, or at the budget.

    Behind its first rise the learning rate falls linearly to zero over the budget, whatever the schedule. Every
    evaluation is logged and followed by a checkpoint, and no other step is: the log is all that this callback
    remembers, so that a resumed run goes on with what was spent and found. CPU time is that of all threads of this
    process while it trains; evaluations are left out. On a GPU the wall clock counts.
    """

    PATIENCE = 3

    def __init__(
        self,
        measure: Callable[[], float],
        every: int,
        budget: float,
        patience: int = PATIENCE,
        start: float | None = None,
        name: str = VALUE,
    ) -> None:
        """Args:
        measure: the value on valid of the weights as they are, higher is better.
        every: steps between evaluations.
        budget: CPU seconds.
        patience: evaluations without gain.
        start: the value of the weights that training starts from, where it is known; if none beats it, they remain.
        name: of the value in the log.

        Raises:
            ValueError: unless all three numbers are positive.
        """
        if min(every, budget, patience) <= 0:
            raise ValueError(f"every, budget and patience must be positive, got {every}, {budget:g} and {patience}")
        self.measure, self.name = measure, name
        self.every, self.budget, self.patience = every, budget, patience
        self.spent = self.started = 0.0
        self.start = {} if start is None else {0: start}
        self.values: dict[int, float] = {}  # step -> value

    @property
    def best_step(self) -> int:
        """The first step with the highest value."""
        return max(self.values, key=lambda step: (self.values[step], -step))

    @property
    def converged(self) -> bool:
        """Whether the last evaluations, as many as the patience, brought no gain."""
        return sum(step > self.best_step for step in self.values) >= self.patience

    def finished(self, state: TrainerState) -> bool:
        """Whether a run with this state was over: its budget spent, or no gain for long enough."""
        self._recall(state)
        return self.spent > 0 and (self.converged or self.spent >= self.budget)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._recall(state)
        # A run killed between a checkpoint and its best weights has them in the checkpoint, which is loaded by now.
        self.on_save(args, state, control, **kwargs)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        warmup = args.get_warmup_steps(state.max_steps)
        rise = min(state.global_step / warmup, 1.0) if warmup else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rise * max(1 - self.spent / self.budget, 0.0)
        self.started = spent()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.spent = of_main(self.spent + spent() - self.started)  # all processes stop at one step
        over = self.spent >= self.budget or state.global_step >= state.max_steps
        control.should_save = over or state.global_step % self.every == 0
        if control.should_save:
            self.values[state.global_step] = value = of_main(self.measure())
            row: dict[str, Any] = {self.name: value, SPENT: self.spent, "epoch": state.epoch, "step": state.global_step}
            state.log_history.append(row)  # in front of the step's own line
            control.should_training_stop = self.converged or over

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and self.values and self.best_step == state.global_step:
            weights = {name: parameter.detach().cpu().contiguous() for name, parameter in _trained(model)}
            with replacing(_file(args, BEST)) as temporary:
                save_file(weights, temporary)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the best weights back."""
        of_main(None)  # which has kept them by then
        best = read_tensors(_file(args, BEST))
        with torch.no_grad():
            for name, parameter in _trained(model):
                parameter.copy_(best[name])

    def _recall(self, state: TrainerState) -> None:
        rows = [row for row in state.log_history if self.name in row]
        self.values = self.start | {int(row["step"]): row[self.name] for row in rows}
        self.spent = rows[-1][SPENT] if rows else 0.0


def judge_of(trainer: Trainer) -> StopOnValid | None:
    """What ends a trainer's run beside its steps, if anything does."""
    return next((one for one in trainer.callback_handler.callbacks if isinstance(one, StopOnValid)), None)


def _file(args: TrainingArguments, name: str) -> Path:
    return Path(str(args.output_dir)) / name


def _trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
