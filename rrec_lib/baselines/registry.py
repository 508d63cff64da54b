"""Every baseline by name: how it is fitted, and what a search may choose from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import DatasetDict

from rrec_lib.baselines.encoders import SequenceSettings
from rrec_lib.baselines.item_item import EASE, ItemKNN
from rrec_lib.baselines.sequence import SequenceRecommender
from rrec_lib.baselines.simple import Chance, Popularity, WindowCooccurrence
from rrec_lib.baselines.text import BM25, TextSimilarity
from rrec_lib.evaluation.evaluate import Example, Recommender
from rrec_lib.evaluation.reports import data_hash

LENGTHS = (1, 2, 5, 10, 20, 50, None)


@dataclass(frozen=True)
class Splits:
    """The rows of a prepared dataset that a baseline may look at, read once."""

    train: Sequence[Example]
    valid: Sequence[Example]  # for choosing parameters, and for early stopping
    items: Sequence[Example]
    data: str  # hash of the dataset

    @classmethod
    def of(cls, dataset: DatasetDict) -> "Splits":
        """Those of a prepared dataset."""
        return cls(list(dataset["train"]), list(dataset["valid"]), list(dataset["items"]), data_hash(dataset))

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.items)


@dataclass(frozen=True)
class Baseline:
    """``fit(splits, seed, **parameters)``, and for each parameter the values that a search draws from."""

    fit: Callable[..., Recommender]
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def _sequence(encoder: str) -> Callable[..., Recommender]:
    def fit(splits: Splits, seed: int, **parameters: Any) -> Recommender:
        model = SequenceRecommender(encoder, splits.n_items, SequenceSettings(**parameters), seed)
        return model.fit(splits.train, splits.valid)

    return fit


_SEQUENCE_SPACE: dict[str, Sequence[Any]] = {
    "length": (10, 20, 50),
    "hidden": (64, 128),
    "layers": (1, 2),
    "dropout": (0.1, 0.2, 0.3, 0.5),
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "weight_decay": (0.0, 0.01, 0.1),
    "batch_size": (16, 32, 64),
    "init_std": (0.02, 0.06),
}
BASELINES: dict[str, Baseline] = {
    "chance": Baseline(lambda splits, seed: Chance(splits.n_items)),
    "popularity": Baseline(lambda splits, seed: Popularity(splits.train, splits.n_items)),
    "recent popularity": Baseline(
        lambda splits, seed, days: Popularity(splits.train, splits.n_items, days),
        {"days": (7, 30, 90, 180, 365, 730, 1460, 2920)},
    ),
    "co-occurrence": Baseline(lambda splits, seed: WindowCooccurrence(splits.train, splits.n_items)),
    "window co-occurrence": Baseline(
        lambda splits, seed, length, decay: WindowCooccurrence(splits.train, splits.n_items, length, decay),
        {"length": (2, 3, 5, 10, 20, 50), "decay": (0.3, 0.5, 0.7, 0.9, 1.0)},
    ),
    "ItemKNN": Baseline(
        lambda splits, seed, **parameters: ItemKNN(splits.train, splits.n_items, **parameters),
        {
            "neighbours": (10, 20, 50, 100, 200, 500, 1000, 2000),
            "shrink": (0, 1, 10, 50, 100, 300, 1000),
            "length": LENGTHS,
        },
    ),
    "EASE": Baseline(
        lambda splits, seed, **parameters: EASE(splits.train, splits.n_items, **parameters),
        {"l2": (10, 100, 300, 1000, 3000, 10_000, 30_000, 100_000), "length": LENGTHS},
    ),
    "text similarity": Baseline(lambda splits, seed, length: TextSimilarity(splits.items, length), {"length": LENGTHS}),
    "BM25": Baseline(
        lambda splits, seed, **parameters: BM25(splits.items, **parameters),
        {"k1": (0, 0.5, 1.2, 2.0, 4.0, 8.0, 16.0), "b": (0, 0.25, 0.5, 0.75, 1), "length": LENGTHS},
    ),
    "GRU4Rec": Baseline(_sequence("gru4rec"), _SEQUENCE_SPACE),
    "Caser": Baseline(_sequence("caser"), {**_SEQUENCE_SPACE, "layers": (1,)}),
    "SASRec": Baseline(_sequence("sasrec"), {**_SEQUENCE_SPACE, "heads": (1, 2)}),
    "eSASRec": Baseline(_sequence("esasrec"), {**_SEQUENCE_SPACE, "heads": (1, 2), "negatives": (64, 128, 256)}),
}


def fitted_baselines(dataset: DatasetDict) -> dict[str, Recommender]:
    """The four that need no search, by name, fitted on the ``train`` split of a prepared dataset."""
    splits = Splits.of(dataset)
    window = max(len(example["history"]) for example in splits.train)
    settings: dict[str, dict[str, Any]] = {
        "chance": {}, "popularity": {}, "co-occurrence": {}, "text similarity": {"length": window},
    }  # fmt: skip
    return {name: BASELINES[name].fit(splits, 0, **parameters) for name, parameters in settings.items()}
