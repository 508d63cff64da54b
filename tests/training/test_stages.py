"""The stages as calls: that a run can be stopped and resumed, and what is saved."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rrec_lib.core.profiles import load_profile
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.training.checkpoints import last_checkpoint
from rrec_lib.training.recpo_trainer import RecPOTrainer
from rrec_lib.training.stages import load_stage, make_adapters, train_recpo, warm_up


def trained_hash(policy: Policy) -> str:
    return weights_hash(policy.model, only_trainable=True)


def losses(trainer: RecPOTrainer) -> list[dict[str, float]]:
    timed = {"step_time", "rollout_seconds", "sampled_tokens_per_second", "cpu_seconds"}
    return [{k: v for k, v in row.items() if k not in timed} for row in trainer.state.log_history if row.get("reward")]


def warmed(profile, dataset, folder, **overrides):
    policy = load_policy(profile.model)
    return warm_up(policy, dataset, profile, folder, save_steps=3, **overrides)


def test_a_resumed_run_ends_with_the_same_weights_and_log(smoke_profile, smoke_dataset, tmp_path):
    whole = load_policy(smoke_profile.model)
    first = train_recpo(whole, smoke_dataset, smoke_profile, tmp_path / "whole", callbacks=[])
    half = smoke_profile.training.steps // 2
    stopped = load_policy(smoke_profile.model)
    train_recpo(stopped, smoke_dataset, smoke_profile, tmp_path / "parts", callbacks=[], max_steps=half)
    assert trained_hash(stopped) != trained_hash(whole)  # half a run is not the whole one
    again = load_policy(smoke_profile.model)
    torch.manual_seed(99)  # the state of the random generator at the start must not matter
    second = train_recpo(again, smoke_dataset, smoke_profile, tmp_path / "parts", callbacks=[])
    assert losses(second) == losses(first)
    assert trained_hash(again) == trained_hash(whole)


@pytest.mark.parametrize("stage", [train_recpo, warm_up])
def test_layers_are_never_run_again_in_the_backward_pass(smoke_dataset, tmp_path, stage):
    """Asked of the model: which setting says so depends on the version of Transformers, and TRL's default is on."""
    profile = load_profile("smoke", {"model.lora_layers": 1})  # the item encoder feeds this layer itself
    policy = load_policy(profile.model)

    def checkpointed():
        return sum(getattr(module, "gradient_checkpointing", False) for module in policy.model.modules())

    def train(**settings):
        return stage(policy, smoke_dataset, profile, tmp_path, max_steps=1, **settings)

    assert train().state.global_step == 1
    assert checkpointed() == 0
    with pytest.raises(ValueError, match=r"activation checkpointing .* leave it off"):
        train(gradient_checkpointing=True)
    language_model(policy.model).gradient_checkpointing_enable()
    assert checkpointed() > 0
    with pytest.raises(ValueError, match=r"activation checkpointing .* leave it off"):
        train()


@pytest.mark.parametrize("softmax", ["batch", "catalogue"])
def test_a_resumed_warm_up_ends_with_the_same_weights(smoke_profile, smoke_dataset, tmp_path, softmax):
    training = dataclasses.replace(smoke_profile.training, item_softmax=softmax)
    warmup = dataclasses.replace(smoke_profile.warmup, steps=6)
    profile = dataclasses.replace(smoke_profile, warmup=warmup, training=training)
    whole = warmed(profile, smoke_dataset, tmp_path / "a")
    shutil.copytree(tmp_path / "a" / "checkpoint-3", tmp_path / "b" / "checkpoint-3")
    shutil.copy(tmp_path / "a" / "settings.json", tmp_path / "b")
    again = warmed(profile, smoke_dataset, tmp_path / "b")
    assert trained_hash(again.policy) == trained_hash(whole.policy)
    assert last_checkpoint(tmp_path / "b") == tmp_path / "b" / "checkpoint-6"


def test_make_adapters_saves_both_stages_and_they_load(smoke_profile, smoke_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RREC_PROGRESS", raising=False)
    make_adapters(smoke_profile, smoke_dataset, tmp_path)
    folders = {stage: str(tmp_path / f"{stage}-adapter") for stage in ("warmup", "recpo")}
    profile = dataclasses.replace(smoke_profile, adapters=folders)
    hashes = {stage: trained_hash(load_stage(profile, smoke_dataset, stage)) for stage in ("base", "warmup", "recpo")}
    assert len(set(hashes.values())) == 3
    assert (Path(folders["recpo"]) / "log.jsonl").read_text().count("\n") == profile.training.steps
    with pytest.raises(ValueError, match="unknown stage"):
        load_stage(profile, smoke_dataset, "final")
    assert "note:" not in capsys.readouterr().err
    longer = dataclasses.replace(profile, data=dataclasses.replace(profile.data, window=9))
    load_stage(longer, smoke_dataset, "recpo")
    assert "--set data.window=3 reads it as it was trained" in capsys.readouterr().err


def test_recpo_alone_starts_from_the_folders_own_warm_up(smoke_profile, smoke_dataset, tmp_path):
    make_adapters(smoke_profile, smoke_dataset, tmp_path / "whole")
    for stage in ("warmup", "recpo"):
        make_adapters(smoke_profile, smoke_dataset, tmp_path / "parts", stages=(stage,))
    one, other = (
        load_file(tmp_path / name / "recpo-adapter" / "adapter_model.safetensors") for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    make_adapters(smoke_profile, smoke_dataset, tmp_path / "parts")  # goes on from both
    make_adapters(smoke_profile, smoke_dataset, tmp_path / "parts", stages=("recpo",), restart=True)
    again = load_file(tmp_path / "parts" / "recpo-adapter" / "adapter_model.safetensors")
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_too_few_rows_for_a_step_are_refused_before_the_warm_up(smoke_dataset, tmp_path):
    rows = smoke_dataset["train"].num_rows
    profile = load_profile("smoke", {"training.users_per_step": rows + 1})
    with pytest.raises(ValueError, match=rf"users_per_step is {rows + 1}, but there are {rows} training rows"):
        make_adapters(profile, smoke_dataset, tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="too few for a single step"):
        train_recpo(load_policy(profile.model), smoke_dataset, profile, tmp_path / "recpo")
