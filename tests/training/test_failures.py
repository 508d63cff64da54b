"""What a run cannot go on from stops it, in a sentence that names what remains; the weights stay as they were."""

import json
import re
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from rrec_lib.core.console import TrainingError
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.checkpoints import last_checkpoint
from rrec_lib.training.stages import train_recpo

LOGGED = {
    "reward", "ranking_reward", "similarity_reward", "reward_std_in_group", "equal_reward_fraction",
    "equal_ranking_fraction", "advantage_abs",
    "entropy", "reasoning_tokens", "unfinished_fraction", "trimmed_fraction", "token_clip_fraction",
    "item_clip_fraction", "token_loss", "item_loss", "item_accuracy", "item_table_age", "sampled_tokens_per_second",
    "loss", "grad_norm", "learning_rate",
}  # fmt: skip


class Weights(TrainerCallback):
    """Remember the weights after each step."""

    def __init__(self):
        self.hashes = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.hashes.append(weights_hash(model, only_trainable=True))


def fails_at(monkeypatch, step, change):
    """Let the loss function fail once ``step`` losses went well."""
    original, calls = trainer_module.recpo_loss, []

    def recpo_loss(*args, **kwargs):
        calls.append(1)
        loss = original(*args, **kwargs)
        return loss if len(calls) < step else change(loss)

    monkeypatch.setattr(trainer_module, "recpo_loss", recpo_loss)


def scaled(factor):
    def change(loss):
        values = {**vars(loss), "token": loss.token * factor, "item": loss.item * factor}
        return type(loss)(**values)

    return change


def out_of_memory(loss):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def cpu_out_of_memory(loss):
    return torch.empty(2**60)  # what the CPU's allocator really says


STOPS = [
    (scaled(float("nan")), "the loss of step 4 is nan; .* or set model.dtype=float32"),
    (scaled(float("inf")), "the loss of step 4 is (inf|-inf|nan)"),
    (scaled(1e9), "the gradient norm of step 4 is .*, the limit 10000"),
    (out_of_memory, "out of memory at step 4"),
    (cpu_out_of_memory, "out of memory at step 4"),
]


@pytest.mark.parametrize(("change", "sentence"), STOPS)
def test_a_stop_names_the_last_good_checkpoint(smoke_profile, smoke_dataset, tmp_path, monkeypatch, change, sentence):
    fails_at(monkeypatch, 4, change)
    policy, weights = load_policy(smoke_profile.model), Weights()
    settings: dict[str, Any] = {"callbacks": [weights], "save_steps": 1, "save_total_limit": 1, "max_steps": 5}
    with pytest.raises(TrainingError, match=sentence) as stop:
        train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, **settings)
    assert f"the last good checkpoint is {tmp_path / 'checkpoint-3'}" in str(stop.value)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert len(weights.hashes) == 3
    assert weights_hash(policy.model, only_trainable=True) == weights.hashes[-1]  # step 4 was not taken
    monkeypatch.undo()  # and the run can go on from it
    trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, **settings)
    assert trainer.state.global_step == 5


def test_a_stop_before_any_checkpoint_says_so(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    fails_at(monkeypatch, 1, scaled(float("nan")))
    with pytest.raises(TrainingError, match=re.escape("there is no checkpoint yet")):
        train_recpo(load_policy(smoke_profile.model), smoke_dataset, smoke_profile, tmp_path, callbacks=[])


def test_weights_that_are_no_numbers_stop_the_sampling_in_a_sentence(smoke_profile, smoke_dataset, tmp_path):
    with pytest.raises(TrainingError, match=r"the token probabilities of step 2 are no numbers.*checkpoint-1"):
        train_recpo(
            load_policy(smoke_profile.model), smoke_dataset, smoke_profile, tmp_path, callbacks=[], save_steps=1,
            learning_rate=1e30,
        )  # fmt: skip


def test_a_full_disk_stops_the_run_and_names_its_folder(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    def full(*arguments, **options):  # as tokenizers says it
        raise Exception("No space left on device (os error 28)")

    policy = load_policy(smoke_profile.model)
    monkeypatch.setattr(policy.tokenizer, "save_pretrained", full)
    with pytest.raises(TrainingError, match=rf"{re.escape(str(tmp_path))} can't be written .*No space left.*make room"):
        train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], save_steps=1)
    assert last_checkpoint(tmp_path) is None


def test_other_errors_pass_as_they_are(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    def broken(loss):
        raise RuntimeError("shapes do not fit")

    fails_at(monkeypatch, 1, broken)
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        train_recpo(load_policy(smoke_profile.model), smoke_dataset, smoke_profile, tmp_path, callbacks=[])


def test_every_figure_reaches_callbacks_report_targets_and_the_file(
    smoke_profile, smoke_dataset, tmp_path, monkeypatch
):
    reported, seen = [], []

    class Target(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            reported.append(dict(logs))

    class Listener(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Target)
    policy = load_policy(smoke_profile.model)
    trainer = train_recpo(
        policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[Listener()], report_to=["recorder"]
    )
    written = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(reported) == len(seen) == len(written) == smoke_profile.training.steps + 1
    for row in (*reported[:-1], *seen[:-1]):
        assert row.keys() >= LOGGED
        assert 0 < row["grad_norm"] < smoke_profile.training.grad_norm_limit
    assert [json.loads(line) for line in written] == trainer.state.log_history
