"""The trie: its arrays by hand, what may follow what, twins, and another model's probabilities of its prefixes."""

import random

import pytest
import torch
from baselines.generative.small_catalogue import (  # tests/ is on the path
    END,
    TITLES,
    TWINS,
    WHOLE,
    allowed_behind,
    guide,
)

from rrec_lib.baselines.generative.trie import build_trie, prefix_logprobs


def test_the_arrays_by_hand():
    trie = build_trie([[4], [1, 3], [1, 2], [1, 3]])
    assert trie.tokens.tolist() == [-1, 1, 2, 3, 4]
    assert trie.parents.tolist() == [0, 0, 1, 1, 0]
    assert trie.depths.tolist() == [0, 1, 2, 2, 1]
    assert trie.stops.tolist() == [5, 4, 3, 4, 5]
    assert trie.starts.tolist() == [0, 2, 4, 4, 4, 4]
    assert trie.children.tolist() == [1, 4, 2, 3]
    assert trie.leaves.tolist() == [4, 3, 2, 3]
    assert (len(trie), trie.n_items, trie.max_depth, trie.items_at(3)) == (5, 4, 2, [1, 3])


@pytest.mark.parametrize("seed", range(5))
def test_what_may_follow_is_what_does_in_some_item(seed):
    draw = random.Random(seed)
    titles = [[draw.randrange(3, 8) for _ in range(draw.randrange(1, 6))] for _ in range(60)]
    trie, whole = build_trie(titles, END), [(*title, END) for title in titles]
    for sequence in whole:
        for length in range(len(sequence) + 1):
            prefix = sequence[:length]
            assert trie.allowed(prefix) == allowed_behind(prefix, whole)
            node = trie.find(prefix)
            inside = (trie.leaves >= node) & (trie.leaves < trie.stops[node])  # below a node is a range of numbers
            assert inside.tolist() == [other[:length] == prefix for other in whole]
    assert trie.find([9]) == -1
    assert trie.allowed([9]) == []


def test_every_item_ends_at_its_own_leaf_and_twins_at_one(trie):
    assert trie.leaves.tolist() == [trie.find(sequence) for sequence in WHOLE]
    assert trie.items_at(int(trie.leaves[1])) == list(TWINS)
    assert len(trie.leaves.unique()) == len(WHOLE) - 1
    assert (trie.degrees[trie.leaves] == 0).all()


def test_forced_tokens_lead_to_the_next_choice_or_the_end(trie):
    assert trie.choices[trie.find([10])] == trie.find([10, 11, 12])
    assert trie.choices[trie.find([16])] == trie.find([16, 17, 18, 19, END])
    assert trie.choices[trie.find([5, 6])] == trie.find([5, 6])


def test_path_sums_add_up_what_lies_on_the_way(trie):
    values = torch.arange(2.0 * len(trie)).view(2, -1)
    sums = trie.path_sums(values)
    for node in range(len(trie)):
        way = [n for n in range(len(trie)) if n <= node < trie.stops[n]]
        assert sums[:, node].tolist() == values[:, way].sum(1).tolist()


@pytest.mark.parametrize(
    ("titles", "end", "message"),
    [
        ([], 2, "at least one sequence"),
        ([[3], []], 2, "item 1 has the tokens"),
        ([[3, 2, 4]], 2, "none of them 2"),
        ([[3, 4, 5], [6], [3, 4]], None, r"\[3, 4\] is the beginning of \[3, 4, 5\]"),
    ],
)
def test_sequences_that_make_no_trie_are_refused(titles, end, message):
    with pytest.raises(ValueError, match=message):
        build_trie(titles, end)


@pytest.mark.parametrize("pool", ["sum", "max"])
def test_another_models_probability_of_each_token_is_that_of_the_items_behind_it(trie, item_logprobs, pool):
    steps = prefix_logprobs(trie, item_logprobs, pool)
    for row in range(len(steps)):
        for sequence in WHOLE:
            for length in range(1, len(sequence) + 1):
                expected = guide(sequence[:length], item_logprobs[row].exp(), pool)
                torch.testing.assert_close(steps[row, trie.find(sequence[:length])], expected, atol=1e-12, rtol=0)


def test_over_an_item_they_add_up_to_its_own_and_its_twins(trie, item_logprobs):
    sums = trie.path_sums(prefix_logprobs(trie, item_logprobs))[:, trie.leaves]
    expected = item_logprobs.clone()
    expected[:, TWINS] = item_logprobs[:, TWINS].logsumexp(1, keepdim=True)
    torch.testing.assert_close(sums, expected, atol=1e-12, rtol=0)
    by_maximum = trie.path_sums(prefix_logprobs(trie, item_logprobs, "max"))[:, trie.leaves]
    assert (by_maximum - expected).abs().max() > 0.1


def test_an_item_that_another_model_rules_out_leaves_no_nan(trie):
    logprobs = torch.full((1, len(TITLES)), -torch.inf)
    logprobs[0, 0] = 0.0
    assert prefix_logprobs(trie, logprobs).isfinite().all()


def test_an_unknown_pool_or_another_catalogue_is_refused(trie, item_logprobs):
    for logprobs, pool in ((item_logprobs, "mean"), (item_logprobs[:, 1:], "sum")):
        with pytest.raises(ValueError, match="need pool sum or max"):
            prefix_logprobs(trie, logprobs, pool)
