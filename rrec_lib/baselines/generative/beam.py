"""Beam search that can't write what isn't in the catalogue.

Not ``model.generate``: that keeps the prompt's cache once per beam, looks at the whole vocabulary, asks a Python
function for every beam and step, keeps scores in float32, and fills up with forbidden sequences where fewer than the
beams are allowed. Nothing of the model's ``generation_config`` is read, so there is nothing to reset: its ``top_k`` or
``temperature`` can't cut a beam.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rrec_lib.baselines.generative.trie import Trie
from rrec_lib.baselines.generative.walk import Prompt, PromptRows, Rule, places, step_scores


@dataclass(frozen=True)
class Beams:
    """The best W sequences of each prompt that were found, best first.

    Attributes:
        leaves: (E, W) leaves of the trie, each once a row; −1 where fewer were found.
        scores: (E, W) in nats; −inf there.
    """

    leaves: Tensor
    scores: Tensor

    def item_scores(self, trie: Trie) -> Tensor:
        """(E, N) scores of the items: twins share their sequence's, and what was not found ties 1 below the last."""
        found = self.leaves >= 0
        last = self.scores.masked_fill(~found, torch.inf).amin(1, keepdim=True)
        table = (last - 1).repeat(1, len(trie) + 1)  # the column behind the last takes what was not found
        table.scatter_(1, self.leaves.masked_fill(~found, len(trie)), self.scores)
        return table[:, trie.leaves.to(table.device)]


@torch.no_grad()
def beam_search(
    model: nn.Module,
    trie: Trie,
    prompts: Sequence[Prompt],
    width: int,
    rule: Rule | None = None,
    extra: Tensor | None = None,
) -> Beams:
    """Write the best sequences of a catalogue behind every prompt, as far as ``width`` beams find them.

    At each step the best unfinished beams of each prompt go on, by the sum of their steps; the best finished ones
    are kept apart, by their score. Where a forced token adds nothing, a beam goes on to its next choice at once. A
    beam that can't get ahead of ``width`` finished ones is dropped, which changes nothing: steps are worth at most 0.

    Args:
        model: a causal language model in eval mode; the caller sets autocast.
        trie: over the catalogue.
        prompts: E lists of token ids, or E tensors (P, d) of input embeddings.
        width: W, beams of each prompt; with as many as there are sequences the ranking is exact.
        rule: of the score, as in :func:`rrec_lib.baselines.generative.exact.catalogue_scores`.
        extra: (E, M) log-probabilities of another model, where the rule mixes them in.

    Raises:
        ValueError: for a width below 1, a prompt of no tokens, or ``extra`` that doesn't fit the rule.
    """
    if width < 1:
        raise ValueError(f"need at least one beam, got {width}")
    rule = rule or Rule()
    device = next(model.parameters()).device
    trie = trie.to(device)
    rule.check(extra, len(prompts), trie)
    state = PromptRows(model, trie, prompts)
    logits, rows = state.logits, torch.arange(len(prompts), device=device)
    nodes, sums = torch.zeros_like(rows), logits.new_zeros(len(prompts))
    done_rows, done_leaves, done_scores = rows[:0], nodes[:0], sums[:0]
    while len(rows):
        children, owner, scores = step_scores(trie, rule, logits, nodes, rows, extra)
        rows, sums = rows[owner], sums[owner] + scores
        nodes = trie.choices[children] if rule.free_when_forced else children
        ended = trie.degrees[nodes] == 0
        whole = sums[ended] / trie.depths[nodes[ended]] ** rule.length_power
        found = (done_rows, rows[ended]), (done_leaves, nodes[ended]), (done_scores, whole)
        done_rows, done_leaves, done_scores = (torch.cat(pair) for pair in found)
        kept, place = _best(done_rows, done_scores, width)
        done_rows, done_leaves, done_scores = done_rows[kept], done_leaves[kept], done_scores[kept]
        to_reach = sums.new_full((len(prompts),), -torch.inf)
        to_reach[done_rows[place == width - 1]] = done_scores[place == width - 1]
        going_on = (~ended & (sums / trie.max_depth**rule.length_power >= to_reach[rows])).nonzero()[:, 0]
        kept, place = _best(rows[going_on], sums[going_on], width)
        kept = going_on[kept]
        rows, nodes, sums = rows[kept], nodes[kept], sums[kept]
        if len(rows):
            logits = _feed(state, children[kept], nodes, rows, place)
    place = places(done_rows)
    leaves = torch.full((len(prompts), width), -1, device=device)
    scores = done_scores.new_full((len(prompts), width), -torch.inf)
    leaves[done_rows, place], scores[done_rows, place] = done_leaves, done_scores
    return Beams(leaves, scores)


def _best(rows: Tensor, values: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Which of n values are among the best of their row, by row and best first, and which place each has, from 0."""
    order = values.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    place = places(rows[order])
    return order[place < width], place[place < width]


def _feed(state: PromptRows, first: Tensor, last: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    """(n, V) logits behind n beams that go on from ``first`` to ``last`` by forced tokens, whose numbers follow.

    Last nodes stand in the first columns, what lies before them behind these: the mask asks for no order.
    """
    between = last - first
    of_beam = torch.repeat_interleave(between)
    beams = int(place.max()) + 1
    columns = beams + places(rows[of_beam])
    width = max(beams, int(columns.max()) + 1 if len(columns) else 0)
    nodes = rows.new_full((len(state.lengths), width), -1)
    nodes[rows, place] = last
    nodes[rows[of_beam], columns] = first[of_beam] + places(of_beam)
    return state.feed(nodes, torch.arange(beams, device=rows.device))[rows, place]
