"""Half precision: one hash for one model, a residual stream in float32, and states that are checked."""

import dataclasses

import pytest
import torch

from rrec_lib.core import hardware
from rrec_lib.model.encode import encode
from rrec_lib.model.load import load_language_model
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.model.precision import cast_weights, float32_stream


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_model_has_one_hash_whatever_it_is_cast_to(saved_family, pretended_gpu, stored):
    profile = saved_family("qwen2", hardware.DTYPES[stored])
    here = load_policy(profile.model)
    assert language_model(here.model).dtype == torch.float32
    fingerprints = {here.fingerprint}
    for kind in ("bfloat16", "float16"):
        with pretended_gpu(kind):
            there = load_policy(dataclasses.replace(profile.model, dtype=kind))
        assert there.base_hash == here.base_hash
        frozen = {p.dtype for p in there.model.parameters() if not p.requires_grad}
        assert frozen == {hardware.DTYPES[kind]}
        assert {p.dtype for p in there.model.parameters() if p.requires_grad} == {torch.float32}
        cast = weights_hash(there.model.unload())  # type: ignore[operator]
        assert (cast == here.base_hash) == (stored == kind)  # hashed after the cast, it was another model
        fingerprints.add(there.fingerprint)
        half = dataclasses.replace(profile.model, dtype=kind)
        fingerprints.add(load_policy(half).fingerprint)  # on a CPU: the same products of unrounded weights
    assert len(fingerprints) == 5  # so many item tables


def test_only_weights_are_cast(family):
    model = family("gemma2")[0]
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any("inv_freq" in name for name in kept)
    cast_weights(model, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert all(torch.equal(buffer, kept[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize(("stream", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_bfloat16_weights_leave_the_residual_stream_in_float32(stream, dtype):
    """As on a GPU, where frozen weights are in the compute type; without the hook the stream is rounded too."""
    torch.manual_seed(0)
    model = load_language_model("tiny-random")[0].bfloat16()
    if stream:
        model = float32_stream(model)
    seen = []
    for layer in model.get_decoder().layers:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        states = model.get_decoder()(torch.arange(20)[None]).last_hidden_state
    assert {*seen, states.dtype} == {dtype}


def test_later_passes_wait_for_nothing_and_states_are_still_checked(fresh):
    decoder = language_model(fresh.model).get_decoder()
    assert len(decoder._forward_hooks) == 1
    encode(fresh, [[5, 6, 7]])
    assert not decoder._forward_hooks
    decoder.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite in float32, so its base weights or its adapter"):
        encode(fresh, [[5, 6, 7]])
