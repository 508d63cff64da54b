"""The item encoder: states and gradients as without it, what it computes once, and what it refuses."""

import pytest
import torch

from rrec_lib.model.item_encoder import ItemEncoder
from rrec_lib.model.packing import packed_states
from rrec_lib.model.prompts import encode_items


def train_only(model, modules):
    model.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)


@pytest.mark.parametrize(("trained", "frozen"), [("last layer", 1), ("every layer", 0), ("everything", 0)])
def test_states_and_gradients_are_those_of_whole_passes(of_family, items, trained, frozen):
    model, sequences = of_family.model, encode_items(of_family.tokenizer, items[:3])
    layers = model.get_decoder().layers
    if trained != "everything":
        train_only(model, layers[frozen:])
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    encoder, weights = ItemEncoder(model, sequences), torch.randn(3, of_family.hidden_size)
    assert encoder.frozen == frozen

    def gradients(states):
        return torch.autograd.grad((states * weights).sum(), parameters, allow_unused=True)

    expected = packed_states(model, sequences, of_family.device)
    calls = []
    handle = layers[0].register_forward_hook(lambda *_: calls.append(1))
    for order in ([2, 0], [0, 1, 2]):  # the second call finds two of three items
        states = encoder(model, order, of_family.device)
        torch.testing.assert_close(states, expected[order], atol=1e-5, rtol=1e-5)
    again = encoder(model, [0, 1, 2], of_family.device)
    handle.remove()
    assert len(calls) == (2 if frozen else 3)  # what is kept is not computed again
    for found, whole in zip(gradients(again), gradients(expected), strict=True):
        assert (found is None) == (whole is None)
        if whole is not None:
            torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("thawed", ["first layer", "embedding"])
def test_a_frozen_layer_that_becomes_trainable_is_refused(of_family, items, thawed):
    model, sequences = of_family.model, encode_items(of_family.tokenizer, items[:3])
    decoder = model.get_decoder()
    train_only(model, decoder.layers[1:])
    encoder = ItemEncoder(model, sequences)
    encoder(model, [0, 1], of_family.device)
    changed = decoder.layers[0].mlp if thawed == "first layer" else decoder.get_input_embeddings()
    changed.requires_grad_(True)
    with pytest.raises(ValueError, match=r"1 frozen layers.* has become trainable; make a new ItemEncoder"):
        encoder(model, [0, 1], of_family.device)
    changed.requires_grad_(False)
    decoder.layers[1].requires_grad_(False)  # as while adapters are disabled: nothing that is kept can change
    encoder(model, [0, 1], of_family.device)
