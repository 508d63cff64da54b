"""A language model's walk over a trie: many of its nodes behind a prompt in one row, and what a step is worth.

A row of the key-value cache holds a prompt once, and behind it nodes of the trie in any order. A node sees the prompt
and the nodes on its own way, so beams copy no cache, and a whole catalogue needs every node once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache

from rrec_lib.baselines.generative.trie import Trie
from rrec_lib.model.cached import GrowingLayer, folded_heads
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import mask_form
from rrec_lib.model.precision import float32_head

Prompt = Sequence[int] | Tensor  # token ids, or (P, d) input embeddings


@dataclass(frozen=True)
class Rule:
    """How a sequence's tokens make up its score, the same for exact scores and for beams.

    Attributes:
        constrained: probabilities are normalised over the tokens that the trie allows, so that those of all sequences
            sum to 1 and a forced token adds nothing; else over the vocabulary, as the model was trained.
        skip_forced: a forced token adds nothing even so, as D3 wants it; constrained it never does.
        guidance: share of the language model's log-probability in each step; the rest is another model's, see
            :func:`rrec_lib.baselines.generative.trie.prefix_logprobs`. 1 is the language model alone.
        length_power: a whole sequence's score is divided by its length in tokens to this power; 0 leaves it.
    """

    constrained: bool = True
    skip_forced: bool = False
    guidance: float = 1.0
    length_power: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.guidance <= 1 or self.length_power < 0:
            raise ValueError(
                f"guidance lies in 0..1 and length_power is 0 or more, got {self.guidance} and {self.length_power}"
            )

    @property
    def free_when_forced(self) -> bool:
        """Whether the model needn't be asked where the trie leaves no choice."""
        return self.constrained or self.skip_forced

    def check(self, extra: Tensor | None, rows: int, trie: Trie) -> None:
        """Raise ``ValueError`` unless another model's (E, M) log-probabilities are there where they are needed."""
        if (extra is None) != (self.guidance == 1):
            raise ValueError(f"guidance is {self.guidance}: extra log-probabilities are needed below 1, and only there")
        if extra is not None and (tuple(extra.shape) != (rows, len(trie)) or extra.max() > 0):
            raise ValueError(f"extra log-probabilities are ({rows}, {len(trie)}), at most 0; got {tuple(extra.shape)}")


def step_scores(
    trie: Trie, rule: Rule, logits: Tensor, nodes: Tensor, rows: Tensor, extra: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What each step onwards from some nodes is worth.

    Args:
        trie: on the device of the logits.
        rule: see :class:`Rule`.
        logits: (R, V) behind each node.
        nodes: (R,) of the trie.
        rows: (R,) whose prompt each stands behind, for ``extra``.
        extra: (E, M) another model's log-probabilities, where the rule mixes them in.

    Returns:
        For C steps: (C,) the child, (C,) which of the R nodes it goes on from, (C,) its score in nats, at most 0.
    """
    counts = trie.degrees[nodes]
    owner = torch.repeat_interleave(counts)
    children = trie.children[trie.starts[nodes][owner] + places(owner)]
    chosen = logits[owner, trie.tokens[children]]
    if rule.constrained:
        highest = chosen.new_full(nodes.shape, -torch.inf).scatter_reduce_(0, owner, chosen, "amax")
        total = torch.zeros_like(highest).index_add_(0, owner, (chosen - highest[owner]).exp())
        scores = chosen - (highest + total.log())[owner]
    else:
        scores = chosen - logits.logsumexp(-1)[owner]
    if extra is not None:
        scores = rule.guidance * scores + (1 - rule.guidance) * extra[rows[owner], children].to(scores)
    if rule.free_when_forced:
        scores = scores.masked_fill(counts[owner] == 1, 0.0)
    return children, owner, scores


def places(rows: Tensor) -> Tensor:
    """(n,) how many entries of the same row stand before each, in ascending (n,) rows."""
    counts = rows.bincount()
    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


class PromptRows:
    """E prompts in a key-value cache, and nodes of a trie behind each.

    Attributes:
        logits: (E, V) behind the prompts, at the trie's root.
    """

    def __init__(self, model: nn.Module, trie: Trie, prompts: Sequence[Prompt]) -> None:
        """Args:
        model: a causal language model with a plain key-value cache.
        trie: on the model's device.
        prompts: E of them, all token ids or all input embeddings; padded on the left here.

        Raises:
            ValueError: for no prompt, an empty one, or one too long for the model's sliding window.
        """
        if not len(prompts) or not all(len(prompt) for prompt in prompts):
            raise ValueError("need at least one prompt, and none empty: there is nothing to go on from")
        self.model: Any = language_model(model)
        self.trie, device = trie, trie.tokens.device
        embedded = isinstance(prompts[0], Tensor) and prompts[0].dim() == 2
        padded = pad_sequence(
            [torch.as_tensor(prompt).to(device) for prompt in prompts], batch_first=True, padding_side="left"
        )
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        columns = torch.arange(padded.shape[1], device=device)
        self.prompt = columns >= padded.shape[1] - self.lengths[:, None]  # (E, P)
        self.nodes = torch.full_like(self.prompt[:, :0], -1, dtype=torch.long)  # (E, L) behind the prompts; −1 is none
        window = getattr(self.model.config, "sliding_window", None)
        if window is not None and int(self.lengths.max()) + trie.max_depth > window:
            raise ValueError(f"a prompt of {int(self.lengths.max())} tokens leaves no room in a window of {window}")
        self.cache = Cache(layer_class_to_replicate=GrowingLayer)
        seen = self.prompt[:, None] & (columns <= columns[:, None])
        seen = seen | torch.eye(len(columns), dtype=torch.bool, device=device)  # padding sees itself, nobody else it
        given = {"inputs_embeds" if embedded else "input_ids": padded, "attention_mask": mask_form(self.model, seen)}
        positions = (self.prompt.cumsum(1) - 1).clamp(min=0)
        self.logits = self._logits(**given, position_ids=positions, logits_to_keep=1)[:, 0]

    def feed(self, nodes: Tensor, keep: Tensor) -> Tensor:
        """Put nodes behind the prompts. Those on their way have been fed before, or are fed with them.

        Args:
            nodes: (E, Q) of the trie, never the root; −1 fills up.
            keep: (K,) columns of ``nodes`` whose logits are wanted.

        Returns:
            (E, K, V) logits, float32 or wider.
        """
        self.nodes = torch.cat([self.nodes, nodes], 1)
        query, key = nodes[:, :, None], self.nodes[:, None, :]
        on_the_way = (key >= 0) & (key <= query) & (query < self.trie.stops[key])
        visible = torch.cat([self.prompt[:, None].expand(-1, nodes.shape[1], -1), on_the_way], 2)
        real = nodes.clamp(min=0)
        return self._logits(
            input_ids=self.trie.tokens[real].clamp(min=0),
            attention_mask=mask_form(self.model, visible),
            position_ids=(self.lengths[:, None] + self.trie.depths[real] - 1).clamp(min=0),
            logits_to_keep=keep,
        )

    def forget(self) -> None:
        """Drop everything behind the prompts."""
        self.cache.crop(-self.nodes.shape[1])
        self.nodes = self.nodes[:, :0]

    def _logits(self, **inputs: Any) -> Tensor:
        with float32_head(self.model), folded_heads(self.model):
            logits: Tensor = self.model(**inputs, past_key_values=self.cache, use_cache=True).logits
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
