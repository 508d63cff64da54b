"""The growing cache holds what Transformers' own holds; heads that are folded see what heads with copied keys see."""

import pytest
import torch
from transformers import Cache, DynamicCache

from rrec_lib.core.private_names import attention_of
from rrec_lib.model.cached import FOLDED, GrowingLayer, folded_heads


def step(seed, width, rows=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 2, width, 4, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("widths", [[5, 1, 1, 70, 2], [1, 64, 1], [130, 1]])
def test_a_growing_cache_holds_what_was_put_in(widths):
    ours, theirs = Cache(layer_class_to_replicate=GrowingLayer), DynamicCache()
    for seed, width in enumerate(widths):
        held = [cache.update(*step(seed, width), 0) for cache in (ours, theirs)]
        for mine, other in zip(*held, strict=True):
            assert mine.equal(other)
    assert ours.get_seq_length() == theirs.get_seq_length() == sum(widths)


CHANGES = {  # and how many rows are left
    "rows leave": (lambda cache: cache.batch_select_indices(torch.tensor([2, 0])), 2),
    "the first rows stay": (lambda cache: cache.batch_select_indices(torch.tensor([0, 1])), 2),
    "columns are dropped": (lambda cache: cache.crop(-3), 3),
}


@pytest.mark.parametrize(("change", "rows"), CHANGES.values(), ids=CHANGES)
def test_what_changes_in_between_is_kept_to(change, rows):
    ours, theirs = Cache(layer_class_to_replicate=GrowingLayer), DynamicCache()
    held = []
    for cache in (ours, theirs):
        cache.update(*step(0, 7), 0)
        change(cache)
        held.append(cache.update(*step(1, 2, rows), 0))
    for mine, other in zip(*held, strict=True):
        assert mine.equal(other)


def test_only_as_many_columns_are_copied_as_stand_in_full_rooms():
    cache = Cache(layer_class_to_replicate=GrowingLayer)
    rooms = {cache.update(*step(0, 1), 0)[0].data_ptr() for _ in range(64)}
    assert len(rooms) == 1


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_folded_heads_compute_what_sdpa_computes(family, name):
    model = family(name, initializer_range=0.5)[0].eval()
    assert model.config.num_key_value_heads < model.config.num_attention_heads, "nothing would be folded"
    model.set_attn_implementation("sdpa")
    ids = torch.randint(0, 30, (2, 9), generator=torch.Generator().manual_seed(0))
    padded = torch.ones(2, 9, dtype=torch.long)
    padded[1, :4] = 0
    own = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    own[1, :, 5:, 2] = False
    for mask in (None, padded, own):
        with torch.no_grad():
            theirs = model(ids, attention_mask=mask).logits
            with folded_heads(model):
                assert attention_of(model) == FOLDED
                ours = model(ids, attention_mask=mask).logits
        torch.testing.assert_close(ours, theirs)
    assert attention_of(model) == "sdpa"


def test_another_attention_is_left_alone(family):
    model = family("gemma2")[0]
    model.set_attn_implementation("eager")
    with folded_heads(model):
        assert attention_of(model) == "eager"
