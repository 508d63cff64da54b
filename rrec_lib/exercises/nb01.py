"""Checks for the exercises of notebook 01, the quickstart."""

from collections.abc import Callable, Sequence

import torch

from rrec_lib.evaluation.ranks import top_k
from rrec_lib.evaluation.scoring import mask_items
from rrec_lib.exercises.base import report


@report
def check_average_overlap(answer: Callable[[list[int], list[int], int], float]) -> None:
    """Right: the mean over depths of the share in common, so an agreement at the top counts most.

    Args:
        answer: takes two rankings and k, returns a share.
    """
    a, b = [1, 2, 3, 4], [2, 1, 9, 3]  # overlaps at depths 1 to 4: 0, 1, 2/3, 3/4
    cases = [(a, a, 3, 1.0), (a, b, 1, 0.0), (a, b, 2, 1 / 2), (a, b, 3, 5 / 9), (a, b, 4, 29 / 48), ([5], [7], 1, 0.0)]
    for first, second, k, expected in cases:
        value = answer(list(first), list(second), k)
        assert abs(float(value) - expected) < 1e-9, (
            f"{first} and {second}, k = {k}: expected {expected:.3f}, got {value}"
        )


@report
def check_top_k(answer: Callable[[torch.Tensor, Sequence[int], int], Sequence[int]]) -> None:
    """Right: the best unseen films, best first.

    Args:
        answer: takes scores (N,), the films seen and k; returns k film numbers.
    """
    cases = [([0.1, 0.9, 0.5, 0.7], [1], 2), ([-3.0, -1.0, -2.0, -4.0], [1, 2], 2), ([5.0, 1.0, 3.0, 2.0, 4.0], [], 3)]
    for scores, seen, k in cases:
        tensor = torch.tensor(scores)
        value = answer(tensor, list(seen), k)
        given = [int(i) for i in value]
        again = [i for i in given if i in seen]
        if again:
            raise AssertionError(f"scores {scores}: film {again[0]} has been seen, yet you recommend it")
        assert torch.equal(tensor, torch.tensor(scores)), "you changed the caller's scores: work on a copy"
        expected = top_k(mask_items(torch.tensor([scores]), [seen])[0], k).items.tolist()
        assert given == expected, f"scores {scores}, seen {seen}: expected {expected}, got {given}"
