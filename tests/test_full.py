"""All weights trained instead of LoRA: a step, its checkpoint, and what is saved."""

import dataclasses

import pytest
import torch

from rrec_lib.model.item_table import item_table
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training.stages import load_stage, make_adapters, train_recpo


@pytest.fixture(scope="module", params=[0, None])
def full_profile(smoke_profile, request):
    model = dataclasses.replace(smoke_profile.model, lora_rank=request.param)
    warmup = dataclasses.replace(smoke_profile.warmup, steps=0)
    return dataclasses.replace(smoke_profile, model=model, warmup=warmup)


def test_a_step_trains_all_weights_and_resumes(full_profile, smoke_dataset, tmp_path):
    def train(**settings):
        policy = load_policy(full_profile.model)
        train_recpo(policy, smoke_dataset, full_profile, tmp_path, callbacks=[], save_steps=1, **settings)
        return policy

    start, once = load_policy(full_profile.model), train(max_steps=1)
    pairs = zip(start.model.named_parameters(), once.model.named_parameters(), strict=True)
    assert [name for (name, old), (_, new) in pairs if torch.equal(old, new)] == []
    assert once.base_hash == start.base_hash == weights_hash(start.model)
    resumed = weights_hash(train(max_steps=2).model)
    for folder in tmp_path.glob("checkpoint-*"):
        folder.rename(folder.with_name(f"put-away-{folder.name}"))
    assert weights_hash(train(max_steps=2).model) == resumed != weights_hash(once.model)


def test_what_is_saved_is_loaded(full_profile, smoke_dataset, smoke_profile, tmp_path):
    make_adapters(full_profile, smoke_dataset, tmp_path, stages=("recpo",))
    adapters = {"recpo": str(tmp_path / "recpo-adapter")}
    base = load_stage(full_profile, smoke_dataset, "base")
    trained = load_stage(dataclasses.replace(full_profile, adapters=adapters), smoke_dataset, "recpo")
    tables = [item_table(policy, smoke_dataset["items"]) for policy in (base, trained)]
    assert not torch.equal(*tables)  # the table's cache knows one from the other
    with pytest.raises(ValueError, match="rank 0 and alpha 0, the profile 4"):
        load_stage(dataclasses.replace(smoke_profile, adapters=adapters), smoke_dataset, "recpo")


def test_layers_without_a_rank_are_refused(full_profile):
    with pytest.raises(ValueError, match="lora_layers is 1 without a lora_rank"):
        load_policy(dataclasses.replace(full_profile.model, lora_layers=1))
