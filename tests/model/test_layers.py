"""A pass through a part of the layers and another through the rest give what one through all gives."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from rrec_lib.model.layers import hidden_behind, only_layers, replaced_input

TYPES = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]


@pytest.fixture
def mixed():
    """A model of which every other layer has a window, and positions of its own."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, layer_types=TYPES, sliding_window=4, initializer_range=0.5,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_layers_of_different_types_keep_theirs(mixed, depth):
    decoder, ids = mixed.get_decoder(), torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(1))
    run = lambda: decoder(input_ids=ids, use_cache=False).last_hidden_state  # noqa: E731
    with torch.no_grad():
        whole = run()
        hidden = hidden_behind(mixed, depth, run)
        with only_layers(mixed, slice(depth, None)) as layers, replaced_input(layers, hidden):
            parts = run()
    torch.testing.assert_close(parts, whole)
    assert decoder.config.layer_types == TYPES
    assert len(decoder.layers) == 4
