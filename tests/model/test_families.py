"""The policy on tiny random models of each family: padding, shared prefixes, packing and rollouts change nothing."""

import pytest
import torch
from transformers import AttentionInterface, Gemma2Config

from rrec_lib.model.encode import encode, last_hidden_states, pad_rows
from rrec_lib.model.item_encoder import ItemEncoder, frozen_layers
from rrec_lib.model.load import keep_soft_capping, load_tokenizer
from rrec_lib.model.packing import pack, packed_forward, packed_states
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import MARKER, encode_items, encode_users, item_messages, marker_ids, prompts_hash, render
from rrec_lib.plan import memory
from rrec_lib.recpo.rollouts import sample_groups

ITEMS = [
    {"title": "Alien", "year": 1979, "genres": ["Horror", "Sci-Fi"]},
    {"title": "Fargo", "year": 1996, "genres": ["Comedy", "Crime", "Drama", "Thriller"]},
    {"title": "Babe", "year": 1995, "genres": ["Children"]},
]
EXAMPLES = [
    {"history": [0], "history_ratings": [4.0], "history_timestamps": [0], "target_timestamp": 90_000},
    {
        "history": [2, 1, 0],
        "history_ratings": [1.0, 5.0, 3.5],
        "history_timestamps": [0, 10, 99],
        "target_timestamp": 10**7,
    },
]


@pytest.fixture(params=["qwen2", "llama", "gemma2"])
def policy(request, family):
    model, tokenizer = family(request.param)
    return Policy(model, tokenizer, torch.float32, "none")


def alone(policy, sequence):
    ids = torch.tensor([list(sequence)])
    return last_hidden_states(policy.model, ids, torch.ones_like(ids))[0]


def test_the_instruction_reaches_every_family(policy):
    text = render(policy.tokenizer, item_messages(ITEMS[0]))
    assert "Summarise" in text
    assert "Alien (1979)" in text
    assert ("[system]" in text) == (policy.model.config.model_type != "gemma2")


def test_padding_changes_nothing(policy):
    sequences = encode_users(policy.tokenizer, EXAMPLES, ITEMS)
    assert len(set(map(len, sequences))) == 2
    with torch.no_grad():
        together = last_hidden_states(policy.model, *pad_rows(sequences, 0, policy.device))
        for row, sequence in zip(together, sequences, strict=True):
            torch.testing.assert_close(row, alone(policy, sequence), atol=1e-5, rtol=1e-5)
        wrong = last_hidden_states(
            policy.model,
            pad_rows(sequences, 0, policy.device)[0],
            torch.ones(2, 999).long()[:, : max(map(len, sequences))],
        )
    assert (wrong[0] - alone(policy, sequences[0])).abs().max() > 1e-3  # without the mask padding would count


def test_a_shared_prefix_and_packing_change_nothing(policy):
    sequences = encode_items(policy.tokenizer, ITEMS)
    with torch.no_grad():
        expected = torch.stack([alone(policy, sequence) for sequence in sequences])
    torch.testing.assert_close(encode(policy, sequences, batch_tokens=40), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed_states(policy.model, sequences, policy.device), expected, atol=1e-5, rtol=1e-5)
    assert encode(policy, []).shape == (0, policy.hidden_size)


@pytest.mark.parametrize("trained", ["last layer", "every layer", "everything"])
def test_items_whose_frozen_layers_are_kept_have_the_same_states_and_gradients(policy, trained):
    model, sequences = policy.model, encode_items(policy.tokenizer, ITEMS)
    layers = model.get_decoder().layers
    if trained != "everything":
        model.requires_grad_(False)
        for layer in layers[{"last layer": 1, "every layer": 0}[trained] :]:
            layer.requires_grad_(True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    encoder, weights = ItemEncoder(model, sequences), torch.randn(3, policy.hidden_size)
    assert encoder.frozen == (1 if trained == "last layer" else 0)

    def gradients(states):
        return torch.autograd.grad((states * weights).sum(), parameters, allow_unused=True)

    expected = packed_states(model, sequences, policy.device)
    calls = []
    handle = layers[0].register_forward_hook(lambda *_: calls.append(1))
    for order in ([2, 0], [0, 1, 2]):  # the second call finds two of three items
        states = encoder(model, order, policy.device)
        torch.testing.assert_close(states, expected[order], atol=1e-5, rtol=1e-5)
    again = encoder(model, [0, 1, 2], policy.device)
    handle.remove()
    assert len(calls) == (2 if encoder.frozen else 3)  # what is kept is not computed again
    for found, whole in zip(gradients(again), gradients(expected), strict=True):
        assert (found is None) == (whole is None)
        if whole is not None:
            torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)
    with torch.no_grad():  # a layer below changes, which it must not: the states show that it was not asked
        next(layers[0].parameters()).mul_(2)
    changed = packed_states(model, sequences, policy.device)
    assert not torch.allclose(changed, expected, atol=1e-3)
    kept = encoder(model, [0, 1, 2], policy.device)
    torch.testing.assert_close(kept, expected if encoder.frozen else changed, atol=1e-5, rtol=1e-5)


