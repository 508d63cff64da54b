"""Item-to-item methods: neighbours by cosine, and EASE, a linear model in closed form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrec_lib.baselines.registry import BASELINES, HISTORY_LENGTHS, Baseline
from rrec_lib.baselines.user_logs import interaction_matrix, recent, user_logs
from rrec_lib.data.examples import Example


class ItemItem:
    """Scores are the sum of the weights (N, N) from the items of a history."""

    def __init__(self, weights: Tensor, length: int | None) -> None:
        """Args:
        weights: (N, N), from an item of the history to one that is scored.
        length: of the history that is summed; all of it if None.
        """
        self.weights, self.length = weights, length

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) summed weights from the last ``length`` items that each user had before."""
        histories = [recent(example, self.length) for example in examples]
        return torch.sparse.mm(interaction_matrix(histories, len(self.weights)), self.weights)


def shared_users(train: Sequence[Example], n_items: int) -> Tensor:
    """(N, N) how many training users two items share; on the diagonal, how many each has."""
    matrix = interaction_matrix([log.items for log in user_logs(train)], n_items)
    return torch.sparse.mm(matrix.t(), matrix.to_dense())


class ItemKNN(ItemItem):
    """Neighbours by cosine of their users, shrunk where few users stand behind it (Sarwar et al., 2001)."""

    def __init__(
        self, train: Sequence[Example], n_items: int, neighbours: int = 100, shrink: float = 10.0,
        length: int | None = None,
    ) -> None:  # fmt: skip
        """Args:
        train: training examples.
        n_items: N.
        neighbours: how many of an item's most similar items count.
        shrink: added to the cosine's denominator.
        length: of the history that is summed; all of it if None.
        """
        counts = shared_users(train, n_items)
        norms = counts.diagonal().sqrt()
        similarity = counts / (norms[:, None] * norms + shrink).clamp(min=1e-12)
        similarity.fill_diagonal_(0)
        kept, columns = similarity.topk(min(neighbours, n_items), dim=1)
        super().__init__(torch.zeros_like(similarity).scatter_(1, columns, kept), length)


class EASE(ItemItem):
    """Linear weights between items that best reproduce the users' rows, none to itself (Steck, 2019, Eqn 8)."""

    def __init__(self, train: Sequence[Example], n_items: int, l2: float = 100.0, length: int | None = None) -> None:
        """Args:
        train: training examples.
        n_items: N; the closed form inverts an (N, N) matrix.
        l2: λ, the penalty on the squared weights.
        length: of the history that is summed; all of it if None.
        """
        inverse = torch.linalg.inv(shared_users(train, n_items) + l2 * torch.eye(n_items))
        super().__init__((-inverse / inverse.diagonal()).fill_diagonal_(0), length)


BASELINES |= {
    "ItemKNN": Baseline(
        lambda splits, seed, **parameters: ItemKNN(splits.train, splits.n_items, **parameters),
        {
            "neighbours": (10, 20, 50, 100, 200, 500, 1000, 2000),
            "shrink": (0, 1, 10, 50, 100, 300, 1000),
            "length": HISTORY_LENGTHS,
        },
    ),
    "EASE": Baseline(
        lambda splits, seed, **parameters: EASE(splits.train, splits.n_items, **parameters),
        {"l2": (10, 100, 300, 1000, 3000, 10_000, 30_000, 100_000), "length": HISTORY_LENGTHS},
    ),
}
