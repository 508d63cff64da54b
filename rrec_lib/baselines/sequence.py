"""Sequence models with one trainer: SASRec, eSASRec, GRU4Rec and Caser, by cross-entropy over the items.

Scores are inner products of an encoder's states with the item embeddings. All are trained alike, over the whole
catalogue or, as eSASRec is, over drawn negatives, so that what differs is the encoder (Klenitskiy & Vasilev, 2023, show
how much the loss alone matters).
"""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rrec_lib.baselines.encoders import ENCODERS, SequenceSettings
from rrec_lib.baselines.registry import BASELINES, Baseline, Splits
from rrec_lib.baselines.user_logs import recent, user_logs
from rrec_lib.core.console import progress
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.evaluate import mean_ndcg, sample_examples

IGNORED = -100  # a place without a target
STOPPING_ROWS, STOPPING_ROWS_PER_USER = 1000, 15  # of valid: looked at after every epoch, so not all of it


class WindowModel(nn.Module, ABC):
    """What is trained on windows of the users' logs until valid stops it.

    Attributes:
        settings: sizes and optimisation.
        seed: of the order of windows.
        history: an entry per epoch.
    """

    def __init__(self, settings: SequenceSettings, seed: int) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.history: list[dict[str, float]] = []

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @abstractmethod
    def loss(self, histories: Tensor, labels: Tensor) -> Tensor:
        """Of windows (B, L) with their labels (B, L), see :func:`training_windows`."""

    @abstractmethod
    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N), higher is better."""

    def fit_windows(
        self,
        histories: Tensor,
        labels: Tensor,
        valid: Sequence[Example],
        rows: int = STOPPING_ROWS,
        seconds: float = math.inf,
    ) -> None:
        """Train until NDCG@20 on a part of valid has not grown for ``patience`` epochs; the best weights are kept.

        Args:
            histories, labels: (W, L) of :func:`training_windows`.
            valid: rows of it.
            rows: how many of :func:`stopping_rows` are looked at.
            seconds: of the processor, after which no epoch is started.
        """
        s = self.settings
        inputs, wanted = histories.to(self.device), labels.to(self.device)
        asked = stopping_rows(valid)[:rows]
        optimizer = torch.optim.AdamW(self.parameters(), s.learning_rate, (0.9, 0.98), weight_decay=s.weight_decay)
        generator = torch.Generator().manual_seed(self.seed)
        best, weights, waited = -1.0, copy.deepcopy(self.state_dict()), 0
        start = time.process_time()
        for epoch in progress(range(s.epochs), "training"):
            self.train()
            total = 0.0
            for batch in torch.randperm(len(inputs), generator=generator).to(self.device).split(s.batch_size):
                loss = self.loss(inputs[batch], wanted[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            ndcg = mean_ndcg(self, asked)
            self.history.append({"epoch": epoch, "loss": total / len(inputs), "valid_ndcg@20": ndcg})
            waited = 0 if ndcg > best else waited + 1
            if ndcg > best:
                best, weights = ndcg, copy.deepcopy(self.state_dict())
            if waited >= s.patience or time.process_time() - start > seconds:
                break
        self.load_state_dict(weights)


class SequenceRecommender(WindowModel):
    """An encoder with its item embeddings, trained on the users' logs."""

    def __init__(self, encoder: str, n_items: int, settings: SequenceSettings, seed: int = 0) -> None:
        """Args:
        encoder: a name in ``ENCODERS``.
        n_items: N.
        settings: sizes and optimisation.
        seed: of the weights, the order of users and dropout.
        """
        super().__init__(settings, seed)
        torch.manual_seed(seed)
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, settings.hidden, padding_idx=n_items)
        nn.init.normal_(self.items.weight, std=settings.init_std)
        with torch.no_grad():
            self.items.weight[n_items].zero_()
        self.encoder = ENCODERS[encoder](settings)

    def forward(self, histories: Tensor) -> Tensor:
        """States (B, L, d) of histories (B, L), padded behind with N."""
        return self.encoder(self.items(histories) * self.settings.hidden**0.5)

    def fit(self, train: Sequence[Example], valid: Sequence[Example]) -> "SequenceRecommender":
        """Train on the windows of the users' logs, until valid stops it."""
        self.fit_windows(*training_windows(train, self.settings.length, self.n_items), valid)
        return self

    def loss(self, histories: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of every target in windows, over the catalogue or drawn negatives."""
        wanted = labels != IGNORED
        logits = self(histories)[wanted] @ self.items.weight[: self.n_items].T
        if self.settings.negatives:
            return sampled_softmax(logits, labels[wanted], self.settings.negatives)
        return nn.functional.cross_entropy(logits, labels[wanted])

    @torch.no_grad()
    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) inner products of each history's last state with every item."""
        self.eval()
        parts = []
        for begin in range(0, len(examples), 512):
            histories = [recent(example, self.settings.length) for example in examples[begin : begin + 512]]
            last = [len(history) - 1 for history in histories]
            states = self(pad(histories, self.n_items).to(self.device))[range(len(histories)), last]
            parts.append(states @ self.items.weight[: self.n_items].T)
        return torch.cat(parts)


def sampled_softmax(logits: Tensor, targets: Tensor, negatives: int) -> Tensor:
    """Cross-entropy of each target (P,) among itself and items drawn evenly, a drawn target left out.

    Takes the logits (P, N) of the whole catalogue: for one of thousands of items that costs less than to gather the
    embeddings of P · ``negatives`` items.
    """
    drawn = torch.randint(logits.shape[1], (len(targets), negatives), device=logits.device)
    kept = logits.gather(1, drawn).masked_fill(drawn == targets[:, None], -torch.inf)
    own = logits.gather(1, targets[:, None])
    return (torch.cat([own, kept], 1).logsumexp(1) - own.squeeze(1)).mean()


def stopping_rows(valid: Sequence[Example]) -> list[Example]:
    """The rows of valid that decide when training stops: fixed, a thousand at most, no user with many."""
    return sample_examples(valid, STOPPING_ROWS, STOPPING_ROWS_PER_USER, seed=0)


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


def _sequence(encoder: str, **space: Sequence[Any]) -> Baseline:
    def fit(splits: Splits, seed: int, **parameters: Any) -> SequenceRecommender:
        model = SequenceRecommender(encoder, splits.n_items, SequenceSettings(**parameters), seed)
        return model.fit(splits.train, splits.valid)

    return Baseline(fit, {**_SPACE, **space})


_SPACE: dict[str, Sequence[Any]] = {
    "length": (10, 20, 50),
    "hidden": (64, 128),
    "layers": (1, 2),
    "dropout": (0.1, 0.2, 0.3, 0.5),
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "weight_decay": (0.0, 0.01, 0.1),
    "batch_size": (16, 32, 64),
    "init_std": (0.02, 0.06),
}
BASELINES |= {
    "GRU4Rec": _sequence("gru4rec"),
    "Caser": _sequence("caser", layers=(1,)),
    "SASRec": _sequence("sasrec", heads=(1, 2)),
    "eSASRec": _sequence("esasrec", heads=(1, 2), negatives=(64, 128, 256)),
}
