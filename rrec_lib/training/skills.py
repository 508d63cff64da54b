"""Skills: short texts that follow from a history and from training data, never from the target, and can be checked.

In: an example, the item table, each item's neighbours among the training logs of other users: its own log, in which the
target stands, is left out. Out: a text; the statements that a text makes, and which of them are true. The warm-up may
teach them, and what RecPO writes can be held against them.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from datasets import DatasetDict

from rrec_lib.baselines.item_item import EASE
from rrec_lib.data.examples import Example, Item
from rrec_lib.model.prompts import item_name

LIST = r"[^.;:]+?"
NAME_WORDS = 6  # of a title that no year ends: a shop's run to forty
FOLDS = 5  # of users; a text about one is made from the logs of the other folds


@dataclass(frozen=True)
class World:
    """What statements are true of.

    Attributes:
        items: the item table, with ``title``, ``year`` and ``genres``.
        neighbours: per item those that people who had it had as well, the nearest first, from training logs.
        others: per fold of users the same from the logs of the other folds.
        folds: of each user with a training log.
    """

    items: Sequence[Item]
    neighbours: Sequence[Sequence[int]]
    others: Sequence[Sequence[Sequence[int]]] = ()
    folds: Mapping[Any, int] = field(default_factory=dict)

    def near(self, example: Example) -> Sequence[Sequence[int]]:
        """Neighbours in logs that don't hold the example's own."""
        fold = self.folds.get(example.get("user_id"))
        return self.neighbours if fold is None else self.others[fold]

    @cached_property
    def names(self) -> list[str]:
        """What texts call each item: title and year, or a title's first words where no other title begins so."""
        whole = [item_name(item) for item in self.items]
        short = [
            name if item.get("year") else " ".join(name.split()[:NAME_WORDS]).rstrip(",;:-–|&( ")
            for name, item in zip(whole, self.items, strict=True)
        ]
        alike = Counter(short)
        return [name if alike[cut] > 1 or not cut else cut for name, cut in zip(whole, short, strict=True)]

    @cached_property
    def genres(self) -> list[list[str]]:
        """What texts call each item's genres or, where there are none, its last two categories."""
        return [list(dict.fromkeys(filter(None, map(_plain, kinds(item))))) for item in self.items]

    @cached_property
    def rows(self) -> dict[str, set[int]]:
        """Items of each name."""
        found: dict[str, set[int]] = {}
        for row, name in enumerate(self.names):
            found.setdefault(name, set()).add(row)
        return found


@dataclass(frozen=True)
class Statement:
    """``what`` is said of ``whom``: ``("likes", "Drama")``, ``("goes with", "Alien (1979)\\nAliens (1986)")``."""

    what: str
    whom: str


def _plain(genre: str) -> str:
    """A genre without what separates genres in a text."""
    return " ".join(re.sub(r"[.,;:]", " ", re.sub(r"\s+and\s+", " & ", genre)).split())


_TITLE_WORD = re.compile(r"[^\W\d_]{4,}")


def kinds(item: Item) -> list[str]:
    """An item's genres or, where the table has none, its last two categories."""
    return list(item["genres"] or []) if "genres" in item else list(item.get("categories") or [])[-2:]


def labels(item: Item) -> list[str]:
    """An item's genres, or its last two categories, or words of its title."""
    return kinds(item) if "genres" in item else kinds(item) or _TITLE_WORD.findall(str(item["title"]).lower())[:3]


