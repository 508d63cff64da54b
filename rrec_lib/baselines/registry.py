"""Every baseline by name: how it is fitted, and what a search may choose from.

A module of this package that adds an entry to :data:`BASELINES` has a baseline that is tuned, reported and listed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import DatasetDict

from rrec_lib.data.examples import Example, Item
from rrec_lib.evaluation.evaluate import Recommender
from rrec_lib.evaluation.reports import data_hash

HISTORY_LENGTHS = (1, 2, 5, 10, 20, 50, None)


@dataclass(frozen=True)
class Splits:
    """The rows of a prepared dataset that a baseline may look at, read once."""

    train: Sequence[Example]
    valid: Sequence[Example]  # for choosing parameters, and for early stopping
    items: Sequence[Item]
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


BASELINES: dict[str, Baseline] = {}  # each module adds its own


def fitted_baselines(dataset: DatasetDict) -> dict[str, Recommender]:
    """The four that need no search, by name, fitted on the ``train`` split of a prepared dataset."""
    splits = Splits.of(dataset)
    window = max(len(example["history"]) for example in splits.train)
    settings: dict[str, dict[str, Any]] = {
        "chance": {}, "popularity": {}, "co-occurrence": {}, "text similarity": {"length": window},
    }  # fmt: skip
    return {name: BASELINES[name].fit(splits, 0, **parameters) for name, parameters in settings.items()}
