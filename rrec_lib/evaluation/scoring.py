"""Scores of items for user states, and which items may be recommended."""

from collections.abc import Sequence
from itertools import chain

import torch


def score_items(user_states: torch.Tensor, item_embeddings: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Score every item for every user state: cosine similarity over a temperature.

    Args:
        user_states: (..., d) last hidden states; any length, they are L2-normalised here.
        item_embeddings: (N, d) item rows, L2-normalised here too.
        temperature: τ > 0; cosines lie in [-1, 1], scores in [-1/τ, 1/τ].

    Returns:
        (..., N) scores, float32 or wider even inside autocast: in bfloat16 most scores would tie.

    Raises:
        ValueError: if the temperature is not positive or the widths differ.

    Source: R²ec's rec_head; the cosine form is that of the official code (the paper writes an inner product).
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if user_states.shape[-1] != item_embeddings.shape[-1]:
        raise ValueError(f"user states are {user_states.shape[-1]} wide, item rows {item_embeddings.shape[-1]}")
    with torch.autocast(user_states.device.type, enabled=False):
        users, items = unit_rows(user_states), unit_rows(item_embeddings)
        dtype = torch.promote_types(users.dtype, items.dtype)
        return users.to(dtype) @ items.to(dtype).T / temperature


def unit_rows(states: torch.Tensor) -> torch.Tensor:
    """Divide each last-dimension vector by its length, in float32 or wider; a zero vector stays zero."""
    wide = states if states.dtype == torch.float64 else states.float()
    return torch.nn.functional.normalize(wide, dim=-1, eps=1e-12)


def mask_items(
    scores: torch.Tensor, seen: Sequence[Sequence[int]], targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Take the items that a user has already seen out of the ranking.

    Args:
        scores: (B, N) or (B, G, N).
        seen: for each of the B users, catalogue rows to remove; repeats are harmless.
        targets: (B,) rows that stay rankable even where ``seen`` names them, since people do return to a film;
            :func:`repeated_targets` counts those. None when recommending to somebody whose next item is unknown.

    Returns:
        A new tensor of the shape of ``scores``, −inf at the removed items.

    Raises:
        ValueError: if ``seen`` has not one entry per user, or names an item outside the catalogue.
    """
    if len(seen) != scores.shape[0]:
        raise ValueError(f"seen has {len(seen)} entries for {scores.shape[0]} rows of scores")
    rows, columns = _seen_pairs(seen, targets, scores.shape[-1])
    masked = scores.clone()
    masked.movedim(-1, 1)[rows.to(scores.device), columns.to(scores.device)] = float("-inf")
    return masked


def seen_items(seen: Sequence[Sequence[int]], targets: torch.Tensor, catalogue: int) -> torch.Tensor:
    """(B, N) what :func:`mask_items` takes out of the ranking, as booleans on the device of the targets.

    Args:
        seen, targets: as there.
        catalogue: N.
    """
    rows, columns = _seen_pairs(seen, targets, catalogue)
    mask = torch.zeros(len(seen), catalogue, dtype=torch.bool, device=targets.device)
    mask[rows.to(mask.device), columns.to(mask.device)] = True
    return mask


def repeated_targets(seen: Sequence[Sequence[int]], targets: torch.Tensor) -> torch.Tensor:
    """Say which targets their own user had already seen.

    Args:
        seen: for each of the B users, the catalogue rows seen before the target.
        targets: (B,) catalogue rows.

    Returns:
        (B,) booleans; their sum is the number of repeats to report beside a metric.
    """
    rows, columns = _pairs(seen)
    repeated = torch.zeros(len(seen), dtype=torch.bool)
    repeated[rows[columns == targets.cpu()[rows]]] = True
    return repeated


def _seen_pairs(
    seen: Sequence[Sequence[int]], targets: torch.Tensor | None, catalogue: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of what was seen, without the targets."""
    rows, columns = _pairs(seen)
    check_items(columns, catalogue, "seen")
    if targets is None:
        return rows, columns
    kept = columns != targets.cpu()[rows]
    return rows[kept], columns[kept]


def _pairs(seen: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of every item that a list names."""
    rows = torch.repeat_interleave(torch.tensor([len(items) for items in seen], dtype=torch.long))
    return rows, torch.tensor(list(chain.from_iterable(seen)), dtype=torch.long)


def check_items(items: torch.Tensor, size: int, name: str) -> None:
    """Raise ``ValueError`` naming the range of ``items`` if one is not a row of a catalogue of ``size``."""
    if items.numel() and (int(items.min()) < 0 or int(items.max()) >= size):
        raise ValueError(f"{name} lie in {int(items.min())}..{int(items.max())}, the catalogue has 0..{size - 1}")