def test_the_frozen_layers_are_counted_from_below(policy):
    decoder = policy.model.get_decoder()
    policy.model.requires_grad_(False)
    assert frozen_layers(policy.model) == 0  # nothing is trained, so nothing is known about what will be
    decoder.layers[1].requires_grad_(True)
    assert frozen_layers(policy.model) == 1
    decoder.get_input_embeddings().requires_grad_(True)
    assert frozen_layers(policy.model) == 0


def test_packed_groups_equal_separate_rows_with_gradients(policy):
    prompts = encode_users(policy.tokenizer, EXAMPLES, ITEMS)
    marker = marker_ids(policy.tokenizer)
    completions = [[11, 12, 13, *marker], [21, *marker], [31, 32, *marker], marker]
    groups = pack(prompts, completions, [4, 1, 2, 0], 0, policy.device)
    packed = packed_forward(policy.model, groups, temperature=1.5)
    for row, completion in enumerate(completions):
        prompt = prompts[row // 2]
        ids = torch.tensor([prompt + completion])
        logits = policy.model(ids).logits[0].float() / 1.5
        predicted = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        expected = predicted.gather(-1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(packed.logprobs[row, : len(completion)], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(packed.states[row], alone(policy, prompt + completion), atol=1e-5, rtol=1e-5)
    assert groups.loss_mask.flatten(0, 1).sum(1).tolist() == [4, 1, 2, 0]
    (packed.logprobs.sum() + packed.states.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.model.get_decoder().layers.parameters())


def test_rollouts_end_at_the_marker_with_its_state(policy):
    prompts = encode_users(policy.tokenizer, EXAMPLES, ITEMS)

    def sample(seed, temperature=1.0):
        torch.manual_seed(seed)
        with policy.inference():
            return sample_groups(policy.model, policy.tokenizer, prompts, 3, 6, temperature, top_k=50)

    rollouts = sample(1)
    assert len(rollouts.closed) == 6
    for row, closed in enumerate(rollouts.closed):
        assert policy.tokenizer.decode(closed.ids).endswith(MARKER)
        assert closed.sampled <= 6
        with torch.no_grad():
            expected = alone(policy, prompts[row // 3] + closed.ids)
        torch.testing.assert_close(rollouts.states[row], expected, atol=1e-4, rtol=1e-4)
    again, other = sample(1), sample(2)
    assert [c.ids for c in again.closed] == [c.ids for c in rollouts.closed]
    assert [c.ids for c in other.closed] != [c.ids for c in rollouts.closed]
    greedy = sample(3, temperature=0.0).closed
    assert greedy[0] == greedy[1] == greedy[2]


def test_the_prompts_hash_follows_the_template(policy):
    assert prompts_hash(policy.tokenizer) != prompts_hash(load_tokenizer("smollm2-135m-instruct"))


def capped_by_hand(module, query, key, value, attention_mask, scaling, **_):
    """Attention with Gemma 2's soft-capping, written down from its paper."""
    heads = module.num_key_value_groups
    scores = query @ key.repeat_interleave(heads, 1).transpose(2, 3) * scaling
    limit = module.config.attn_logit_softcapping
    weights = (limit * (scores / limit).tanh() + attention_mask).softmax(-1)
    return (weights @ value.repeat_interleave(heads, 1)).transpose(1, 2).contiguous(), weights


def test_soft_capping_is_never_dropped(family):
    prompts = [[5, 6, 7, 8, 9], [3, 4]]
    groups = pack(prompts, [[11, 12, 13], [21, 22], [31, 32], [33]], [3, 2, 2, 1], 0, torch.device("cpu"))
    AttentionInterface.register("capped_by_hand", capped_by_hand)

    def logprobs(model, attention=None):
        model.get_decoder().layers.apply(large_queries)
        if attention:
            model.set_attn_implementation(attention)
        with torch.no_grad():
            return packed_forward(model, groups).logprobs

    def large_queries(module):
        if hasattr(module, "q_proj"):
            module.q_proj.weight.data.mul_(1000)

    expected = logprobs(family("gemma2", attn_logit_softcapping=0.5)[0], "capped_by_hand")
    model = keep_soft_capping(family("gemma2", attn_logit_softcapping=0.5)[0])
    assert model.config._attn_implementation == "eager"
    torch.testing.assert_close(logprobs(model), expected, atol=1e-5, rtol=1e-5)
    dropped = family("gemma2", attn_logit_softcapping=None)[0]
    assert (logprobs(dropped) - expected).abs().max() > 0.05  # what SDPA made of it
    for name in ("qwen2", "llama"):
        own = family(name)[0]
        before = own.config._attn_implementation
        assert keep_soft_capping(own).config._attn_implementation == before


def test_a_model_that_keeps_another_attention_is_refused(family, monkeypatch):
    model = family("gemma2")[0]
    model.config._attn_implementation = "sdpa"
    monkeypatch.setattr(model, "set_attn_implementation", lambda name: None)
    with pytest.raises(ValueError, match="gemma2 needs eager attention for its soft-capping, got sdpa"):
        keep_soft_capping(model)


def test_a_plan_measures_the_attention_that_is_trained(smoke_profile):
    config = memory.narrow(Gemma2Config())
    assert memory.build(config, smoke_profile.model, "meta").config._attn_implementation == "eager"
