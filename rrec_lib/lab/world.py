"""The lab's world: the next item follows from a short chain of inference over the history, and from nothing else.

Each of 64 items has a hidden class and a hidden slot, eight of each; together they name the item. The next item's class
is the sum of the history's classes modulo 8, its slot the sum of the slots modulo 8. Any three items of a history say
nothing about the next one, so counts and co-occurrence stay at chance; whoever keeps two running tallies knows it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BASE = 8  # classes, and slots
N_ITEMS = BASE * BASE
HISTORY = 4
REASONING = 2 * HISTORY  # tokens in either style, so that length tells nothing

# Vocabulary: the items, the digits of the two tallies, idle words, then markers.
CLASS_DIGIT = N_ITEMS
SLOT_DIGIT = CLASS_DIGIT + BASE
CHATTER = SLOT_DIGIT + BASE
THINK = CHATTER + 2 * BASE
ITEM = THINK + 1
ANSWER = ITEM + 1
VOCABULARY = ANSWER + 1


@dataclass(frozen=True)
class Split:
    """Users of the world: ``histories`` (B, 4) and ``targets`` (B,), as catalogue rows."""

    histories: Tensor
    targets: Tensor


@dataclass(frozen=True)
class World:
    """A generated world.

    Attributes:
        classes: (N,) hidden class of each item, 0 to 7.
        slots: (N,) hidden slot of each item, 0 to 7.
        catalogue: (8, 8) the item of each class and slot.
        train: users to learn from; valid and test: others, whose histories occur nowhere else.
    """

    classes: Tensor
    slots: Tensor
    catalogue: Tensor
    train: Split
    valid: Split
    test: Split


def make_world(seed: int = 0, train: int = 100_000, valid: int = 256, test: int = 1024) -> World:
    """Draw the hidden attributes and three sets of users with no history in common.

    Args:
        seed: of the world.
        train: number of users to learn from.
        valid: number of users for the curves.
        test: number of users for the final figures.

    Raises:
        ValueError: if a number is below 1 or there are not that many histories.
    """
    sizes, histories = (train, valid, test), N_ITEMS**HISTORY
    if min(sizes) < 1 or sum(sizes) > histories // 4:
        raise ValueError(
            f"train, valid and test must each be at least 1 and at most {histories // 4} together: {sizes}"
        )
    generator = torch.Generator().manual_seed(seed)
    catalogue = torch.randperm(N_ITEMS, generator=generator).view(BASE, BASE)
    place = catalogue.flatten().argsort()
    classes, slots = place // BASE, place % BASE
    codes = torch.randint(histories, (2 * sum(sizes),), generator=generator)
    distinct = codes.unique()  # far more than asked for: at most an eighth can be drawn twice
    codes = distinct[torch.randperm(len(distinct), generator=generator)[: sum(sizes)]]
    drawn = torch.stack([codes // N_ITEMS**place % N_ITEMS for place in range(HISTORY)], dim=1)
    targets = next_items(drawn, classes, slots, catalogue)
    splits = [Split(*pair) for pair in zip(drawn.split(sizes), targets.split(sizes), strict=True)]
    return World(classes, slots, catalogue, *splits)


def next_items(histories: Tensor, classes: Tensor, slots: Tensor, catalogue: Tensor) -> Tensor:
    """The rule of the world: histories (B, 4) to the next item of each, (B,)."""
    return catalogue[classes[histories].sum(1) % BASE, slots[histories].sum(1) % BASE]


def write_tallies(world: World, histories: Tensor) -> Tensor:
    """Running tallies, modulo 8: the class sum after each item, then the slot sum after each item.

    No token names an item, and only the history is read.

    Args:
        world: whose attributes are tallied.
        histories: (B, 4) catalogue rows.

    Returns:
        (B, 8) tokens.
    """
    sums = [attribute[histories].cumsum(1) % BASE for attribute in (world.classes, world.slots)]
    return torch.cat([CLASS_DIGIT + sums[0], SLOT_DIGIT + sums[1]], dim=1)


def write_chatter(users: int, generator: torch.Generator) -> Tensor:
    """Idle chatter: (B, 8) tokens drawn from 16 words that have to do with nothing."""
    return torch.randint(CHATTER, THINK, (users, REASONING), generator=generator)


def tally_shares(world: World, histories: Tensor, reasoning: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each reasoning is tallies, and how much of that is right.

    Args:
        world: whose attributes are tallied.
        histories: (B, 4) catalogue rows.
        reasoning: (B, 8) tokens.

    Returns:
        (B,) shares of digits, and (B,) shares of tokens that are the true tally.
    """
    digits = (reasoning >= CLASS_DIGIT) & (reasoning < CHATTER)
    return digits.float().mean(1), (reasoning == write_tallies(world, histories)).float().mean(1)


def as_text(tokens: Tensor) -> str:
    """A reasoning in print, such as ``"c3 s1 c5 s0"``; idle words are ``w0`` to ``w15``, items ``#0`` to ``#63``."""
    marks = {THINK: "<think>", ITEM: "<item>", ANSWER: "<answer>"}
    kinds = ((CHATTER, "w"), (SLOT_DIGIT, "s"), (CLASS_DIGIT, "c"), (0, "#"))

    def word(token: int) -> str:
        return marks.get(token) or next(f"{letter}{token - first}" for first, letter in kinds if token >= first)

    return " ".join(word(token) for token in tokens.tolist())