def genre_ratings(example: Example, world: World) -> dict[str, list[float]]:
    """The ratings that a history gives to each genre, or category."""
    found: dict[str, list[float]] = {}
    for row, rating in zip(example["history"], example["history_ratings"], strict=True):
        for genre in world.genres[row]:
            found.setdefault(genre, []).append(float(rating))
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _decades(example: Example, world: World) -> Counter[int]:
    years = [world.items[row].get("year") for row in example["history"]]
    return Counter(int(year) // 10 * 10 for year in years if year)


def _likes(example: Example, world: World, genre: str) -> bool:
    ratings = genre_ratings(example, world)
    return genre in ratings and _mean(ratings[genre]) >= _mean(example["history_ratings"])


def _rates_lower(example: Example, world: World, genre: str) -> bool:
    ratings = genre_ratings(example, world)
    return genre in ratings and _mean(ratings[genre]) < _mean(example["history_ratings"])


def _mostly_from(example: Example, world: World, era: str) -> bool:
    decades = _decades(example, world)
    return bool(decades) and decades.get(int(era.removesuffix("s")), 0) == max(decades.values())


def _goes_with(example: Example, world: World, pair: str) -> bool:
    name, others = pair.split("\n")  # no title holds one
    had = world.rows.get(name, set()) & set(example["history"])
    near = {other for row in had for other in world.near(example)[row]}
    parts = others.split(" and ")  # without years, two names and one with an "and" look alike
    cuts = [(others,), *((" and ".join(parts[:i]), " and ".join(parts[i:])) for i in range(1, len(parts)))]
    return any(all(world.rows.get(name, set()) & near for name in cut) for cut in cuts)


def _shift(example: Example, world: World) -> dict[str, float]:
    """Per genre, its share of the last two items less that of those before."""
    rows = list(example["history"])
    late, early = rows[-2:], rows[:-2]
    share = lambda part, genre: _mean([genre in world.genres[row] for row in part])  # noqa: E731
    genres = sorted({genre for row in rows for genre in world.genres[row]})
    return {genre: share(late, genre) - share(early, genre) for genre in genres} if early else {}


TRUE: Mapping[str, Callable[[Example, World, str], bool]] = {
    "likes": _likes,
    "rates lower": _rates_lower,
    "mostly from": _mostly_from,
    "goes with": _goes_with,
    "more": lambda example, world, genre: _shift(example, world).get(genre, 0.0) > 0,
    "less": lambda example, world, genre: _shift(example, world).get(genre, 0.0) < 0,
}


def taste(example: Example, world: World) -> str:
    """Genres that are rated at least as well as the rest, the decade, and a genre that is rated lower."""
    ratings = genre_ratings(example, world)
    liked = sorted((g for g in ratings if _likes(example, world, g)), key=lambda g: (-sum(ratings[g]), g))[:2]
    lower = sorted((g for g in ratings if _rates_lower(example, world, g)), key=lambda g: (_mean(ratings[g]), g))[:1]
    decades = _decades(example, world)
    era = f", mostly from the {max(decades, key=lambda d: (decades[d], d))}s" if decades else ""
    return f"Likes {' and '.join(liked) or 'many things'}{era}{f'; rates {lower[0]} lower' if lower else ''}."


def association(example: Example, world: World) -> str:
    """The best-rated late item, and two that people who had it had too."""
    order = sorted(enumerate(example["history"]), key=lambda at: (example["history_ratings"][at[0]], at[0]))
    seen = set(example["seen"])
    for _, row in reversed(order):
        name = world.names[row]
        near = dict.fromkeys(world.names[other] for other in world.near(example)[row] if other not in seen)
        if others := [other for other in near if other != name][:2]:  # several items may have one name
            return f"People who liked {name} also liked {' and '.join(others)}."
    return idle(example, world)


def drift(example: Example, world: World) -> str:
    """What the last two items have more and less of than those before."""
    shift = _shift(example, world)
    more = max(shift, key=lambda genre: (shift[genre], genre), default=None)
    less = min(shift, key=lambda genre: (shift[genre], genre), default=None)
    if more is None or less is None or not shift[more] > 0 > shift[less]:
        return idle(example, world)
    return f"Lately more {more}, less {less}."


def idle(example: Example, world: World) -> str:
    """Words that hold nothing, about as many as the others have."""
    return "Let me think about what could come next for this person."


SKILLS: Mapping[str, Callable[..., str]] = {  # (example, world) -> text
    "taste": taste,
    "association": association,
    "drift": drift,
    "idle": idle,
}


def parse(text: str) -> tuple[str, list[Statement]] | None:
    """Which skill a text is of and what it states; None unless the whole text is one."""
    text = text.strip()
    if text == idle({}, World([], [])):
        return "idle", []
    if found := re.fullmatch(rf"Likes ({LIST})(?:, mostly from the (\d{{4}}s))?(?:; rates ({LIST}) lower)?\.", text):
        liked = [] if found[1] == "many things" else found[1].split(" and ")
        stated = [Statement("likes", genre) for genre in liked]
        stated += [Statement("mostly from", found[2])] if found[2] else []
        return "taste", stated + ([Statement("rates lower", found[3])] if found[3] else [])
    if found := re.fullmatch(r"People who liked (.+) also liked (.+)\.", text):
        pairs = re.split(r"(?<=\)) and ", found[2])  # a title may hold "and"; its year ends it
        return "association", [Statement("goes with", f"{found[1]}\n{other}") for other in pairs]
    if found := re.fullmatch(rf"Lately more ({LIST}), less ({LIST})\.", text):
        return "drift", [Statement("more", found[1]), Statement("less", found[2])]
    return None


def is_true(statement: Statement, example: Example, world: World) -> bool:
    """Whether a statement holds of a history, or of the training data."""
    return TRUE[statement.what](example, world, statement.whom)


def contradicts_itself(statements: Sequence[Statement]) -> bool:
    """Whether a genre is said to be liked and rated lower, or to be more and less."""
    said = {what: {s.whom for s in statements if s.what == what} for what in TRUE}
    return bool(said["likes"] & said["rates lower"] or said["more"] & said["less"])


def world_of(dataset: DatasetDict, neighbours: int = 10) -> World:
    """Items, and of each those with the largest weights from it in EASE, fitted on the training split, whole and in
    parts: a row that EASE was fitted with has its target among the neighbours more often than one it has not seen."""
    items, train = list(dataset["items"]), list(dataset["train"])
    folds = {user: place % FOLDS for place, user in enumerate(dict.fromkeys(row["user_id"] for row in train))}

    def nearest(rows: Sequence[Example]) -> list[list[int]]:
        best = EASE(rows, len(items)).weights.topk(min(neighbours, len(items)), dim=1)
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[other for weight, other in zip(*pair, strict=True) if weight > 0] for pair in pairs]

    others = [nearest([row for row in train if folds[row["user_id"]] != fold]) for fold in range(FOLDS)]
    return World(items, nearest(train), others, folds)
