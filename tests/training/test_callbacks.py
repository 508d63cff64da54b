"""Runs that end by valid or by their budget: which weights remain, what a resumed run remembers."""

import shutil
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training import callbacks
from rrec_lib.training.callbacks import SPENT, VALUE, StopOnValid
from rrec_lib.training.checkpoints import last_checkpoint
from rrec_lib.training.stages import warm_up


def run(profile, dataset, folder, values, *, budget=float("inf"), every=2, max_steps=40, start=None):
    """A warm-up whose valid values are given; returns the trainer, the callback, and each evaluation's weights."""
    policy, seen = load_policy(profile.model), []
    found = iter(values)

    def measure():
        seen.append(weights_hash(policy.model, only_trainable=True))
        return next(found)

    stop = StopOnValid(measure, every=every, budget=budget, start=start)
    trainer = warm_up(policy, dataset, profile, folder, stop=stop, max_steps=max_steps)
    return trainer, stop, seen


def test_a_run_without_gain_stops_and_keeps_its_best_weights(smoke_profile, smoke_dataset, tmp_path):
    trainer, stop, seen = run(smoke_profile, smoke_dataset, tmp_path, [0.1, 0.3, 0.2, 0.3, 0.25, 0.9])
    assert trainer.state.global_step == 10  # three evaluations after the best, at step 4; a tie is no gain
    assert stop.best_step == 4
    assert stop.converged
    assert weights_hash(trainer.policy.model, only_trainable=True) == seen[1] != seen[-1]
    logged = [row for row in trainer.state.log_history if VALUE in row]
    assert [(row["step"], row[VALUE]) for row in logged] == [(2, 0.1), (4, 0.3), (6, 0.2), (8, 0.3), (10, 0.25)]
    assert sorted(row[SPENT] for row in logged) == [row[SPENT] for row in logged]
    assert [row["step"] for row in trainer.state.log_history if "loss" in row] == list(range(1, 11))


