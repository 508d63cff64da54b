"""The pencil's language model: probabilities, titles of the toy world, and how it is called."""

import pytest
import torch

from rrec_lib.baselines.generative.beam import beam_search
from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.trie import build_trie
from rrec_lib.baselines.generative.walk import Rule
from rrec_lib.book.toy import toy_world
from rrec_lib.book.toy_writer import END, PIECES, PROMPTS, TITLES, ToyWriter, title_logprobs


def test_its_pieces_spell_the_toy_worlds_titles_and_its_rows_are_probabilities():
    assert tuple("".join(PIECES[token] for token in title) for title in TITLES) == toy_world().items
    assert tuple(PIECES[token] for (token,) in PROMPTS) == toy_world().users
    torch.testing.assert_close(ToyWriter().table.exp().sum(1), torch.ones(len(PIECES)).double())


def test_its_titles_are_what_two_choices_say_and_it_counts_what_it_is_fed():
    writer, trie = ToyWriter(), build_trie(TITLES, END)
    for prompt, root in zip(PROMPTS, ([0.1, 0.5, 0.2, 0.1, 0.1], [0.1, 0.4, 0.3, 0.1, 0.1]), strict=False):
        writer.passes = writer.fed = 0
        exact = catalogue_scores(writer, trie, [prompt])[0]
        assert (writer.passes, writer.fed) == (2, 2)
        logits = (torch.tensor(part, dtype=torch.float64).log() for part in (root, [0.6, 0.4]))
        torch.testing.assert_close(exact, title_logprobs(*logits))


def test_embeddings_say_what_tokens_say_and_something_must_be_given():
    writer, tokens = ToyWriter(), torch.tensor([3, 7])
    by_token = writer(input_ids=tokens[None]).logits
    torch.testing.assert_close(writer(inputs_embeds=writer.embed(tokens)[None]).logits, by_token)
    torch.testing.assert_close(writer(input_ids=tokens[None], logits_to_keep=1).logits, by_token[:, 1:])
    torch.testing.assert_close(writer(tokens[None], logits_to_keep=torch.tensor([0])).logits, by_token[:, :1])
    with pytest.raises(ValueError, match="give input_ids or inputs_embeds"):
        writer()


def test_one_beam_misses_the_likeliest_title_where_every_token_is_a_step_and_finds_it_from_choice_to_choice():
    trie = build_trie(TITLES, END)
    robot_noir, heist = trie.leaves[[1, 2]].tolist()
    for rule, first in ((Rule(constrained=False), robot_noir), (Rule(), heist)):
        assert catalogue_scores(ToyWriter(), trie, PROMPTS[1:2], rule)[0].argmax() == 2
        found = [beam_search(ToyWriter(), trie, PROMPTS[1:2], width, rule).leaves[0].tolist() for width in (1, 2)]
        assert found == [[first], [heist, robot_noir]]
