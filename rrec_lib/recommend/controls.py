"""Controls of a reasoning: what stands before the marker in its place, to see whether the recommender reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from rrec_lib.data.examples import Example
from rrec_lib.training.skills import SKILLS, World, labels


def cheat(example: Example, world: World) -> str:
    """The target's own genres, or what stands for them: it helps if the state reads any text at all."""
    return f"Likes {' and '.join(labels(world.items[example['target']])) or 'many things'}."


CHEAT = "cheat"
GIVEN_TEXTS: Mapping[str, Callable[[Example, World], str]] = {
    **{f"skill {name}": skill for name, skill in SKILLS.items()}, CHEAT: cheat,
}  # fmt: skip
SWAPPED = "title swapped"
WITH_WORLD = (*GIVEN_TEXTS, SWAPPED)  # controls that need the items' neighbours
REASONING_CONTROLS = {
    "own": "what the policy wrote",
    "none": "nothing: the marker follows the prompt at once",
    "other": "what it wrote for the next example of a different user",
    "random": "random tokens, as many as it wrote",
    "shuffled": "what it wrote of the history in random order, which the prompt then has too",
    SWAPPED: "what it wrote, one of its titles replaced by another of the catalogue",
    **{f"skill {name}": f"the text of {name}, computed from the history" for name in SKILLS},
    CHEAT: "the target's own genres: what reading could be worth, and no recommender",
}


def shuffled_histories(examples: Sequence[Example], seed: int = 0) -> list[dict[str, Any]]:
    """The examples, each with the items of its history, and their ratings, in another order; the times stay."""
    rng, shuffled = np.random.default_rng(seed), []
    for example in examples:
        order = rng.permutation(len(example["history"])).tolist()
        moved = {name: [example[name][i] for i in order] for name in ("history", "history_ratings")}
        shuffled.append({**example, **moved})
    return shuffled


def random_texts(tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Token ids drawn evenly from the vocabulary, special tokens left out; a negative length counts as 0."""
    ordinary = np.setdiff1d(np.arange(tokenizer.vocab_size), tokenizer.all_special_ids)
    rng = np.random.default_rng(seed)
    return [rng.choice(ordinary, max(length, 0)).tolist() for length in lengths]


def other_users(users: Sequence[int]) -> list[int]:
    """For each position the next one, cyclically, that belongs to a different user.

    Raises:
        ValueError: if there is only one user.
    """
    if len(set(users)) < 2:
        raise ValueError("another user's reasoning needs examples of at least two users")
    count = len(users)
    return [next(j % count for j in range(i + 1, i + count) if users[j % count] != users[i]) for i in range(count)]


@dataclass(frozen=True)
class TitleSwap:
    """A text in which another item is named.

    Attributes:
        text: with the swap; as it was where it names no item.
        removed: the item that was named, None where there was none.
        added: the item that is named instead.
    """

    text: str
    removed: int | None = None
    added: int | None = None


def swap_titles(texts: Sequence[str], examples: Sequence[Example], world: World) -> list[TitleSwap]:
    """In each text replace one title by another of the catalogue.

    Replaced is the last title that the user hasn't seen, which is what an association recommends; else the last one.
    In its place stands the next item, in one random order of the catalogue, that the user hasn't seen, the text doesn't
    name, and that is no neighbour of the one replaced. Nothing looks at the target.

    Args:
        texts: E reasonings.
        examples: E rows with ``seen``.
        world: items and their neighbours.
    """
    order = np.random.default_rng(0).permutation(len(world.items)).tolist()
    place = {item: i for i, item in enumerate(order)}
    longest = sorted(range(len(world.items)), key=lambda item: -len(world.names[item]))
    swaps = []
    for text, example in zip(texts, examples, strict=True):
        named, seen = _named(text, longest, world), set(example["seen"])
        at, removed = max(((i, item) for i, item in named if item not in seen), default=max(named, default=(0, None)))
        if removed is None:
            swaps.append(TitleSwap(text))
            continue
        apart = seen | {item for _, item in named} | set(world.neighbours[removed])
        later = order[place[removed] + 1 :] + order[: place[removed]]
        added = next((item for item in later if item not in apart), None)
        if added is None:
            swaps.append(TitleSwap(text))
            continue
        old, new = (world.names[item] for item in (removed, added))
        swaps.append(TitleSwap(f"{text[:at]}{new}{text[at + len(old) :]}", removed, added))
    return swaps


def _named(text: str, longest: Sequence[int], world: World) -> list[tuple[int, int]]:
    """Where a text names which item; of a title that holds another, the longer one counts."""
    found = []
    for item in longest:
        name = world.names[item]
        if (at := text.rfind(name)) >= 0:
            found.append((at, item))
            text = text[:at] + "\0" * len(name) + text[at + len(name) :]
    return found
