"""Every baseline by name: how it is fitted, and what a search may choose from.

A module of this package that adds an entry to :data:`BASELINES` has a baseline that is tuned, reported and listed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import Example, Item
from rrec_lib.evaluation.evaluate import Recommender
from rrec_lib.evaluation.reports import data_hash

SEQUENCE_MODEL = "SASRec"  # on which others lean
WRITE = ("TIGER", "D3", "S-DPO", "SPRec", "LLaRA")  # what they recommend, through a trie
HISTORY_LENGTHS = (1, 2, 5, 10, 20, 50, None)


class BudgetError(ValueError):
    """A fit whose hours don't pay for what it has to do."""


@dataclass(frozen=True)
class Means:
    """What a baseline that trains or reads a language model needs beside the rows.

    Attributes:
        profile: its model, and the sizes of training.
        folder: of searches; checkpoints lie below it.
        hours: of the processor that one fit trains for.
        every: steps between looks at valid.
        beams: of the search that ranks; None ranks the whole catalogue exactly.
    """

    profile: Profile
    folder: Path
    hours: float = 1.0
    every: int = 50
    beams: int | None = 50


@dataclass(frozen=True)
class Splits:
    """The rows of a prepared dataset that a baseline may look at, read once."""

    train: Sequence[Example]
    valid: Sequence[Example]  # for choosing parameters, and for early stopping
    items: Sequence[Item]
    data: str  # hash of the dataset
    means: Means | None = None  # of baselines that train or read a language model

    @classmethod
    def of(cls, dataset: DatasetDict, means: Means | None = None) -> "Splits":
        """Those of a prepared dataset."""
        return cls(list(dataset["train"]), list(dataset["valid"]), list(dataset["items"]), data_hash(dataset), means)

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.items)


@dataclass(frozen=True)
class Baseline:
    """``fit(splits, seed, **parameters)``, and for each parameter the values that a search draws from.

    One that ``trains_language_model`` takes :class:`Means` and hours, one that ``reads_language_model`` has its states
    from one and takes minutes; both run only where they are named. What it ``leans_on`` is tuned first.
    """

    fit: Callable[..., Recommender]
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trains_language_model: bool = False
    reads_language_model: bool = False
    leans_on: str | None = None

    @property
    def only_named(self) -> bool:
        """Whether it is run only where it is named."""
        return self.trains_language_model or self.reads_language_model


BASELINES: dict[str, Baseline] = {}  # each module adds its own


def fitted_baselines(dataset: DatasetDict) -> dict[str, Recommender]:
    """The four that need no search, by name, fitted on the ``train`` split of a prepared dataset."""
    splits = Splits.of(dataset)
    window = max(len(example["history"]) for example in splits.train)
    settings: dict[str, dict[str, Any]] = {
        "chance": {}, "popularity": {}, "co-occurrence": {}, "text similarity": {"length": window},
    }  # fmt: skip
    return {name: BASELINES[name].fit(splits, 0, **parameters) for name, parameters in settings.items()}
