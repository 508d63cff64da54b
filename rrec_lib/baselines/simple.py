"""Recommenders with nothing to tune, fitted on training examples only."""

import re
from collections.abc import Sequence

import torch
from datasets import DatasetDict
from torch import Tensor
from torch.nn.functional import normalize

from rrec_lib.evaluation import Example, Recommender


class Chance:
    """All films score the same, so that tie-aware metrics are those of a random order, exactly."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) zeros."""
        return torch.zeros(len(examples), self.n_items)


class Popularity:
    """Score an item by how often it was a training target."""

    def __init__(self, train: Sequence[Example], n_items: int) -> None:
        targets = torch.tensor([example["target"] for example in train])
        self.counts = torch.bincount(targets, minlength=n_items).float()

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N), the same row for everybody."""
        return self.counts.expand(len(examples), -1)


class LastItemCooccurrence:
    """Score an item by how often it followed the user's last film in training, popularity breaking ties."""

    def __init__(self, train: Sequence[Example], n_items: int) -> None:
        self.follows = torch.zeros(n_items, n_items)
        last = torch.tensor([example["history"][-1] for example in train])
        targets = torch.tensor([example["target"] for example in train])
        self.follows.index_put_((last, targets), torch.ones(len(last)), accumulate=True)
        popularity = torch.bincount(targets, minlength=n_items).float()
        self.tiebreak = popularity / (popularity.max() + 1)  # below 1: it never outweighs a co-occurrence

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) counts of transitions from the last item of each history."""
        last = torch.tensor([example["history"][-1] for example in examples])
        return self.follows[last] + self.tiebreak


class TextSimilarity:
    """Score an item by the TF-IDF cosine of its title, decade, genres and description with those of the history."""

    def __init__(self, items: Sequence[Example]) -> None:
        documents = [_words(item) for item in items]
        vocabulary = {word: i for i, word in enumerate(sorted({word for words in documents for word in words}))}
        counts = torch.zeros(len(documents), len(vocabulary))
        for row, words in enumerate(documents):
            for word in words:
                counts[row, vocabulary[word]] += 1
        frequency = (counts > 0).sum(0)
        self.vectors = normalize(counts * torch.log((1 + len(documents)) / (1 + frequency)), dim=1)

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) cosines of the history's mean vector with every item."""
        profiles = torch.stack([self.vectors[list(example["history"])].mean(0) for example in examples])
        return normalize(profiles, dim=1) @ self.vectors.T


def fitted_baselines(dataset: DatasetDict) -> dict[str, Recommender]:
    """All of them, by name, fitted on the ``train`` split of a prepared dataset."""
    train, items = list(dataset["train"]), list(dataset["items"])
    return {
        "chance": Chance(len(items)),
        "popularity": Popularity(train, len(items)),
        "co-occurrence": LastItemCooccurrence(train, len(items)),
        "text similarity": TextSimilarity(items),
    }


def _words(item: Example) -> list[str]:
    decade = [f"{item['year'] // 10 * 10}s"] if item.get("year") else []
    labels = [label.lower() for label in item.get("genres") or item.get("categories") or []]
    return re.findall(r"\w+", f"{item['title']} {item.get('description') or ''}".lower()) + decade + labels
