"""Exact scores and beams against every sequence in a row of its own, in each family."""

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from baselines.generative.small_catalogue import PROMPTS, TITLES, TWINS, WHOLE, brute_force  # tests/ is on the path

from rrec_lib.baselines.generative import walk
from rrec_lib.baselines.generative.beam import Beams, beam_search
from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.trie import build_trie, prefix_logprobs
from rrec_lib.baselines.generative.walk import Rule
from rrec_lib.model.precision import float32_head

# Norms compute in float32 whatever the weights' type, so a model's numbers agree to its rounding.
CLOSE: dict[str, Any] = {"atol": 2e-6, "rtol": 1e-6}
RULES = [
    Rule(),
    Rule(constrained=False),
    Rule(constrained=False, skip_forced=True),
    Rule(constrained=False, length_power=1.0),
    Rule(guidance=0.4),
    Rule(constrained=False, guidance=0.4, length_power=0.5),
]
LEAVES = len(set(WHOLE))


def mixed_in(rule, trie, item_logprobs):
    return None if rule.guidance == 1 else prefix_logprobs(trie, item_logprobs)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_exact_scores_are_those_of_every_sequence_by_itself_and_all_beams_rank_alike(model, trie, rule, item_logprobs):
    extra = mixed_in(rule, trie, item_logprobs)
    expected = brute_force(model, rule, None if extra is None else item_logprobs)
    exact = catalogue_scores(model, trie, PROMPTS, rule, extra)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact, expected, **CLOSE)
    assert exact.std(1).min() > 0.1  # they differ from item to item
    beams = beam_search(model, trie, PROMPTS, LEAVES, rule, extra)
    torch.testing.assert_close(beams.item_scores(trie), exact, **CLOSE)
    by_exact = trie.leaves[exact.argsort(dim=1, descending=True, stable=True)]
    for found, order in zip(beams.leaves.tolist(), by_exact.tolist(), strict=True):
        assert found == list(dict.fromkeys(order))  # the twin stands at the same leaf


def test_without_the_mask_nodes_would_see_each_other(family, trie, monkeypatch):
    model = family("qwen2", initializer_range=0.5)[0].double()
    expected = brute_force(model, Rule(constrained=False))
    original = walk.mask_form
    monkeypatch.setattr(walk, "mask_form", lambda model, visible: original(model, torch.ones_like(visible)))
    wrong = catalogue_scores(model, trie, PROMPTS, Rule(constrained=False))
    assert (wrong - expected).abs().max() > 0.1


def test_probabilities_over_the_catalogue_sum_to_one(model, trie):
    scores = catalogue_scores(model, trie, PROMPTS)
    once = [row for row in range(len(TITLES)) if row != TWINS[1]]
    torch.testing.assert_close(scores[:, once].exp().sum(1), torch.ones(len(PROMPTS)).double(), atol=1e-12, rtol=0)
    assert (catalogue_scores(model, trie, PROMPTS, Rule(constrained=False))[:, once].exp().sum(1) < 0.5).all()


@pytest.mark.parametrize("rule", RULES[:2], ids=str)
def test_neither_padding_nor_company_nor_the_size_of_a_pass_changes_a_score(model, trie, rule):
    together = catalogue_scores(model, trie, PROMPTS, rule)
    for tokens in (1, 3, 7, 12, 1000):
        torch.testing.assert_close(catalogue_scores(model, trie, PROMPTS, rule, None, tokens), together, **CLOSE)
    beams = beam_search(model, trie, PROMPTS, 3, rule)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(catalogue_scores(model, trie, [prompt], rule)[0], together[row], **CLOSE)
        alone = beam_search(model, trie, [prompt], 3, rule)
        assert alone.leaves[0].tolist() == beams.leaves[row].tolist()
        torch.testing.assert_close(alone.scores[0], beams.scores[row], **CLOSE)


