"""Encoders of sequences: SASRec, eSASRec, GRU4Rec and Caser, each from a history (B, L, d) to states (B, L, d).

The state at a place knows nothing of later places, so that one pass over a user's log teaches every target in it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SequenceSettings:
    """Sizes and optimisation.

    ``negatives`` is how many are sampled for each target, 0 for the whole catalogue; ``init_std`` that of the
    embeddings; ``patience`` counts epochs without gain on valid before training stops.
    """

    length: int = 20
    hidden: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 16
    negatives: int = 0
    init_std: float = 0.06
    epochs: int = 60
    patience: int = 8


class Attention(nn.Module):
    """Causal self-attention whose queries may be others than its keys."""

    def __init__(self, s: SequenceSettings) -> None:
        super().__init__()
        self.heads, self.dropout = s.heads, s.dropout
        self.query, self.key, self.value, self.output = (nn.Linear(s.hidden, s.hidden) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, L, d) and (B, L, d) to (B, L, d)."""
        parts = self.query(queries), self.key(keys), self.value(keys)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, heads, L, d / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class SASRecBlock(nn.Module):
    """Attention with normalised queries, then a position-wise network of width d (Kang & McAuley, 2018, Sec. III)."""

    def __init__(self, s: SequenceSettings) -> None:
        super().__init__()
        self.attention = Attention(s)
        self.norms = nn.ModuleList(nn.LayerNorm(s.hidden) for _ in range(2))
        self.forward_net = nn.Sequential(
            nn.Linear(s.hidden, s.hidden), nn.ReLU(), nn.Dropout(s.dropout), nn.Linear(s.hidden, s.hidden),
            nn.Dropout(s.dropout),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) to (B, L, d)."""
        queries = self.norms[0](x)
        x = self.norms[1](queries + self.attention(queries, x))
        return x + self.forward_net(x)


class LiGRBlock(nn.Module):
    """Attention and SwiGLU after a norm, each update let through by a learnt gate (Borisyuk et al., 2025)."""

    def __init__(self, s: SequenceSettings) -> None:
        super().__init__()
        wide = 4 * s.hidden
        self.attention = Attention(s)
        self.norms = nn.ModuleList(nn.LayerNorm(s.hidden) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(s.hidden, s.hidden) for _ in range(2))
        self.up, self.down = nn.Linear(s.hidden, 2 * wide, bias=False), nn.Linear(wide, s.hidden, bias=False)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) to (B, L, d)."""
        normed = self.norms[0](x)
        x = x + torch.sigmoid(self.gates[0](x)) * self.dropout(self.attention(normed, normed))
        gate, value = self.up(self.norms[1](x)).chunk(2, -1)
        wide = self.dropout(nn.functional.silu(gate) * value)
        return x + torch.sigmoid(self.gates[1](x)) * self.dropout(self.down(wide))


class SASRec(nn.Module):
    """Blocks of causal self-attention over item and position embeddings (Kang & McAuley, 2018)."""

    BLOCK: type[nn.Module] = SASRecBlock

    def __init__(self, s: SequenceSettings) -> None:
        super().__init__()
        self.positions = nn.Embedding(s.length, s.hidden)
        nn.init.normal_(self.positions.weight, std=s.init_std)
        self.blocks = nn.Sequential(nn.Dropout(s.dropout), *(self.BLOCK(s) for _ in range(s.layers)))
        self.norm = nn.LayerNorm(s.hidden)

    def forward(self, embedded: Tensor) -> Tensor:
        """(B, L, d) to (B, L, d)."""
        return self.norm(self.blocks(embedded + self.positions.weight[: embedded.shape[1]]))


class ESASRec(SASRec):
    """SASRec with LiGR's blocks: with sampled negatives, eSASRec (Tikhonovich et al., 2025), but for the last norm."""

    BLOCK = LiGRBlock


class GRU4Rec(nn.Module):
    """A gated recurrent network (Hidasi et al., 2016)."""

    def __init__(self, s: SequenceSettings) -> None:
        super().__init__()
        dropout = s.dropout if s.layers > 1 else 0.0
        self.recurrent = nn.GRU(s.hidden, s.hidden, s.layers, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """(B, L, d) to (B, L, d)."""
        return self.recurrent(self.dropout(embedded))[0]


class Caser(nn.Module):
    """Convolutions over the last five items, across and along them (Tang & Wang, 2018; without its user vector)."""

    WINDOW = 5

    def __init__(self, s: SequenceSettings, filters: int = 16) -> None:
        super().__init__()
        self.across = nn.ModuleList(nn.Conv1d(s.hidden, filters, height) for height in range(1, self.WINDOW + 1))
        self.along = nn.Conv1d(self.WINDOW, 4, 1)
        self.output = nn.Linear(filters * self.WINDOW + 4 * s.hidden, s.hidden)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """(B, L, d) to (B, L, d)."""
        batch, length, hidden = embedded.shape
        padded = nn.functional.pad(embedded, (0, 0, self.WINDOW - 1, 0))
        windows = padded.unfold(1, self.WINDOW, 1).reshape(-1, hidden, self.WINDOW)  # (B·L, d, 5)
        across = [torch.relu(convolution(windows)).amax(-1) for convolution in self.across]
        along = self.along(windows.transpose(1, 2)).flatten(1)
        states = self.output(self.dropout(torch.cat([*across, along], 1)))
        return torch.relu(states).view(batch, length, hidden)


ENCODERS = {"sasrec": SASRec, "esasrec": ESASRec, "gru4rec": GRU4Rec, "caser": Caser}
