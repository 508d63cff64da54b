"""Tie-aware ranks and top lists."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rrec_lib.evaluation.ranks import count_true, target_rank, top_k

NEG_INF = float("-inf")


def test_target_rank_by_hand():
    scores = torch.tensor([[3.0, 2.0, 2.0, 1.0], [NEG_INF, NEG_INF, 5.0, 0.0], [NEG_INF, 1.0, 2.0, 3.0]])
    greater, equal = target_rank(scores, torch.tensor([1, 3, 0]))
    assert greater.tolist() == [1, 1, 4]
    assert equal.tolist() == [2, 1, 0]


def test_trues_are_counted_along_the_last_axis_in_any_shape():
    flags = torch.tensor([[[True, False, True]], [[False, False, False]]])
    assert count_true(flags).tolist() == [[2], [0]]
    assert count_true(flags[0, 0]).item() == 2
    assert count_true(flags).dtype == torch.int64
    assert count_true(flags[:0]).shape == (0, 1)


def test_trues_are_counted_by_numpy_on_a_processor_alone(monkeypatch):
    monkeypatch.setattr(np, "count_nonzero", lambda flags, axis: [10 + axis])
    assert count_true(torch.ones(1, 2, dtype=torch.bool)).tolist() == [9]
    elsewhere: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"), sum=lambda axis: 20 + axis)
    assert count_true(elsewhere) == 19


def test_top_k_lists_the_best_and_keeps_catalogue_order_in_ties():
    best = top_k(torch.tensor([[1.0, 3.0, 3.0, NEG_INF, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]]), 3)
    assert best.items.tolist() == [[1, 2, 4], [0, 1, 2]]
    assert best.scores[0].tolist() == [3.0, 3.0, 2.0]
    assert top_k(torch.zeros(2, 4), 9).items.shape == (2, 4)
    assert top_k(torch.tensor([NEG_INF, 1.0]), 2).scores.tolist() == [1.0, NEG_INF]
    assert top_k(torch.tensor([0.0, 1.0]), 1).items.tolist() == [1]
    with pytest.raises(ValueError, match=r"^k must be at least 1, got 0$"):
        top_k(torch.zeros(2), 0)
    with pytest.raises(ValueError, match="NaN"):  # sorted, it would recommend the catalogue's order
        top_k(torch.full((2, 3), torch.nan), 1)
