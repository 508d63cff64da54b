"""What every baseline reads from the examples: whole histories, and each training user's log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from rrec_lib.data.examples import Example


@dataclass(frozen=True)
class UserLog:
    """What one user did in training, oldest first, and which of it were targets; both (n,)."""

    items: list[int]
    is_target: list[bool]


def user_logs(train: Iterable[Example]) -> list[UserLog]:
    """Each user's training log: what the last training example has ``seen``, and the targets of that moment.

    Args:
        train: training examples. Valid and test rows hold later events and have no place here.

    Returns:
        One log per user, in order of first appearance.
    """
    by_user: dict[object, list[Example]] = {}
    for example in train:
        by_user.setdefault(example["user_id"], []).append(example)
    logs = []
    for examples in by_user.values():
        last = max(examples, key=lambda example: (example["target_timestamp"], len(example["seen"])))
        items, is_target = list(last["seen"]), [False] * len(last["seen"])
        for moment, alike in groupby(sorted(examples, key=_moment), key=_moment):
            wanted = [example["target"] for example in alike]
            if moment == _moment(last):  # behind all that was seen
                items, is_target = [*items, *wanted], [*is_target, *[True] * len(wanted)]
                continue
            for target in wanted:  # the event of that moment, not another of the same item
                is_target[items.index(target, moment[1])] = True
        logs.append(UserLog(items, is_target))
    return logs


def _moment(example: Example) -> tuple[int, int]:
    """When a target was, and how many events lie before it."""
    return int(example["target_timestamp"]), len(example["seen"])


def recent(example: Example, length: int | None) -> list[int]:
    """The last items that the user had before the target; all of them without a length.

    ``seen`` rather than the prompt's ``history``: a baseline may look further back than a prompt has room for.
    """
    items = list(example["seen"])
    return items[-length:] if length else items


def interaction_matrix(histories: Sequence[Sequence[int]], n_items: int) -> Tensor:
    """(U, N) sparse matrix of ones where a history holds an item, repeats counted once."""
    pairs = [(row, item) for row, history in enumerate(histories) for item in set(history)]
    index = torch.tensor(pairs, dtype=torch.long).T if pairs else torch.empty(2, 0, dtype=torch.long)
    shape, ones = (len(histories), n_items), torch.ones(index.shape[1])
    return torch.sparse_coo_tensor(index, ones, shape, check_invariants=True).coalesce()


def known_before(event_times: np.ndarray, times: np.ndarray) -> np.ndarray:
    """For each time, how many of the ascending event times are strictly earlier."""
    return np.searchsorted(event_times, times, side="left")
