"""Packed sequences: successive targets of one user, whose prompts share a prefix and are therefore computed together.

A user's next prompt is mostly the last one and a line more. With times counted from the moment of the last target, the
prompts of successive targets differ at their ends alone, so one packed sequence holds the longest of them, and each of
the others goes on from where it leaves it. A target costs its own line and the end of its prompt instead of a prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rrec_lib.data.examples import Example, Item
from rrec_lib.model.encode import common_prefix
from rrec_lib.model.prompts import encode_users
from rrec_lib.model.ragged import Row, ragged_row

_HISTORY = ("history", "history_ratings", "history_timestamps")


def successive_targets(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Split each user's examples, in order of time, into runs of targets whose histories continue each other.

    Args:
        examples: E rows with ``user_id``, ``history``, ``seen`` and ``target_timestamp``.
        size: the most targets of a packed sequence.

    Returns:
        Row numbers of each packed sequence; every row is in exactly one. It ends early where more items lie between two
        targets than a history holds.
    """
    if size < 1:
        raise ValueError(f"a packed sequence holds at least one target, got {size}")
    rows = sorted(range(len(examples)), key=lambda i: (str(examples[i]["user_id"]), len(examples[i]["seen"]), i))
    packed: list[list[int]] = []
    for row in rows:
        last = examples[packed[-1][-1]] if packed else None
        if last is not None and len(packed[-1]) < size and _continues(last, examples[row]):
            packed[-1].append(row)
        else:
            packed.append([row])
    return packed


def with_common_start(successive: Sequence[Example]) -> list[dict[str, Any]]:
    """Examples with histories that begin where the first one does, seen from the moment of the last target.

    Args:
        successive: examples of a user, see :func:`successive_targets`.

    Returns:
        Examples whose histories are prefixes of one another. Those behind the first are longer than ``window``.
    """
    now = successive[-1]["target_timestamp"]
    columns = {name: list(successive[0][name]) for name in _HISTORY}
    aligned = []
    for before, example in zip([successive[0], *successive], successive, strict=False):
        new = len(example["seen"]) - len(before["seen"])
        for name in _HISTORY:
            columns[name] += list(example[name])[len(example[name]) - new :]
        aligned.append({**example, **{name: list(columns[name]) for name in _HISTORY}, "target_timestamp": now})
    return aligned


def packed_row(
    tokenizer: PreTrainedTokenizerBase,
    successive: Sequence[Example],
    items: Sequence[Item],
    endings: Sequence[str],
    learned: Sequence[bool] | None = None,
    instruction: str | None = None,
) -> Row:
    """What the prompts of successive targets share, and behind it each one's rest and its ending.

    Args:
        tokenizer: with the chat template.
        successive: examples of a user, see :func:`successive_targets`.
        items: the item table.
        endings: what stands behind each prompt: a reasoning, or none, and the marker.
        learned: whose ending is to be predicted token by token; nobody's, if not given.
        instruction: of the prompts; see :func:`rrec_lib.model.prompts.user_messages`.
    """
    aligned = with_common_start(successive)
    packed = split_prefix(encode_users(tokenizer, aligned, items, instruction=instruction))
    ids = tokenizer(list(endings), add_special_tokens=False)["input_ids"]
    lengths = [len(ending) * one for ending, one in zip(ids, learned or [False] * len(ids), strict=True)]
    return ragged_row(packed.prefix, [a + b for a, b in zip(packed.rest, ids, strict=True)], packed.shared, lengths)


def longest_history(successive: Sequence[Example]) -> int:
    """How many items the longest history has once all start together, which says how long the packed sequence is."""
    return len(successive[0]["history"]) + len(successive[-1]["seen"]) - len(successive[0]["seen"])


def order_by_length(lengths: Sequence[int], size: int, generator: torch.Generator) -> list[int]:
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
class SharedPrefix:
    """Sequences of token ids as one, and what each has of its own.

    Attributes:
        prefix: what the longest begins with; each sequence shares a part of it.
        shared: how many tokens of the prefix each sequence shares.
        rest: what each sequence has behind that, at least one token.
    """

    prefix: list[int]
    shared: list[int]
    rest: list[list[int]]


def split_prefix(sequences: Sequence[Sequence[int]]) -> SharedPrefix:
    """Let sequences go on from where they leave the longest one."""
    longest = max((list(sequence) for sequence in sequences), key=len)
    shared = [common_prefix([sequence, longest]) for sequence in sequences]
    rest = [list(sequence[start:]) for sequence, start in zip(sequences, shared, strict=True)]
    return SharedPrefix(longest[: max(shared)], shared, rest)


def _continues(last: Example, example: Example) -> bool:
    new = len(example["seen"]) - len(last["seen"])
    return example["user_id"] == last["user_id"] and new <= len(example["history"])
