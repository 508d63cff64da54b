"""Checks for the exercises of notebook 03, the two heads."""

from collections.abc import Callable

import torch

from rrec_lib.evaluation.scoring import score_items
from rrec_lib.exercises.base import report


@report
def check_last_states(answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """Right: each row is read at its own last real token.

    Args:
        answer: takes hidden states (n, T, d) and a mask (n, T), returns states (n, d).
    """
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(4, 6, 3, generator=generator)
    lengths = torch.tensor([6, 1, 4, 2])
    mask = (torch.arange(6) < lengths[:, None]).long()
    value = answer(hidden.clone(), mask.clone())
    assert value.shape == (4, 3), f"expected shape (4, 3), got {tuple(value.shape)}"
    assert not torch.equal(value, hidden[:, -1]), "you read the last column, which is padding in three of the four rows"
    for row, length in enumerate(lengths.tolist()):
        right = torch.equal(value[row], hidden[row, length - 1])
        assert right, f"row {row} has {length} real tokens, so its state stands at index {length - 1}"


@report
def check_rec_head(answer: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]) -> None:
    """Right: cosines over τ, whatever the lengths.

    Args:
        answer: takes users (B, d), films (N, d) and τ, returns scores (B, N).
    """
    generator = torch.Generator().manual_seed(6)
    users = torch.randn(3, 4, generator=generator, dtype=torch.float64) * torch.tensor([[0.1], [1.0], [9.0]])
    films = torch.randn(5, 4, generator=generator, dtype=torch.float64) * 3
    for tau in (1.0, 0.02):
        value = answer(users.clone(), films.clone(), tau)
        expected = score_items(users, films, tau)
        assert value.shape == (3, 5), f"expected shape (3, 5), got {tuple(value.shape)}"
        lengths = torch.allclose(value, users @ films.T / tau)
        assert not lengths, "that is the inner product: divide every state by its length first"
        multiplied = tau != 1 and torch.allclose(value, expected * tau * tau)
        assert not multiplied, "divide by τ, do not multiply"
        problem = f"for τ = {tau} expected {expected[0, 0]:.4f} first, got {value[0, 0]:.4f}"
        assert torch.allclose(value, expected, atol=1e-6), problem
