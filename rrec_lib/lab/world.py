"""The lab's world: the next item follows from a short chain of inference over the history, or from its last item alone.

Each of 64 items has a hidden class and a hidden slot, eight of each; together they name the item. The next item's class
is the sum of the history's classes modulo 8, its slot the sum of the slots modulo 8. Any three items of a history say
nothing about the next one, so counts and co-occurrence stay at chance; whoever keeps two running tallies knows it.

That is the world as it stands. Two dials turn it. Of the items a share can be *habit-forming*: whoever took one of them
last takes next what follows it, always the same item, which counts of pairs can learn. A user's kind is thus to be seen
in the history, by its last item, and since histories are drawn evenly the share of items is that of users, too. And the
*chain*, how many of the last items are summed, can be shorter or longer than four.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BASE = 8  # classes, and slots
N_ITEMS = BASE * BASE
LONGEST = 10  # items of a chain
HISTORY = 4  # items of a user, and of the chain; a longer chain makes longer histories
REASONING = 2 * HISTORY  # tokens in either style, so that length tells nothing; two an item of the chain
KINDS = ("sum", "habit")  # of users

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
    """Users of the world: ``histories`` (B, H) and ``targets`` (B,), as catalogue rows; H is 4, or a longer chain."""

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
        follows: (N,) the item that follows each habit-forming one; −1 at the others, behind which the sums decide.
        chain: how many of the last items are summed.
    """

    classes: Tensor
    slots: Tensor
    catalogue: Tensor
    train: Split
    valid: Split
    test: Split
    follows: Tensor
    chain: int


def make_world(
    seed: int = 0,
    train: int = 100_000,
    valid: int = 256,
    test: int = 1024,
    chain: int = HISTORY,
    habits: float = 0.0,
) -> World:
    """Draw the hidden attributes and three sets of users with no history in common.

    Args:
        seed: of the world.
        train: number of users to learn from.
        valid: number of users for the curves.
        test: number of users for the final figures.
        chain: how many of the last items are summed, at least 1; a chain over 4 makes histories as long.
        habits: share of items that are habit-forming, 0 to 1. Histories and sums are the same at every share, and what
            is habit-forming at one share stays so at a larger one.

    Raises:
        ValueError: if a number is out of range or there are not that many histories.
    """
    if chain > LONGEST:
        raise ValueError(f"a chain may have {LONGEST} items, for histories are numbered by 64 bits; got {chain}")
    length = max(HISTORY, chain)
    sizes, histories = (train, valid, test), N_ITEMS**length
    if min(sizes) < 1 or sum(sizes) > histories // 4:
        raise ValueError(
            f"train, valid and test must each be at least 1 and at most {histories // 4} together: {sizes}"
        )
    if chain < 1 or not 0 <= habits <= 1:
        raise ValueError(f"need a chain of at least 1 and habits from 0 to 1, got {chain} and {habits}")
    generator = torch.Generator().manual_seed(seed)
    catalogue = torch.randperm(N_ITEMS, generator=generator).view(BASE, BASE)
    place = catalogue.flatten().argsort()
    classes, slots = place // BASE, place % BASE
    codes = torch.randint(histories, (2 * sum(sizes),), generator=generator)
    distinct = codes.unique()  # far more than asked for: at most an eighth can be drawn twice
    codes = distinct[torch.randperm(len(distinct), generator=generator)[: sum(sizes)]]
    drawn = torch.stack([codes // N_ITEMS**place % N_ITEMS for place in range(length)], dim=1)
    follows = _habits(habits, torch.Generator().manual_seed(seed + 1))
    after = follows[drawn[:, -1]]
    targets = torch.where(after < 0, next_items(drawn[:, -chain:], classes, slots, catalogue), after)
    own, others, last = (Split(*pair) for pair in zip(drawn.split(sizes), targets.split(sizes), strict=True))
    return World(classes, slots, catalogue, own, others, last, follows, chain)


def _habits(share: float, generator: torch.Generator) -> Tensor:
    """(N,) what follows each habit-forming item, or −1; all items stand in one ring, none follows itself."""
    ring, order = (torch.randperm(N_ITEMS, generator=generator) for _ in range(2))
    follows = torch.empty_like(ring).scatter_(0, ring, ring.roll(-1))
    follows[order[round(share * N_ITEMS) :]] = -1
    return follows


def next_items(histories: Tensor, classes: Tensor, slots: Tensor, catalogue: Tensor) -> Tensor:
    """The rule of the sums: the items of the chains, (B, chain), to the next item of each, (B,)."""
    return catalogue[classes[histories].sum(1) % BASE, slots[histories].sum(1) % BASE]


def kinds(world: World, histories: Tensor) -> dict[str, Tensor]:
    """Whose next item the sums decide, and whose habit: for each of :data:`KINDS` (B,) booleans."""
    habit = world.follows[histories[:, -1]] >= 0
    return dict(zip(KINDS, (~habit, habit), strict=True))


def write_tallies(world: World, histories: Tensor) -> Tensor:
    """Running tallies, modulo 8: the class sum after each item of the chain, then the slot sum after each.

    Habit users have such sums, too; they are worth nothing to them.

    No token names an item, and only the history is read.

    Args:
        world: whose attributes are tallied.
        histories: (B, H) catalogue rows.

    Returns:
        (B, 2 · chain) tokens.
    """
    sums = [attribute[histories[:, -world.chain :]].cumsum(1) % BASE for attribute in (world.classes, world.slots)]
    return torch.cat([CLASS_DIGIT + sums[0], SLOT_DIGIT + sums[1]], dim=1)


def write_chatter(users: int, generator: torch.Generator, tokens: int = REASONING) -> Tensor:
    """Idle chatter: (B, tokens) drawn from 16 words that have to do with nothing."""
    return torch.randint(CHATTER, THINK, (users, tokens), generator=generator)


def tally_shares(world: World, histories: Tensor, reasoning: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each reasoning is tallies, and how much of that is right.

    Args:
        world: whose attributes are tallied.
        histories: (B, H) catalogue rows.
        reasoning: (B, 2 · chain) tokens.

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
