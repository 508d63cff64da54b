"""ItemKNN and EASE against their formulas, written out."""

import numpy as np
import pytest
import torch

from rrec_lib.baselines.item_item import EASE, ItemKNN
from rrec_lib.baselines.user_logs import interaction_matrix, recent, user_logs

N = 5


def dense(train):
    """User 1 has had 0, 1, 2; user 2 0, 1, 3; user 3 3, 1."""
    matrix = np.zeros((3, N))
    for row, items in enumerate(([0, 1, 2], [0, 1, 3], [3, 1])):
        matrix[row, items] = 1
    return matrix


def test_a_user_s_log_is_what_the_last_example_saw_and_its_target(train, rows):
    logs = user_logs(train)
    assert [log.items for log in logs] == [[0, 1, 2], [0, 1, 3], [3, 1]]
    assert [log.is_target for log in logs] == [[False, True, True], [False, True, True], [False, True]]
    (both,) = user_logs(rows((1, [0], 1, 5), (1, [0], 2, 5)))  # two targets of one moment
    assert both.items == [0, 1, 2]
    # liked, disliked, liked, and the disliked one again, which is liked now: the event is a target, not the item
    (again,) = user_logs(rows((1, [1, 0], 2, 5), (1, [1, 0, 2], 0, 6)))
    assert (again.items, again.is_target) == ([1, 0, 2, 0], [False, False, True, True])


def test_recent_cuts_from_the_front(train):
    assert recent(train[1], 1) == [1]
    assert recent(train[1], None) == [0, 1]


def test_the_matrix_counts_a_repeat_once():
    assert interaction_matrix([[1, 1, 2], []], 3).to_dense().tolist() == [[0, 1, 1], [0, 0, 0]]


def test_itemknn_is_the_shrunk_cosine(train, rows):
    x = dense(train)
    norms = np.sqrt((x**2).sum(0))
    cosine = x.T @ x / np.maximum(np.outer(norms, norms) + 2.0, 1e-12)
    np.fill_diagonal(cosine, 0)
    asked = rows((9, [0, 3], 1, 9))
    assert ItemKNN(train, N, neighbours=N, shrink=2.0).scores(asked)[0].numpy() == pytest.approx(cosine[0] + cosine[3])
    one = ItemKNN(train, N, neighbours=1, shrink=2.0).weights
    assert (one > 0).sum(1).tolist() == [1, 1, 1, 1, 0]  # nobody had item 4
    assert one[0, 1] == pytest.approx(cosine[0, 1])


def test_ease_is_the_constrained_least_squares_solution(train, rows):
    """Each column solved by itself with its own item left out, which is what the closed form stands for."""
    x, penalty = dense(train), 3.0
    weights = np.zeros((N, N))
    for item in range(N):
        others = [other for other in range(N) if other != item]
        gram = x[:, others].T @ x[:, others] + penalty * np.eye(N - 1)
        weights[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    model = EASE(train, N, penalty)
    assert model.weights.numpy() == pytest.approx(weights, abs=1e-5)
    asked = rows((9, [0, 3], 1, 9), (9, [4, 0, 3], 1, 9))
    assert model.scores(asked)[0].numpy() == pytest.approx(weights[0] + weights[3], abs=1e-5)
    assert torch.equal(EASE(train, N, penalty, length=2).scores(asked)[0], EASE(train, N, penalty, 2).scores(asked)[1])
    assert not np.allclose(EASE(train, N, 30.0).weights, weights)
