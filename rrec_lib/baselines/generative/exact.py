"""Exact scores of the whole catalogue by a language model: every node of the trie goes through it once a prompt."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rrec_lib.baselines.generative.trie import Trie
from rrec_lib.baselines.generative.walk import Prompt, PromptRows, Rule, step_scores
from rrec_lib.core import hardware

LOGITS = 2**26  # of one pass: 256 MB in float32


@torch.no_grad()
def catalogue_scores(
    model: nn.Module,
    trie: Trie,
    prompts: Sequence[Prompt],
    rule: Rule | None = None,
    extra: Tensor | None = None,
    batch_tokens: int | None = None,
) -> Tensor:
    """Score every item behind every prompt, exactly.

    The model sees a prompt once, then the trie's nodes in the order of their numbers, as many at a time as fit a pass,
    each seeing what lies on its own way. Where a forced token adds nothing, what lies behind the last choice is left
    out, which in a catalogue of titles is most of it.

    Args:
        model: a causal language model in eval mode; the caller sets autocast.
        trie: over the catalogue.
        prompts: E lists of token ids, or E tensors (P, d) of input embeddings.
        rule: of the score; the default is the log-probability over the catalogue.
        extra: (E, M) log-probabilities of another model, where the rule mixes them in.
        batch_tokens: nodes of all prompts in one pass; what suits the device and the vocabulary, if not given.

    Returns:
        (E, N) scores in nats, higher is better, float32 or the model's type if wider. Twins have the same, that of
        their sequence. By the default rule the probabilities of all sequences sum to 1.

    Raises:
        ValueError: for a prompt of no tokens, or ``extra`` that doesn't fit the rule.
    """
    rule = rule or Rule()
    trie = trie.to(next(model.parameters()).device)
    rule.check(extra, len(prompts), trie)
    rows = PromptRows(model, trie, prompts)
    steps = rows.logits.new_zeros(len(prompts), len(trie))
    asked = trie.degrees > (1 if rule.free_when_forced else 0)  # whose next token is a question
    prompt_numbers = torch.arange(len(prompts), device=trie.tokens.device)

    def write(logits: Tensor, nodes: Tensor) -> None:
        owner_rows = prompt_numbers.repeat_interleave(len(nodes))
        children, owner, scores = step_scores(
            trie, rule, logits.flatten(0, 1), nodes.repeat(len(prompts)), owner_rows, extra
        )
        steps[owner_rows[owner], children] = scores

    write(rows.logits[:, None], trie.tokens.new_zeros(1))
    limit = batch_tokens or min(hardware.batch_tokens(trie.tokens.device), LOGITS // rows.logits.shape[-1])
    for nodes, new in _passes(trie, asked, max(1, limit // len(prompts))):
        keep = (asked[nodes] & new).nonzero()[:, 0]
        if len(keep):
            write(rows.feed(nodes.expand(len(prompts), -1), keep), nodes[keep])
            rows.forget()
    whole = trie.path_sums(steps)[:, trie.leaves]
    return whole / trie.depths[trie.leaves] ** rule.length_power


def _passes(trie: Trie, asked: Tensor, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(Q,) nodes that go through the model together, and (Q,) which of them are there for the first time.

    All that is asked or on the way to it, the root left out. What lies on the way to a pass's first node is repeated.
    """
    below = torch.cat([asked.new_zeros(1, dtype=torch.long), asked.cumsum(0)])
    needed = (below[trie.stops] > below[:-1]).nonzero()[1:, 0]
    for part in needed.split(limit) if len(needed) else ():  # of nothing there would be one part
        way, node = list[int](), int(trie.parents[part[0]])
        while node:
            way.append(node)
            node = int(trie.parents[node])
        repeated = part.new_tensor(way[::-1])
        yield torch.cat([repeated, part]), torch.arange(len(way) + len(part), device=part.device) >= len(way)
