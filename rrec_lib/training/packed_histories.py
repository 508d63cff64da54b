"""Blocks: successive targets of one user, whose prompts share a beginning and are therefore computed together.

A user's next prompt is mostly the last one and a line more. Told from the moment of the block's last target, its
prompts differ at their ends alone, so one row holds the longest of them, and each of the others goes on from where it
leaves it. A target costs its own line and the end of its prompt instead of a whole prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rrec_lib.data.examples import Example
from rrec_lib.model.encode import common_prefix

_HISTORY = ("history", "history_ratings", "history_timestamps")


def successive_targets(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Split each user's examples, in order of time, into blocks whose histories continue each other.

    Args:
        examples: E rows with ``user_id``, ``history``, ``seen`` and ``target_timestamp``.
        size: the most targets a block may hold.

    Returns:
        Row numbers of each block; every row is in exactly one. A block ends early where more items lie between two
        targets than a history holds.
    """
    if size < 1:
        raise ValueError(f"a block holds at least one target, got {size}")
    rows = sorted(range(len(examples)), key=lambda i: (str(examples[i]["user_id"]), len(examples[i]["seen"]), i))
    blocks: list[list[int]] = []
    for row in rows:
        last = examples[blocks[-1][-1]] if blocks else None
        if last is not None and len(blocks[-1]) < size and _continues(last, examples[row]):
            blocks[-1].append(row)
        else:
            blocks.append([row])
    return blocks


def as_seen_from_the_end(block: Sequence[Example]) -> list[dict[str, Any]]:
    """A block's examples with histories that begin where the first one does, told from the moment of the last target.

    Args:
        block: successive examples of a user, see :func:`successive_targets`.

    Returns:
        Examples whose histories are beginnings of one another. Those behind the first are longer than ``window``.
    """
    now = block[-1]["target_timestamp"]
    columns = {name: list(block[0][name]) for name in _HISTORY}
    told = []
    for before, example in zip([block[0], *block], block, strict=False):
        new = len(example["seen"]) - len(before["seen"])
        for name in _HISTORY:
            columns[name] += list(example[name])[len(example[name]) - new :]
        told.append({**example, **{name: list(columns[name]) for name in _HISTORY}, "target_timestamp": now})
    return told


def lines_of_block(block: Sequence[Example]) -> int:
    """How many lines the longest prompt of a block has, which says how wide its row is."""
    return len(block[0]["history"]) + len(block[-1]["seen"]) - len(block[0]["seen"])


def steps_of_like_lengths(lengths: Sequence[int], size: int, generator: torch.Generator) -> list[int]:
    """A random order in which the rows of a step have like lengths, so that hardly anything is padded.

    Args:
        lengths: of L rows.
        size: rows a step.
        generator: of the order.

    Returns:
        The numbers from 0 to L - 1; of a random draw of 16 steps each takes rows that are next to each other by length,
        and the steps come in random order. What fills no step comes last.
    """
    order = torch.randperm(len(lengths), generator=generator)
    steps = [step for draw in order.split(16 * size) for step in sorted(draw.tolist(), key=lambda row: lengths[row])]
    chunks = [steps[i : i + size] for i in range(0, len(steps), size)]
    whole = len(lengths) // size
    shuffled = [chunks[i] for i in torch.randperm(whole, generator=generator).tolist()] + chunks[whole:]
    return [row for chunk in shuffled for row in chunk]


@dataclass(frozen=True)
class SharedRow:
    """Sequences of token ids as one row, and what each has of its own.

    Attributes:
        beginning: what the longest begins with; each sequence shares a part of it.
        visible: how many tokens of the beginning each sequence shares.
        rest: what each sequence has behind that, at least one token.
    """

    beginning: list[int]
    visible: list[int]
    rest: list[list[int]]


def share_row(sequences: Sequence[Sequence[int]]) -> SharedRow:
    """Let sequences go on from where they leave the longest one."""
    longest = max((list(sequence) for sequence in sequences), key=len)
    visible = [common_prefix([sequence, longest]) for sequence in sequences]
    return SharedRow(
        longest[: max(visible)], visible, [list(s[start:]) for s, start in zip(sequences, visible, strict=True)]
    )


def _continues(last: Example, example: Example) -> bool:
    new = len(example["seen"]) - len(last["seen"])
    return example["user_id"] == last["user_id"] and new <= len(example["history"])
