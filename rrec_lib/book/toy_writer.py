"""A language model for a pencil: it remembers one token, and its tokens are pieces of the toy world's titles."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers import PretrainedConfig

PIECES = (
    "<end>", "space", " opera", "ro", "bot", " noir", "mance", "heist", "court", "room", "musical", "the", "user 1",
    "user 2", "user 3",
)  # fmt: skip
END = 0
TITLES = ((1, 2), (3, 4, 5), (7,), (8, 9), (3, 6), (10,))  # of the toy world's items, in its order
PROMPTS = ((12,), (13,), (14,))  # a user's name stands for all that a prompt would tell
IDLE = 0.1  # share of "the", with which no title goes on, behind every token
_NEXT: Mapping[str, Mapping[str, float]] = {  # the other nine tenths
    "user 1": {"space": 0.1, "ro": 0.5, "heist": 0.2, "court": 0.1, "musical": 0.1},
    "user 2": {"space": 0.1, "ro": 0.4, "heist": 0.3, "court": 0.1, "musical": 0.1},
    "user 3": {"space": 0.2, "ro": 0.3, "heist": 0.1, "court": 0.3, "musical": 0.1},
    "space": {" opera": 1.0},
    "ro": {"bot": 0.6, "mance": 0.4},
    "bot": {" noir": 1.0},
    "court": {"room": 1.0},
}


class ToyWriter(nn.Module):
    """A causal language model whose next token depends on the last one alone, called as those of Transformers are.

    Attributes:
        table: (V, V) log-probability of each next token behind each; the embedding of a token is one-hot.
        passes: how often it was called.
        fed: with how many tokens in all.
    """

    def __init__(self, table: Tensor | None = None) -> None:
        """Args:
        table: the toy world's, in float64, if not given.
        """
        super().__init__()
        self.config = PretrainedConfig()
        self.table = nn.Parameter(_toy_table() if table is None else table, requires_grad=False)
        self.passes = self.fed = 0

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **_: Any,
    ) -> SimpleNamespace:
        """Logits of tokens (B, T), or of embeddings (B, T, V); masks and caches are of no use to it."""
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None:
            raise ValueError("give input_ids or inputs_embeds")
        self.passes, self.fed = self.passes + 1, self.fed + given.shape[0] * given.shape[1]
        kept = given[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else given[:, logits_to_keep]
        return SimpleNamespace(logits=self.table[kept] if inputs_embeds is None else kept @ self.table)

    def embed(self, tokens: Tensor) -> Tensor:
        """(T, V) embeddings of (T,) tokens."""
        return one_hot(tokens, len(self.table)).to(self.table)


def title_logprobs(root: Tensor, behind_ro: Tensor) -> Tensor:
    """(6,) log-probabilities of the toy world's titles from the logits of the two choices that their trie leaves.

    Args:
        root: (5,) of space, ro, heist, court, musical.
        behind_ro: (2,) of bot, mance.
    """
    space, ro, heist, court, musical = root.log_softmax(0)
    bot, mance = behind_ro.log_softmax(0)
    return torch.stack([space, ro + bot, heist, court, ro + mance, musical])


def _toy_table() -> Tensor:
    chances = torch.zeros(len(PIECES), len(PIECES), dtype=torch.float64)
    for row, piece in enumerate(PIECES):
        for token, share in _NEXT.get(piece, {"<end>": 1.0}).items():
            chances[row, PIECES.index(token)] = (1 - IDLE) * share
        chances[row, PIECES.index("the")] = IDLE
    return chances.clamp(min=1e-30).log()  # not −inf, times 0 of which is no number
