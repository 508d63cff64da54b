"""LoRA: where fresh weights stand, that they begin as the identity, and that merging leaves no trace."""

import dataclasses

import pytest
import torch

from rrec_lib.core.hardware import autocast
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy, weights_hash


def test_fresh_lora_is_the_identity(fresh, trained):
    ids = torch.arange(20)[None]
    with torch.no_grad():
        logits = fresh.model(ids).logits
        with fresh.model.disable_adapter():
            assert torch.equal(fresh.model(ids).logits, logits)
        changed = trained.model(ids).logits
    assert not torch.allclose(changed, logits)


def test_lora_follows_its_seed(smoke_profile):
    first, again, other = (load_policy(smoke_profile.model, seed) for seed in (0, 0, 1))
    assert weights_hash(first.model, True) == weights_hash(again.model, True) != weights_hash(other.model, True)


def test_lora_stands_on_the_linear_modules_of_the_last_layers(smoke_profile):
    def adapted(layers):
        model = load_policy(dataclasses.replace(smoke_profile.model, lora_layers=layers)).model
        names = {n.partition(".lora_A")[0] for n, p in model.named_parameters() if p.requires_grad and "lora_A" in n}
        depth = language_model(model).config.num_hidden_layers
        assert not any("lm_head" in name or "embed" in name for name in names)
        return {name.rpartition(".")[2] for name in names}, {name.split("layers.")[1][0] for name in names}, depth

    every, layers, depth = adapted(None)
    assert every == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(layers) == depth > 1
    assert adapted(1)[:2] == (every, {str(depth - 1)})
    with pytest.raises(ValueError, match=f"between 1 and the model's {depth} layers, got {depth + 1}"):
        load_policy(dataclasses.replace(smoke_profile.model, lora_layers=depth + 1))


def test_merged_lora_computes_the_same_and_leaves_no_trace(trained):
    ids = torch.arange(20)[None]
    base, lora = trained.base_hash, weights_hash(trained.model, True)
    whole = weights_hash(trained.model)
    with torch.no_grad():
        apart = trained.model.eval()(ids).logits
    with trained.inference():
        together = trained.model(ids).logits
        assert weights_hash(trained.model) != whole  # the weights really were replaced
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    with trained.model.disable_adapter():
        with trained.inference():
            plain = trained.model(ids).logits
        with torch.no_grad():
            assert torch.equal(trained.model(ids).logits, plain)  # disabled as before
    assert not torch.allclose(plain, apart)
    with torch.no_grad():
        assert torch.equal(trained.model(ids).logits, apart)
    assert weights_hash(trained.model) == whole
    assert (trained.base_hash, weights_hash(trained.model, True)) == (base, lora)


def test_beside_weights_of_half_precision_small_steps_are_not_rounded_away(smoke_profile):
    """As on a GPU, where frozen weights are kept in the type of the products."""
    policy = load_policy(smoke_profile.model)
    for parameter in policy.model.parameters():
        parameter.data = parameter.data.bfloat16()
    policy.compute_dtype = torch.bfloat16
    ids = torch.arange(20)[None]

    def logits():
        with policy.inference():
            return policy.model(ids).logits.float()

    fresh = logits()
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 2e-3)
    with torch.no_grad(), autocast(torch.bfloat16, policy.device):
        apart = policy.model.eval()(ids).logits.float()
    assert (apart - fresh).norm() > 0
    torch.testing.assert_close(logits(), apart)


def test_two_adapters_differ_in_their_fingerprint_while_they_are_merged(smoke_profile):
    """Tables of item states are kept by it, and may be asked for at any time."""
    found = []
    for value in (0.0, 0.1):
        policy = load_policy(smoke_profile.model)
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(parameter, value)
        with policy.inference():
            found.append(policy.fingerprint)
        assert found[-1] == policy.fingerprint
    assert found[0] != found[1]
