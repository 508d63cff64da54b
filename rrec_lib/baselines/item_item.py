"""Item-to-item methods: neighbours by cosine, and EASE, a linear model in closed form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrec_lib.baselines.histories import interaction_matrix, recent, user_logs
from rrec_lib.evaluation import Example


class _ItemItem:
    """Scores are the sum of the weights (N, N) from the items of a history."""

    weights: Tensor

    def __init__(self, train: Sequence[Example], n_items: int, length: int | None) -> None:
        self.length = length
        matrix = interaction_matrix([log.items for log in user_logs(train)], n_items)
        self.counts = torch.sparse.mm(matrix.t(), matrix.to_dense())  # (N, N): users that two items share

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) summed weights from the last ``length`` items that each user had before."""
        histories = [recent(example, self.length) for example in examples]
        return torch.sparse.mm(interaction_matrix(histories, len(self.weights)), self.weights)


class ItemKNN(_ItemItem):
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
        super().__init__(train, n_items, length)
        norms = self.counts.diagonal().sqrt()
        similarity = self.counts / (norms[:, None] * norms + shrink).clamp(min=1e-12)
        similarity.fill_diagonal_(0)
        kept, columns = similarity.topk(min(neighbours, n_items), dim=1)
        self.weights = torch.zeros_like(similarity).scatter_(1, columns, kept)


class EASE(_ItemItem):
    """Linear weights between items that best reproduce the users' rows, none to itself (Steck, 2019, Eqn 8)."""

    def __init__(self, train: Sequence[Example], n_items: int, l2: float = 100.0, length: int | None = None) -> None:
        """Args:
        train: training examples.
        n_items: N; the closed form inverts an (N, N) matrix.
        l2: λ, the penalty on the squared weights.
        length: of the history that is summed; all of it if None.
        """
        super().__init__(train, n_items, length)
        inverse = torch.linalg.inv(self.counts + l2 * torch.eye(n_items))
        self.weights = -inverse / inverse.diagonal()
        self.weights.fill_diagonal_(0)
