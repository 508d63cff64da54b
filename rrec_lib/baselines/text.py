"""Recommenders that read: items whose text is like that of the history, by TF-IDF cosine or by BM25."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rrec_lib.baselines.item_item import ItemItem
from rrec_lib.baselines.registry import BASELINES, HISTORY_LENGTHS, Baseline
from rrec_lib.baselines.user_logs import recent
from rrec_lib.data.examples import Example, Item


class TextSimilarity:
    """Score an item by the TF-IDF cosine of its text with those of the history (Lops et al., 2011)."""

    def __init__(self, items: Sequence[Item], length: int | None = None) -> None:
        """Args:
        items: the item table; title, decade, genres or categories and description count.
        length: of the history whose mean is taken; all of it if None.
        """
        self.length = length
        counts = term_counts(items)
        idf = ((1 + len(items)) / (1 + document_frequency(counts))).log()
        vectors = reweighted(counts, counts.values() * idf[counts.indices()[1]])
        products = all_products(vectors, vectors)
        norms = products.diagonal().sqrt().clamp(min=1e-12)
        self.cosines = products / norms / norms[:, None]  # (N, N)

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) cosines of the history's mean vector with every item."""
        rows = []
        for example in examples:
            history = recent(example, self.length)
            with_all = self.cosines[history].mean(0)
            rows.append(with_all / with_all[history].mean().sqrt().clamp(min=1e-6))  # the mean vector's own length
        return torch.stack(rows)


class BM25(ItemItem):
    """The history's texts are the query, an item's text is the document (Robertson & Zaragoza, 2009).

    The inverse document frequency has one added inside its logarithm, so that a word of most texts counts nothing
    rather than against an item.
    """

    def __init__(self, items: Sequence[Item], k1: float = 1.2, b: float = 0.75, length: int | None = None) -> None:
        """Args:
        items: the item table; title, decade, genres or categories and description count.
        k1: how soon a word's further occurrences stop to count; 0 asks only whether it occurs.
        b: how far counts are divided by the text's length over the mean, 0 to 1.
        length: of the history that asks; all of it if None.
        """
        counts = term_counts(items)
        rows, words = counts.indices()
        known_in = document_frequency(counts)
        idf = (1 + (len(items) - known_in + 0.5) / (known_in + 0.5)).log()
        lengths = torch.zeros(len(items)).index_add_(0, rows, counts.values())
        norms = k1 * (1 - b + b * lengths / lengths.mean().clamp(min=1e-12))
        saturated = counts.values() * (k1 + 1) / (counts.values() + norms[rows])
        super().__init__(all_products(counts, reweighted(counts, saturated * idf[words])), length)


def term_counts(items: Sequence[Item]) -> Tensor:
    """(N, V) sparse: how often each of the catalogue's words stands in each item's text."""
    documents = [Counter(_words(item)) for item in items]
    columns = {word: column for column, word in enumerate(sorted({word for words in documents for word in words}))}
    index = [[row, columns[word]] for row, words in enumerate(documents) for word in words]
    values = torch.tensor([count for words in documents for count in words.values()], dtype=torch.float32)
    shape = (len(items), len(columns))
    return torch.sparse_coo_tensor(torch.tensor(index).T, values, shape, check_invariants=True).coalesce()


def document_frequency(counts: Tensor) -> Tensor:
    """(V,) in how many texts each word stands."""
    return counts.indices()[1].bincount(minlength=counts.shape[1]).float()


def reweighted(counts: Tensor, values: Tensor) -> Tensor:
    """The same sparse places with other values."""
    return torch.sparse_coo_tensor(counts.indices(), values, counts.shape, is_coalesced=True, check_invariants=True)


def all_products(left: Tensor, right: Tensor) -> Tensor:
    """(N, N) inner products of sparse rows, some columns at a time: a dense row has a place for every word there is."""
    blocks = torch.arange(len(right)).split(256)
    return torch.cat([torch.sparse.mm(left, right.index_select(0, block).to_dense().T) for block in blocks], 1)


def _words(item: Item) -> list[Any]:
    decade = [f"{item['year'] // 10 * 10}s"] if item.get("year") else []
    labels = [label.lower() for label in item.get("genres") or item.get("categories") or []]
    return re.findall(r"\w+", f"{item['title']} {item.get('description') or ''}".lower()) + decade + labels


BASELINES |= {
    "text similarity": Baseline(
        lambda splits, seed, length: TextSimilarity(splits.items, length), {"length": HISTORY_LENGTHS}
    ),
    "BM25": Baseline(
        lambda splits, seed, **parameters: BM25(splits.items, **parameters),
        {"k1": (0, 0.5, 1.2, 2.0, 4.0, 8.0, 16.0), "b": (0, 0.25, 0.5, 0.75, 1), "length": HISTORY_LENGTHS},
    ),
}