def test_a_budget_ends_a_run_and_takes_the_learning_rate_down(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(callbacks, "spent", lambda: next(ticks) / 2)  # asked twice in it, a step takes one second
    rates = []
    original = StopOnValid.on_step_begin

    def watched(self, args, state, control, optimizer=None, **kwargs):
        original(self, args, state, control, optimizer=optimizer, **kwargs)
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(StopOnValid, "on_step_begin", watched)
    trainer, stop, _ = run(smoke_profile, smoke_dataset, tmp_path, [0.1, 0.2, 0.3, 0.4], budget=5)
    assert trainer.state.global_step == 5  # an evaluation at the end, although 5 is no multiple of 2
    assert stop.values == {2: 0.1, 4: 0.2, 5: 0.3}
    full = rates[1] / 0.8  # the first step is the scheduler's own warm-up
    assert [rate / full for rate in rates[1:]] == pytest.approx([0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("lost", ["nothing", "the best weights"])
def test_a_killed_run_goes_on_with_what_it_found(smoke_profile, smoke_dataset, tmp_path, lost):
    values = [0.1, 0.3, 0.2, 0.25, 0.15]
    whole, _, _ = run(smoke_profile, smoke_dataset, tmp_path / "whole", values)
    part, stop, _ = run(smoke_profile, smoke_dataset, tmp_path / "part", values, max_steps=4)
    assert stop.best_step == 4
    if lost == "the best weights":  # killed behind the checkpoint, before they were written
        (tmp_path / "part" / callbacks.BEST).unlink()
    again, stop, seen = run(smoke_profile, smoke_dataset, tmp_path / "part", values[2:])
    assert len(seen) == 3
    assert stop.best_step == 4
    final = [weights_hash(trainer.policy.model, only_trainable=True) for trainer in (whole, again, part)]
    assert final[0] == final[1]
    assert stop.values == {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.25, 10: 0.15}


def test_a_finished_run_is_loaded_with_its_best_weights(smoke_profile, smoke_dataset, tmp_path):
    first, _, seen = run(smoke_profile, smoke_dataset, tmp_path, [0.1, 0.3, 0.2, 0.25, 0.15])
    again, _, measured = run(smoke_profile, smoke_dataset, tmp_path, [])
    assert measured == []
    assert again.state.global_step == first.state.global_step == 10
    assert weights_hash(again.policy.model, only_trainable=True) == seen[1]
    shutil.rmtree(str(last_checkpoint(tmp_path)))
    with pytest.raises(StopIteration):  # what is not over goes on, and asks for the next value
        run(smoke_profile, smoke_dataset, tmp_path, [])


def test_what_training_made_worse_ends_as_it_began(smoke_profile, smoke_dataset, tmp_path):
    fresh = weights_hash(load_policy(smoke_profile.model).model, only_trainable=True)
    trainer, stop, _ = run(smoke_profile, smoke_dataset, tmp_path, [0.1, 0.3, 0.2], start=0.3)
    assert trainer.state.global_step == 6  # three evaluations without gain
    assert (stop.best_step, stop.values[0]) == (0, 0.3)
    assert weights_hash(trainer.policy.model, only_trainable=True) == fresh
    again, stop, _ = run(smoke_profile, smoke_dataset, tmp_path, [], start=0.3)
    assert stop.best_step == 0
    assert weights_hash(again.policy.model, only_trainable=True) == fresh
    _, stop, seen = run(smoke_profile, smoke_dataset, tmp_path / "better", [0.4, 0.3, 0.3, 0.3], start=0.3)
    assert stop.best_step == 2
    assert len(seen) == 4


def test_settings_that_end_nothing_are_refused():
    sound: dict[str, Any] = {"every": 1, "budget": 1.0}
    for settings in ({"every": 0}, {"budget": 0}, {"patience": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            StopOnValid(lambda: 0.0, **{**sound, **settings})


def test_an_evaluation_is_no_part_of_what_was_spent(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callbacks, "spent", lambda: now[0])

    def measure():
        now[0] += 100
        return 0.5

    stop, args = StopOnValid(measure, every=1, budget=10), TrainingArguments("unused", use_cpu=True)
    optimizer = torch.optim.SGD([{"params": torch.nn.Parameter(torch.zeros(1)), "initial_lr": 1.0}], lr=1.0)
    state = TrainerState(max_steps=9, is_world_process_zero=True)
    for step in (1, 2):
        state.global_step = step
        stop.on_step_begin(args, state, TrainerControl(), optimizer=optimizer)
        now[0] += 3
        stop.on_step_end(args, state, TrainerControl())
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1 - 3 * (step - 1) / 10)  # though no scheduler stepped
    assert [row[SPENT] for row in state.log_history] == [3, 6]


def test_the_judge_alone_is_enough_for_any_trainer(tmp_path):
    """A plain trainer with other checkpoints and another schedule than the library's stages have."""
    model: Any = torch.nn.Linear(1, 1)
    model.forward = lambda x: {"loss": (torch.nn.Linear.forward(model, x) - 1).square().mean()}
    values, rates = iter([0.1, 0.3, 0.2, 0.2, 0.2]), []
    stop = StopOnValid(lambda: rates.append(model.weight.item()) or next(values), every=2, budget=1e9)
    args = TrainingArguments(str(tmp_path), max_steps=99, save_steps=3, use_cpu=True, report_to="none", logging_steps=1)
    rows = [{"x": torch.ones(1)} for _ in range(8)]
    trainer = Trainer(model, args, train_dataset=rows, callbacks=[stop])
    trainer.train()
    assert trainer.state.global_step == 10
    assert model.weight.item() == rates[1] != rates[-1]
    saved = sorted(int(folder.name.rpartition("-")[2]) for folder in tmp_path.glob("checkpoint-*"))
    assert saved == [2, 4, 6, 8, 10]
