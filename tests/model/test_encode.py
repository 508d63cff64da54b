"""Encoding: padding, order, batches and shared beginnings change nothing, in any family."""

from contextlib import nullcontext

import torch

from rrec_lib.core.private_names import attention_of
from rrec_lib.model import encode as encode_module
from rrec_lib.model.encode import batches, common_prefix, encode, last_hidden_states, pad_rows
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import packed_states
from rrec_lib.model.prompts import encode_items


def test_the_state_is_read_at_the_last_real_token(of_family, alone):
    sequences = [[5, 6, 7, 8], [9, 10]]
    ids, mask = pad_rows(sequences, 0)
    with torch.no_grad():
        hidden = of_family.model.get_decoder()(ids, attention_mask=mask).last_hidden_state
        states, expected = last_hidden_states(of_family.model, ids, mask), alone(of_family.model, sequences)
        blind = last_hidden_states(of_family.model, ids, torch.ones_like(mask))
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states, torch.stack([hidden[0, 3], hidden[1, 1]]))
    for wrong in (hidden[1, -1], hidden[1, 0], blind[1]):  # padding, one token too early, padding without its mask
        assert (states[1] - wrong).abs().max() > 1e-3


def test_encoding_keeps_the_order_in_batches_of_any_size(of_family, alone, items):
    sequences = encode_items(of_family.tokenizer, items)
    assert len(set(map(len, sequences))) > 1
    with torch.no_grad():
        expected = alone(of_family.model, sequences)
        packed = packed_states(of_family.model, sequences, of_family.device)
    torch.testing.assert_close(packed, expected, atol=1e-5, rtol=1e-5)
    for tokens in (1, 40, 10**6):
        states = encode(of_family, sequences, batch_tokens=tokens)
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    assert (encode(of_family, sequences[::-1]) - expected).abs().max() > 1e-2
    assert encode(of_family, []).shape == (0, of_family.hidden_size)


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


def test_batches_stay_within_their_tokens():
    lengths = (1, 7, 2, 2, 28, 3)
    found = batches(lengths, 12)
    assert sorted(i for batch in found for i in batch) == list(range(6))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12
    assert max(map(len, found)) > 1


def test_encoding_takes_plain_attention_and_gives_the_states_of_the_models_own(fresh, monkeypatch):
    sequences = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 7, 7]]
    model = language_model(fresh.model)
    before = attention_of(model)
    seen = []
    hook = model.get_decoder().register_forward_hook(lambda *_: seen.append(attention_of(model)))
    states = encode(fresh, sequences)
    monkeypatch.setattr(encode_module, "plain_attention", lambda policy: nullcontext())
    own = encode(fresh, sequences)
    hook.remove()
    torch.testing.assert_close(states, own, atol=1e-5, rtol=0)
    assert before != "eager"  # or nothing would be shown here
    assert seen[0] == "eager"
    assert seen[-1] == attention_of(model) == before