def test_a_prompt_may_be_given_as_embeddings(model, trie):
    embedded = [model.get_input_embeddings()(torch.tensor(prompt)).detach() for prompt in PROMPTS]
    torch.testing.assert_close(catalogue_scores(model, trie, embedded), catalogue_scores(model, trie, PROMPTS), **CLOSE)


def test_twins_share_a_score_and_what_no_beam_reached_ties_behind(model, trie):
    exact = catalogue_scores(model, trie, PROMPTS)
    assert torch.equal(exact[:, TWINS[0]], exact[:, TWINS[1]])
    beams = beam_search(model, trie, PROMPTS, 2)
    scores = beams.item_scores(trie)
    assert torch.equal(scores[:, TWINS[0]], scores[:, TWINS[1]])
    for row, found in zip(scores, beams.leaves, strict=True):
        reached = torch.isin(trie.leaves, found)
        assert row[~reached].unique().tolist() == [float(row[reached].min()) - 1]


def test_places_for_which_there_is_no_sequence_stay_empty(model, trie):
    beams = beam_search(model, trie, PROMPTS, LEAVES + 5)
    assert (beams.leaves[:, LEAVES:] == -1).all()
    assert beams.scores[:, LEAVES:].isneginf().all()
    assert (beams.leaves[:, :LEAVES] >= 0).all()
    assert beams.item_scores(trie).isfinite().all()


@pytest.mark.parametrize("rule", RULES[:4], ids=str)
def test_a_thousand_generations_are_valid_unique_and_worth_what_they_are_worth(family, rule):
    draw = random.Random(0)
    titles = [[draw.randrange(10, 16) for _ in range(draw.randrange(1, 7))] for _ in range(300)]
    trie, known = build_trie(titles, 2), {(*title, 2) for title in titles}
    prompts = [[draw.randrange(100, 1000) for _ in range(draw.randrange(1, 9))] for _ in range(100)]
    model = family("qwen2", initializer_range=0.5)[0]
    model.resize_token_embeddings(1000)
    beams = beam_search(model, trie, prompts, 10, rule)
    exact = catalogue_scores(model, trie, prompts, rule)
    of_leaf = dict(zip(trie.leaves.tolist(), range(len(titles)), strict=True))
    assert beams.leaves.shape == (100, 10)
    for row, (leaves, scores) in enumerate(zip(beams.leaves.tolist(), beams.scores, strict=True)):
        assert len(set(leaves)) == 10
        assert {spelled(trie, leaf) for leaf in leaves} <= known
        torch.testing.assert_close(scores, exact[row, [of_leaf[leaf] for leaf in leaves]], atol=1e-4, rtol=1e-4)
        assert all(better >= worse for better, worse in pairwise(scores.tolist()))
    best = trie.leaves[exact.argmax(1)]
    found = [(beam_search(model, trie, prompts, width, rule).leaves[:, 0] == best).float().mean() for width in (1, 10)]
    assert found[0] < found[1]  # a narrow search misses some of the best


def spelled(trie, node):
    tokens = []
    while node:
        tokens.append(int(trie.tokens[node]))
        node = int(trie.parents[node])
    return tuple(reversed(tokens))


def test_codes_of_one_length_are_found_as_transformers_finds_them(model):
    """There all beams end at once, so both searches are the same. What the model samples by leaves ours alone."""
    draw = random.Random(1)
    codes = [list(code) for code in {tuple(draw.randrange(20, 26) for _ in range(3)) for _ in range(80)}]
    trie, prompts = build_trie(codes), [[60, 61, 62], [70, 71, 72]]
    model.float()
    theirs = model.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(2, 3, dtype=torch.long),
        prefix_allowed_tokens_fn=lambda _, ids: trie.allowed(ids[3:].tolist()),
        num_beams=4, num_return_sequences=4, max_new_tokens=3, length_penalty=0.0, do_sample=False, top_k=None,
        eos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    rule = Rule(constrained=False)
    ours = beam_search(model, trie, prompts, 4, rule)
    written = [spelled(trie, leaf) for leaf in ours.leaves.flatten().tolist()]
    assert written == [tuple(row[3:]) for row in theirs.sequences.tolist()]
    torch.testing.assert_close(ours.scores.flatten(), theirs.sequences_scores, atol=1e-4, rtol=1e-4)
    model.generation_config.update(top_k=1, temperature=0.1, do_sample=True, repetition_penalty=3.0)
    assert torch.equal(beam_search(model, trie, prompts, 4, rule).scores, ours.scores)


