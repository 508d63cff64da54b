"""The lab's policy: one small causal transformer with the two heads of R²ec, and a sampler that caches keys and values.

``lm_head`` is the token embedding table; ``rec_head`` compares the final hidden state behind the answer marker with the
item table, whose rows are the same model's states behind each item's own short description.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from rrec_lib.lab.world import ANSWER, HISTORY, ITEM, N_ITEMS, THINK, VOCABULARY

USER_STATES = ("marker", "mean", "last token")  # behind <answer>, over the reasoning's tokens, at the last of them
ITEM_ROWS = ("described", "classes")  # the model's states of the items' descriptions, or rows learned for each item
Cache = list[tuple[Tensor, Tensor]]


class Block(nn.Module):
    """Pre-norm attention and a two-layer MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, turns: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, length, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, turns), rotate(k, turns)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        attended = scaled_dot_product_attention(q, k, v, is_causal=past is None)  # one token at a time sees all
        x = x + self.out(attended.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(gelu(self.up(self.norms[1](x)))), (k, v)


def rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions: turn each pair of (..., T, d) by its place's angles; attention then sees distances."""
    cos, sin = turns
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class LabModel(nn.Module):
    """A causal transformer from nothing.

    Args:
        width: d of the hidden states.
        layers: number of blocks.
        heads: attention heads, a divisor of the width.
        chain: items that are summed; a reasoning has two tokens for each.

    Raises:
        ValueError: if the width is no even multiple of the heads.
    """

    cos: Tensor  # of the rotary positions
    sin: Tensor

    def __init__(self, width: int, layers: int, heads: int, chain: int = HISTORY) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} must be an even multiple of heads {heads}")
        self.reasoning = 2 * chain
        length = max(HISTORY, chain) + 1 + self.reasoning + 1  # history, <think>, reasoning, <answer>
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.user_state = "marker"
        self.classes: nn.Embedding | None = None
        pairs = width // heads // 2
        angles = torch.arange(length)[:, None] * 100 ** -(torch.arange(pairs) / pairs)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=width**-0.5)

    def forward(self, tokens: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """Final hidden states (R, T, d) of tokens (R, T), and the cache for the tokens that follow.

        In the place of tokens stand what is embedded, or the embeddings themselves, (R, T, d), as a latent step has
        them. Behind a cache give one a row.
        """
        start = past[0][0].shape[2] if past else 0
        places = slice(start, start + tokens.shape[1])
        embedded = tokens if tokens.is_floating_point() else self.tokens(tokens)
        x, turns = embedded + self.places.weight[places], (self.cos[places], self.sin[places])
        cache: Cache = []
        for number, block in enumerate(self.blocks):
            x, keys = block(x, turns, past[number] if past else None)
            cache.append(keys)
        return self.norm(x), cache

    def lm_logits(self, states: Tensor) -> Tensor:
        """lm_head: (..., V) logits of the next token."""
        return states @ self.tokens.weight.T

    def classify(self, seed: int) -> None:
        """Put a row to be learned for each item in the place of the item's described state."""
        rows = torch.randn(N_ITEMS, self.tokens.embedding_dim, generator=torch.Generator().manual_seed(seed))
        self.classes = nn.Embedding.from_pretrained(rows, freeze=False)

    def user_states(self, states: Tensor, history: int) -> Tensor:
        """(R, d) of the final states (R, T, d) of whole sequences; without reasoning the marker's is the only one."""
        written = states[:, history + 1 : -1]
        if self.user_state == "marker" or not written.shape[1]:
            return states[:, -1]
        return written.mean(1) if self.user_state == "mean" else written[:, -1]

    def item_states(self) -> Tensor:
        """The item table H_V, (N, d): the state behind ``<item> v <answer>`` of every item v, or its learned row."""
        if self.classes is not None:
            return self.classes.weight
        items = torch.arange(N_ITEMS, device=self.tokens.weight.device)
        return self(torch.stack([torch.full_like(items, ITEM), items, torch.full_like(items, ANSWER)], 1))[0][:, -1]


def answered(histories: Tensor, reasoning: Tensor | None) -> Tensor:
    """The whole sequence: ``history <think> reasoning <answer>``, or ``history <answer>`` without reasoning (None)."""
    marker = histories.new_full((len(histories), 1), ANSWER)
    if reasoning is None:
        return torch.cat([histories, marker], 1)
    return torch.cat([histories, torch.full_like(marker, THINK), reasoning, marker], 1)


def read_out(
    model: LabModel, histories: Tensor, reasoning: Tensor | None, temperature: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """One forward pass for both heads.

    Args:
        model: the policy.
        histories: (R, H) catalogue rows.
        reasoning: (R, 2 · chain) tokens, or None to answer at once.
        temperature: of the token distribution, as in :func:`sample`.

    Returns:
        User states (R, d), and log-probabilities of the reasoning's tokens, shaped as they are, or None.
    """
    states, _ = model(answered(histories, reasoning))
    users = model.user_states(states, histories.shape[1])
    if reasoning is None:
        return users, None
    logits = model.lm_logits(states[:, histories.shape[1] : -2]) / temperature
    return users, torch.log_softmax(logits, -1).gather(-1, reasoning[..., None]).squeeze(-1)


def read_silent(model: LabModel, histories: Tensor, way: str, steps: int) -> Tensor:
    """User states (R, d) behind thinking that writes nothing.

    Args:
        model: the policy.
        histories: (R, H) catalogue rows.
        way: ``"latent"``, where each step's final hidden state is the next one's input embedding, at an embedding's
            length (as ReaRec and LatentR³ feed it back); ``"pause"``, where ``<think>``, a learned token, is repeated;
            or ``"none"``.
        steps: how many; with 0 the marker follows the history at once, as with ``"none"``.
    """
    if way == "none" or not steps:
        return read_out(model, histories, None)[0]
    if way == "pause":
        return read_out(model, histories, histories.new_full((len(histories), steps), THINK))[0]
    states, cache = model(torch.cat([histories, histories.new_full((len(histories), 1), THINK)], 1))
    for _ in range(steps):
        states, cache = model(states[:, -1:] * states.shape[-1] ** -0.5, cache)
    return model(histories.new_full((len(histories), 1), ANSWER), cache)[0][:, -1]


@torch.no_grad()
def sample(
    model: LabModel, histories: Tensor, group_size: int, generator: torch.Generator, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Write G reasonings per user; a prompt's keys and values are computed once for its group.

    Args:
        model: the policy.
        histories: (B, H) catalogue rows.
        group_size: G.
        generator: of the draws.
        temperature: divides the logits.

    Returns:
        Tokens and their log-probabilities, both (B·G, 2 · chain), in group order.
    """
    prompt = torch.cat([histories, histories.new_full((len(histories), 1), THINK)], 1)
    states, cache = model(prompt)
    cache = [(k.repeat_interleave(group_size, 0), v.repeat_interleave(group_size, 0)) for k, v in cache]
    state = states[:, -1].repeat_interleave(group_size, 0)
    tokens, logprobs = [], []
    for place in range(model.reasoning):
        table = torch.log_softmax(model.lm_logits(state) / temperature, -1)
        token = torch.multinomial(table.exp().to(generator.device), 1, generator=generator).to(histories.device)
        tokens.append(token)
        logprobs.append(table.gather(1, token))
        if place < model.reasoning - 1:
            states, cache = model(token, cache)
            state = states[:, 0]
    return torch.cat(tokens, 1), torch.cat(logprobs, 1)
