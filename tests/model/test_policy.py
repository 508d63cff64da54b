"""The policy: fresh and merged LoRA, encoding, the item table and what its cache is tied to."""

import dataclasses
from contextlib import nullcontext
from unittest import mock

import pytest
import torch

from rrec_lib.evaluation import ranking
from rrec_lib.model import encode as encode_module
from rrec_lib.model import item_table as table_module
from rrec_lib.model import prompts
from rrec_lib.model.encode import common_prefix, encode, last_hidden_states, pad_rows
from rrec_lib.model.item_table import item_table
from rrec_lib.model.load import load_language_model
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.model.precision import float32_stream
from rrec_lib.model.prompts import encode_items


@pytest.fixture
def fresh(smoke_profile):
    return load_policy(smoke_profile.model)


@pytest.fixture
def trained(smoke_profile):
    policy = load_policy(smoke_profile.model)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


@pytest.fixture(scope="module")
def items(smoke_dataset):
    return list(smoke_dataset["items"])[:12]


def test_fresh_lora_is_the_identity(fresh, trained):
    ids = torch.arange(20)[None]
    with torch.no_grad():
        logits = fresh.model(ids).logits
        with fresh.model.disable_adapter():
            assert torch.equal(fresh.model(ids).logits, logits)
        changed = trained.model(ids).logits
    assert not torch.allclose(changed, logits)


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
    with trained.model.disable_adapter(), trained.inference():
        plain = trained.model(ids).logits
    assert not torch.allclose(plain, apart)
    with torch.no_grad():
        assert torch.equal(trained.model(ids).logits, apart)
    assert weights_hash(trained.model) == whole
    assert (trained.base_hash, weights_hash(trained.model, True)) == (base, lora)


@pytest.mark.parametrize("training", [True, False])
def test_inference_restores_everything_even_after_an_error(trained, training):
    trained.model.train(training)
    whole = weights_hash(trained.model)

    def interrupted():
        with trained.inference():
            assert not trained.model.training
            assert not torch.is_grad_enabled()
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        interrupted()
    assert trained.model.training == training
    assert torch.is_grad_enabled()
    assert weights_hash(trained.model) == whole


def test_a_hash_follows_the_weights_and_not_their_type(fresh):
    def changed(policy):
        parameter = next(policy.model.parameters())
        parameter.data = parameter.data.bfloat16().float()
        first = weights_hash(policy.model)
        parameter.data = parameter.data.bfloat16()  # the same values in half the memory
        assert weights_hash(policy.model) == first
        parameter.data = parameter.data.clone()
        parameter.data[0, 0] += 1
        return first, weights_hash(policy.model)

    before, after = changed(fresh)
    assert before != after


def test_padding_on_the_right_by_hand():
    ids, mask = pad_rows([[5, 6, 7], [8]], 0, torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_the_state_is_read_at_the_last_real_token(fresh):
    ids, mask = pad_rows([[5, 6, 7, 8], [9, 10]], 0, torch.device("cpu"))
    with fresh.inference():
        hidden = language_model(fresh.model).get_decoder()(ids, attention_mask=mask).last_hidden_state
        states = last_hidden_states(fresh.model, ids, mask)
    torch.testing.assert_close(states, torch.stack([hidden[0, 3], hidden[1, 1]]))
    assert (states[1] - hidden[1, -1]).abs().max() > 1e-3  # the last column is padding
    assert (states[1] - hidden[1, 0]).abs().max() > 1e-3  # one token too early


def test_a_common_beginning_leaves_each_sequence_a_token():
    for sequences, expected in (
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2, 3], [1, 2, 3, 4]], 2),
        ([[1, 2], [1, 2]], 1),
        ([[1], [1, 2]], 0),
        ([[1, 2], [3, 2]], 0),
        ([[1, 9, 9], [1, 2, 3], [1, 2, 9]], 1),
        ([[1, 2, 3]], 0),
    ):
        assert common_prefix(sequences) == expected


def test_encoding_keeps_the_order_in_batches_of_any_size(fresh, items):
    sequences = encode_items(fresh.tokenizer, items)
    assert len(set(map(len, sequences))) > 1
    with fresh.inference():
        alone = torch.cat([last_hidden_states(fresh.model, *pad_rows([s], 0, fresh.device)) for s in sequences])
    for tokens in (1, 40, 10**6):
        torch.testing.assert_close(encode(fresh, sequences, batch_tokens=tokens), alone, atol=1e-5, rtol=1e-5)
    assert (encode(fresh, sequences[::-1]) - alone).abs().max() > 1e-2