def test_what_does_not_fit_is_refused(family, trie):
    model = family("qwen2")[0]
    for prompts in ([], [[5], []]):
        with pytest.raises(ValueError, match="at least one prompt, and none empty"):
            catalogue_scores(model, trie, prompts)
    with pytest.raises(ValueError, match="at least one beam"):
        beam_search(model, trie, [[5]], 0)
    for rule, extra in ((Rule(), torch.zeros(1, len(trie))), (Rule(guidance=0.5), None)):
        with pytest.raises(ValueError, match="needed below 1, and only there"):
            catalogue_scores(model, trie, [[5]], rule, extra)
    for extra in (torch.zeros(2, len(trie)), torch.ones(1, len(trie))):
        with pytest.raises(ValueError, match="at most 0"):
            beam_search(model, trie, [[5]], 2, Rule(guidance=0.5), extra)
    for guidance, length_power in ((1.1, 0.0), (0.5, -1.0)):
        with pytest.raises(ValueError, match="guidance lies in"):
            Rule(guidance=guidance, length_power=length_power)
    short = family("gemma2", sliding_window=8)[0]
    assert catalogue_scores(short, trie, [[5, 6, 7]]).isfinite().all()
    with pytest.raises(ValueError, match="no room in a window of 8"):
        catalogue_scores(short, trie, [[5] * 4])


def test_item_scores_by_hand(trie):
    leaves = trie.leaves[[3, 1]]
    beams = Beams(
        torch.stack([leaves, torch.tensor([int(leaves[0]), -1])]), torch.tensor([[-1.0, -3.0], [-2.0, -torch.inf]])
    )
    first, second = [-4.0] * len(TITLES), [-3.0] * len(TITLES)
    first[3], first[1], first[4], second[3] = -1.0, -3.0, -3.0, -2.0
    assert beams.item_scores(trie).tolist() == [first, second]


@pytest.mark.parametrize("titles", [[[5, 6]], [[5, 6], [5, 6]], [[5], [6], [7, 8]]], ids=str)
@pytest.mark.parametrize("rule", RULES[:3], ids=str)
def test_a_trie_with_a_choice_at_its_root_at_most(family, titles, rule):
    model, trie = family("qwen2", initializer_range=0.5)[0].double(), build_trie(titles, 2)
    exact = catalogue_scores(model, trie, PROMPTS, rule)
    torch.testing.assert_close(exact, beam_search(model, trie, PROMPTS, 3, rule).item_scores(trie), **CLOSE)
    assert exact.shape == (len(PROMPTS), len(titles))


def test_in_half_precision_the_heads_product_is_not_rounded(family, trie):
    model = family("qwen2", initializer_range=0.5)[0]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = walk.PromptRows(model, trie, PROMPTS).logits
        assert model(torch.tensor([PROMPTS[0]])).logits.dtype == torch.bfloat16  # the model itself rounds
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16()).double().mean() > 0.9
    assert "forward" not in vars(model.get_output_embeddings())


def test_around_a_ranking_the_heads_weights_are_copied_once(family):
    model = family("qwen2", initializer_range=0.5)[0].bfloat16()
    head = model.get_output_embeddings()
    head.forward = str  # something of another library, as accelerate leaves it
    with float32_head(model):
        wide = head.forward.weight
        with float32_head(model):
            assert head.forward.weight is wide
        assert head.forward.weight is wide
        assert wide.dtype == torch.float32
    assert head.forward is str
