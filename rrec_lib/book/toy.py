"""The toy world of the book: three users, six items, two dimensions, every number computable by hand."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ToyWorld:
    """A world small enough for a pencil. Texts count its users and items from 1, as names; indices start at 0.

    Attributes:
        users: names of the B = 3 users.
        items: names of the N = 6 items.
        item_states: (N, d) item embeddings, d = 2, not normalised.
        user_states: (B, G, d) final hidden states of G = 2 reasonings per user.
        histories: what each user has already seen, as item indices.
        targets: (B,) the item each user chose next.
        temperature: τ of the item softmax; 1 keeps the arithmetic short.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    item_states: torch.Tensor
    user_states: torch.Tensor
    histories: tuple[tuple[int, ...], ...]
    targets: torch.Tensor
    temperature: float


def toy_world() -> ToyWorld:
    """Build the toy world in float64; every state has length 1 or 5, so cosines are fifths."""
    return ToyWorld(
        users=("user 1", "user 2", "user 3"),
        items=("space opera", "robot noir", "heist", "courtroom", "romance", "musical"),
        item_states=torch.tensor([[1, 0], [4, 3], [3, 4], [0, 1], [-3, 4], [-1, 0]], dtype=torch.float64),
        user_states=torch.tensor([[[1, 0], [0, 1]], [[3, 4], [-1, 0]], [[-3, 4], [0, 1]]], dtype=torch.float64),
        histories=((0,), (3,), (5,)),
        targets=torch.tensor([1, 2, 4]),
        temperature=1.0,
    )
