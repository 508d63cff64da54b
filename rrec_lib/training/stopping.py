"""When a run ends: a budget of CPU time, and evaluations on valid without gain; its best weights are what remains."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from rrec_lib.core.paths import replacing
from rrec_lib.core.processes import of_main

BEST = "best.safetensors"
VALUE, SPENT = "valid_ndcg@20", "cpu_seconds"


class StopOnValid(TrainerCallback):
    """Evaluate every few steps and keep the best weights; stop after some evaluations without gain, or at the budget.

    The learning rate falls linearly to zero over the budget. Every evaluation is logged and followed by a checkpoint,
    and the log is all that this callback remembers, so that a resumed run goes on with what was spent and found. CPU
    time is that of all threads of this process while it trains; evaluations are left out. On a GPU the wall clock
    counts.
    """

    def __init__(
        self,
        measure: Callable[[], float],
        every: int,
        budget: float,
        patience: int = 3,
        start: float | None = None,
    ) -> None:
        """Args:
        measure: the value on valid of the weights as they are, higher is better.
        every: steps between evaluations.
        budget: CPU seconds.
        patience: evaluations without gain.
        start: the value of the weights that training starts from, where it is known; if none beats it, they remain.

        Raises:
            ValueError: unless all three numbers are positive.
        """
        if min(every, budget, patience) <= 0:
            raise ValueError(f"every, budget and patience must be positive, got {every}, {budget:g} and {patience}")
        self.measure = measure
        self.log: Callable[[dict[str, float]], None] = lambda row: None  # a trainer puts its own here
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

    def finished(self, state: Any) -> bool:
        """Whether a run with this state was over: its budget spent, or no gain for long enough."""
        self._recall(state)
        return self.spent > 0 and (self.converged or self.spent >= self.budget)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self._recall(state)
        # A run killed between a checkpoint and its best weights has them in the checkpoint, which is loaded by now.
        if state.is_world_process_zero and self.values and self.best_step == state.global_step:
            self._keep(args, model)

    def on_step_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **kwargs: Any
    ) -> None:
        for group, rate in zip(optimizer.param_groups, lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate * max(1 - self.spent / self.budget, 0.0)
        self.started = _clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.spent = of_main(self.spent + _clock() - self.started)  # all processes stop at one step
        over = self.spent >= self.budget or state.global_step >= state.max_steps
        if state.global_step % self.every and not over:
            return
        value = of_main(self.measure())
        self.values[state.global_step] = value
        due = control.should_log  # logging clears it, and the step's own line is still to come
        self.log({VALUE: value, SPENT: self.spent})
        control.should_log = due
        control.should_save, control.should_training_stop = True, self.converged or over

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.values and self.best_step == state.global_step:
            self._keep(args, model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Put the best weights back."""
        of_main(None)  # which has kept them by then
        best = load_file(Path(args.output_dir) / BEST)
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(best[name])

    def _recall(self, state: Any) -> None:
        rows = [row for row in state.log_history if VALUE in row]
        self.values = self.start | {int(row["step"]): row[VALUE] for row in rows}
        self.spent = rows[-1][SPENT] if rows else 0.0

    def _keep(self, args: Any, model: torch.nn.Module) -> None:
        weights = {name: parameter.detach().cpu().contiguous() for name, parameter in _trained(model).items()}
        with replacing(Path(args.output_dir) / BEST) as temporary:
            save_file(weights, temporary)


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _clock() -> float:
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()
