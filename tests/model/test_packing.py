"""Packing: the block mask by hand, both its forms, and what would go wrong without it."""

import pytest
import torch

from rrec_lib.model import packing
from rrec_lib.model.packing import pack, packed_forward, packed_states
from rrec_lib.model.ragged import ragged_groups

CPU = torch.device("cpu")
PROMPTS = [[3, 4, 5, 6], [7, 8]]
COMPLETIONS = [[11, 12, 13], [21, 22], [31], [41, 42]]


@pytest.fixture
def tiny(family):
    def make(name, attention, **settings):
        model = family(name, initializer_range=0.5, **settings)[0]
        model.set_attn_implementation(attention)
        return model

    return make


@pytest.fixture(params=["qwen2 sdpa", "qwen2 eager", "llama sdpa", "gemma2 eager"])
def model(request, tiny):
    name, attention = request.param.split()
    return tiny(name, attention, **({"attn_logit_softcapping": 0.3} if name == "gemma2" else {}))


@pytest.fixture
def separate(alone):
    """States of the same sequences, each in a row of its own."""
    return lambda model: alone(model, [PROMPTS[row // 2] + c for row, c in enumerate(COMPLETIONS)])


@pytest.fixture
def groups():
    return pack(PROMPTS, COMPLETIONS, [3, 1, 0, 2], 0, CPU)


def test_pack_by_hand(groups):
    assert groups.prompt_ids.tolist() == [[3, 4, 5, 6], [0, 0, 7, 8]]
    assert groups.prompt_mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert groups.completion_ids.tolist() == [[[11, 12, 13], [21, 22, 0]], [[31, 0, 0], [41, 42, 0]]]
    assert groups.completion_mask.tolist() == [[[1, 1, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 0]]]
    assert groups.loss_mask.tolist() == [[[1, 1, 1], [1, 0, 0]], [[0, 0, 0], [1, 1, 0]]]


def test_positions_start_again_behind_the_prompt(tiny, groups):
    inputs = packing._packed_inputs(tiny("qwen2", "sdpa"), groups)
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 4, 5, 6], [0, 0, 0, 1, 2, 3, 4, 2, 3, 4]]


MASK = [  # one prompt token that is padding, one that is real, two blocks of two; the second block ends in padding
    [0, 1, 0, 0, 0, 0],  # padding looks at the prompt, so that its softmax is not empty
    [0, 1, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 1, 0, 0, 0, 0],
]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_block_mask_by_hand(tiny, attention):
    groups = pack([[9], [9, 9]], [[5, 6], [7], [5, 6], [7]], [2, 1, 2, 1], 0, CPU)
    mask = packing._packed_inputs(tiny("qwen2", attention), groups)["attention_mask"][:1]
    assert mask.shape == (1, 1, 6, 6)
    if attention == "sdpa":
        assert mask.dtype == torch.bool
    else:  # added to the scores: nothing where it may look, the lowest number where it may not
        assert mask.dtype == torch.float32
        assert set(mask.unique().tolist()) == {0.0, torch.finfo(torch.float32).min}
        mask = mask == 0
    assert mask[0, 0].int().tolist() == MASK


@pytest.mark.parametrize("forward", [packed_forward, ragged_groups])
def test_states_logprobs_and_entropies_are_those_of_separate_rows(model, groups, separate, forward):
    with torch.no_grad():
        packed = forward(model, groups, temperature=1.5)
        torch.testing.assert_close(packed.states, separate(model), atol=1e-5, rtol=1e-5)
        for row, completion in enumerate(COMPLETIONS):
            prompt = PROMPTS[row // 2]
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / 1.5
            expected = logits.softmax(-1)
            chosen = expected[torch.arange(len(completion)), completion].log()
            entropy = -(expected * expected.log()).sum(-1)
            torch.testing.assert_close(packed.logprobs[row, : len(completion)], chosen, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(packed.entropies[row, : len(completion)], entropy, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 128])
def test_gradients_of_token_logprobs_are_those_of_log_softmax(chunk, monkeypatch):
    monkeypatch.setattr(packing.TokenLogprobs, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 9, generator=generator, requires_grad=True)
    rows, ids = torch.tensor([0, 2, 0, 3, 0]), torch.tensor([5, 8, 1, 0, 5])  # row 0 predicts three, row 1 nothing
    weights = torch.randn(5, generator=generator)
    logprobs, entropies = packing.TokenLogprobs.apply(logits, rows, ids, 1.5)
    assert not entropies.requires_grad
    (gradient,) = torch.autograd.grad((weights * logprobs).sum(), logits)
    expected = (logits[rows] / 1.5).log_softmax(-1)[torch.arange(5), ids]
    (by_autograd,) = torch.autograd.grad((weights * expected).sum(), logits)
    torch.testing.assert_close(logprobs, expected)
    torch.testing.assert_close(gradient, by_autograd)
    assert (gradient[1] == 0).all()
    assert gradient[0].abs().max() > 1e-2
    same, none = packing.TokenLogprobs.apply(logits, rows, ids, 1.5, False)
    assert torch.equal(same, logprobs)
    assert none.shape == (0,)
    assert torch.equal(torch.autograd.grad((weights * same).sum(), logits)[0], gradient)


def test_gradients_of_ragged_and_packed_groups_are_alike(model, groups):
    parameters = list(model.get_decoder().layers.parameters())
    found = []
    for forward in (packed_forward, ragged_groups):
        output, generator = forward(model, groups, 1.5), torch.Generator().manual_seed(0)
        parts = [(one * torch.randn(one.shape, generator=generator)).sum() for one in (output.logprobs, output.states)]
        found.append(torch.autograd.grad(parts[0] + parts[1], parameters))
        assert torch.equal(output.logprobs != 0, groups.completion_mask.flatten(0, 1) == 1)
    for packed, ragged in zip(*found, strict=True):
        torch.testing.assert_close(ragged, packed, atol=1e-4, rtol=1e-4)


def test_a_prompt_may_be_one_token(model):
    groups = pack([[5], [7, 8, 9]], [[6, 7], [8], [9], [4, 5]], [2, 1, 1, 2], 0, CPU)
    with torch.no_grad():
        packed, ragged = (forward(model, groups) for forward in (packed_forward, ragged_groups))
    torch.testing.assert_close(ragged.states, packed.states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ragged.logprobs, packed.logprobs, atol=1e-4, rtol=1e-4)


def without_blocks(inputs):
    mask = inputs["attention_mask"]
    causal = torch.ones(mask.shape[-2:], dtype=torch.bool).tril().expand_as(mask)
    return {"attention_mask": causal if mask.dtype == torch.bool else mask.min() * (~causal)}


def without_restarted_positions(inputs):
    return {"position_ids": torch.arange(inputs["input_ids"].shape[1]).expand_as(inputs["input_ids"])}


@pytest.mark.parametrize("mistake", [without_blocks, without_restarted_positions])
def test_a_second_block_would_read_its_neighbour_or_stand_too_far_away(model, groups, separate, monkeypatch, mistake):
    original = packing._packed_inputs
    monkeypatch.setattr(packing, "_packed_inputs", lambda *a: (inputs := original(*a)) | mistake(inputs))
    with torch.no_grad():
        difference = (packed_forward(model, groups).states - separate(model)).abs().amax(1)
    assert difference[0] < 1e-5  # the first block of a whole prompt has no neighbour before it
    assert difference[1] > 1e-3


def test_softcapping_counts_in_the_gemma_test(tiny, separate):
    with torch.no_grad():
        capped, plain = (separate(tiny("gemma2", "eager", attn_logit_softcapping=limit)) for limit in (0.3, None))
    assert (capped - plain).abs().max() > 1e-3


@pytest.mark.parametrize("forward", [packed_forward, ragged_groups])
def test_half_precision_leaves_no_nan(model, groups, forward):
    with torch.autocast("cpu", torch.bfloat16):
        packed = forward(model, groups)
    assert packed.states.dtype == torch.float32
    (packed.logprobs.sum() + packed.states.sum()).backward()
    gradients = [p.grad for p in model.get_decoder().layers.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_packed_states_fill_up_the_last_row_and_keep_the_order(model, alone):
    sequences = [[3, 4, 11], [3, 4, 12, 13], [3, 4, 14], [3, 4, 15, 16, 17], [3, 4, 18]]
    with torch.no_grad():
        expected = alone(model, sequences)
        for per_row in (1, 2, 5, 8):
            states = packed_states(model, sequences, CPU, per_row)
            torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
        unlike = [[3, 4], [5, 6, 7]]  # nothing in common, nothing to share
        torch.testing.assert_close(packed_states(model, unlike, CPU), alone(model, unlike), atol=1e-5, rtol=1e-5)


def test_rows_beyond_a_sliding_window_are_refused(tiny, groups):
    longest = len(PROMPTS[0]) + len(COMPLETIONS[0])
    packed_forward(tiny("gemma2", "eager", sliding_window=longest), groups)
    with pytest.raises(ValueError, match=f"of {longest} tokens are longer than the model's sliding window of 5"):
        packed_forward(tiny("gemma2", "eager", sliding_window=5), groups)
    packed_forward(tiny("qwen2", "sdpa", sliding_window=5, use_sliding_window=False), groups)
