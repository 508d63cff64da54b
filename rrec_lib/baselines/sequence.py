"""Sequence models with one trainer: SASRec, GRU4Rec and Caser, by cross-entropy over the whole catalogue.

Each is an encoder that turns a history (B, L) into states (B, L, d), the state at a place knowing nothing of later
places; scores are inner products with the item embeddings. All three are trained alike, so that what differs is the
encoder (Klenitskiy & Vasilev, 2023, show how much the loss alone matters).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rrec_lib.baselines.histories import recent, user_logs
from rrec_lib.console import progress
from rrec_lib.evaluation import Example, mean_ndcg

IGNORED = -100  # a place without a target


@dataclass(frozen=True)
class SequenceSettings:
    """Sizes and optimisation; ``patience`` counts epochs without gain on valid before training stops."""

    length: int = 20
    hidden: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 16
    epochs: int = 200
    patience: int = 15


class SASRec(nn.Module):
    """Causal self-attention over item and position embeddings, norms before each part (Kang & McAuley, 2018)."""

    def __init__(self, s: SequenceSettings) -> None:
        super().__init__()
        self.positions = nn.Embedding(s.length, s.hidden)
        layer = nn.TransformerEncoderLayer(
            s.hidden, s.heads, 4 * s.hidden, s.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, s.layers, nn.LayerNorm(s.hidden), enable_nested_tensor=False)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, embedded: Tensor) -> Tensor:
        """(B, L, d) to (B, L, d)."""
        places = torch.arange(embedded.shape[1])
        causal = nn.Transformer.generate_square_subsequent_mask(len(places))
        return self.blocks(self.dropout(embedded + self.positions(places)), mask=causal, is_causal=True)


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


ENCODERS = {"sasrec": SASRec, "gru4rec": GRU4Rec, "caser": Caser}


class SequenceRecommender(nn.Module):
    """An encoder with its item embeddings, trained on the users' logs."""

    def __init__(self, encoder: str, n_items: int, settings: SequenceSettings, seed: int = 0) -> None:
        """Args:
        encoder: a name in ``ENCODERS``.
        n_items: N.
        settings: sizes and optimisation.
        seed: of the weights, the order of users and dropout.
        """
        super().__init__()
        torch.manual_seed(seed)
        self.settings, self.n_items, self.seed = settings, n_items, seed
        self.items = nn.Embedding(n_items + 1, settings.hidden, padding_idx=n_items)
        nn.init.normal_(self.items.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[n_items].zero_()
        self.encoder = ENCODERS[encoder](settings)
        self.history: list[dict[str, float]] = []  # an entry per epoch

    def forward(self, histories: Tensor) -> Tensor:
        """States (B, L, d) of histories (B, L), padded behind with N."""
        return self.encoder(self.items(histories) * self.settings.hidden**0.5)

    def fit(self, train: Sequence[Example], valid: Sequence[Example]) -> "SequenceRecommender":
        """Train until NDCG@20 on valid has not grown for ``patience`` epochs, and keep the best weights."""
        s = self.settings
        inputs, labels = training_windows(train, s.length, self.n_items)
        optimizer = torch.optim.AdamW(self.parameters(), s.learning_rate, weight_decay=s.weight_decay)
        generator = torch.Generator().manual_seed(self.seed)
        best, weights, waited = -1.0, copy.deepcopy(self.state_dict()), 0
        for epoch in progress(range(s.epochs), "training"):
            self.train()
            total = 0.0
            for rows in torch.randperm(len(inputs), generator=generator).split(s.batch_size):
                wanted = labels[rows] != IGNORED
                logits = self(inputs[rows])[wanted] @ self.items.weight[: self.n_items].T
                loss = nn.functional.cross_entropy(logits, labels[rows][wanted])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            ndcg = mean_ndcg(self, valid)
            self.history.append({"epoch": epoch, "loss": total / len(inputs), "valid_ndcg@20": ndcg})
            waited = 0 if ndcg > best else waited + 1
            if ndcg > best:
                best, weights = ndcg, copy.deepcopy(self.state_dict())
            if waited >= s.patience:
                break
        self.load_state_dict(weights)
        return self

    @torch.no_grad()
    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) inner products of each history's last state with every item."""
        self.eval()
        parts = []
        for begin in range(0, len(examples), 512):
            histories = [recent(example, self.settings.length) for example in examples[begin : begin + 512]]
            last = torch.tensor([len(history) - 1 for history in histories])
            states = self(pad(histories, self.n_items))[torch.arange(len(histories)), last]
            parts.append(states @ self.items.weight[: self.n_items].T)
        return torch.cat(parts)


def training_windows(train: Sequence[Example], length: int, n_items: int) -> tuple[Tensor, Tensor]:
    """Cut every user's training log into windows, the last one whole.

    Returns:
        Histories (W, L), padded behind with N, and at each place the next item (W, L) if it was a training target, else
        ``IGNORED``.
    """
    histories, labels = [], []
    for log in user_logs(train):
        wanted = [item if target else IGNORED for item, target in zip(log.items, log.is_target, strict=True)]
        for end in range(len(log.items), 1, -length):
            begin = max(0, end - length - 1)
            histories.append(log.items[begin : end - 1])
            labels.append(wanted[begin + 1 : end])
    kept = [i for i, row in enumerate(labels) if any(label != IGNORED for label in row)]
    return pad([histories[i] for i in kept], n_items), pad([labels[i] for i in kept], IGNORED)


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(n, L) of rows padded behind."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