def test_batches_stay_within_their_tokens():
    sequences = [[0] * length for length in (3, 9, 4, 4, 30, 5)]
    batches = encode_module.batches([len(sequence) - 2 for sequence in sequences], 12)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(sequences[i]) - 2 for i in batch) <= 12
    assert max(map(len, batches)) > 1


def test_rec_head_equals_a_brute_force_dot_product(fresh, items):
    table = item_table(fresh, items, use_cache=False)
    users = encode(fresh, [[5, 6, 7], [8, 9]])
    scores = ranking.score_items(users, table, temperature=0.02)
    for b, user in enumerate(users.tolist()):
        for v, item in enumerate(table.tolist()):
            product = sum(x * y for x, y in zip(user, item, strict=True))
            lengths = sum(x * x for x in user) ** 0.5 * sum(y * y for y in item) ** 0.5
            assert scores[b, v].item() == pytest.approx(product / lengths / 0.02, abs=1e-3)


def test_the_item_table_is_cached_by_weights_prompts_and_catalogue(fresh, trained, items, tmp_path, monkeypatch):
    # Both policies are loaded by now: in a new cache folder the packaged model would be converted again.
    monkeypatch.setenv("RREC_CACHE", str(tmp_path))
    encoded, original = [], encode
    monkeypatch.setattr(table_module, "encode", lambda *a, **k: encoded.append(1) or original(*a, **k))

    def misses(*arguments, **options):
        before = len(encoded)
        item_table(*arguments, **options)
        return len(encoded) - before

    table = item_table(fresh, items)
    assert len(encoded) == 1
    assert torch.equal(item_table(fresh, items), table)
    assert misses(fresh, items) == 0
    assert misses(fresh, items, use_cache=False) == 1
    assert misses(fresh, items[1:]) == 1
    assert misses(fresh, items[::-1]) == 1  # row order is part of the catalogue
    assert misses(trained, items) == 1
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "ITEM_INSTRUCTION", "Describe this film.")
        assert misses(fresh, items) == 1
    assert misses(fresh, items) == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_lora_follows_its_seed(smoke_profile):
    first, again, other = (load_policy(smoke_profile.model, seed) for seed in (0, 0, 1))
    assert weights_hash(first.model, True) == weights_hash(again.model, True) != weights_hash(other.model, True)


def test_lora_stands_on_the_linear_modules_of_the_last_layers(smoke_profile):
    def adapted(layers):
        model = load_policy(dataclasses.replace(smoke_profile.model, lora_layers=layers)).model
        names = {n.partition(".lora_A")[0] for n, p in model.named_parameters() if p.requires_grad and "lora_A" in n}
        depth = language_model(model).config.num_hidden_layers
        assert not any("lm_head" in name or "embed" in name for name in names)
        return (
            {name.rpartition(".")[2] for name in names},
            {name.split("layers.")[1].split(".")[0] for name in names},
            depth,
        )

    every, layers, depth = adapted(None)
    assert every == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(layers) == depth > 1
    assert adapted(1)[:2] == (every, {str(depth - 1)})
    with pytest.raises(ValueError, match=f"between 1 and the model's {depth} layers, got {depth + 1}"):
        load_policy(dataclasses.replace(smoke_profile.model, lora_layers=depth + 1))


def test_encoding_takes_plain_attention_and_gives_the_states_of_the_model_s_own(fresh):
    policy = fresh
    sequences = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 7, 7]]
    model = language_model(policy.model)
    before = model.config._attn_implementation
    seen = []
    hook = model.get_decoder().register_forward_hook(lambda *_: seen.append(model.config._attn_implementation))
    states = encode(policy, sequences)
    with mock.patch.object(encode_module, "plain_attention", return_value=nullcontext()):
        own = encode(policy, sequences)
    hook.remove()
    torch.testing.assert_close(states, own, atol=1e-5, rtol=0)
    assert before != "eager"  # or nothing would be shown here
    assert seen[0] == "eager"
    assert seen[-1] == model.config._attn_implementation == before
