"""Sentences that a history supports: what the warm-up teaches to write before the marker."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rrec_lib.model.prompts import item_kind

Items = Sequence[Mapping[str, Any]]
_FRAMES = (
    "This person likes {liked}{mostly}{but}. They may enjoy another {first} {kind}.",
    "Mostly {era}{kind}s. High ratings for {liked}{but}, so {first} suits them.",
    "{first} stands out among the {era}{kind}s they like: {liked}{but}.",
)
_TITLE_WORD = re.compile(r"[^\W\d_]{4,}")


def history_sentence(example: Mapping[str, Any], items: Items, frame: int) -> str:
    """A sentence that a history supports: its best-rated genres, its usual decade, what it rates lower.

    Where items have no genres, their most special categories take their place, or words of their titles.

    Args:
        example: ``history`` and ``history_ratings``; the target is not looked at.
        items: the item table.
        frame: which of the sentence frames to fill, modulo their number.
    """
    ratings: dict[str, list[float]] = {}
    for index, rating in zip(example["history"], example["history_ratings"], strict=True):
        for label in _labels(items[index]):
            ratings.setdefault(label, []).append(rating)
    # More and better-rated items first; the name decides ties, so that the sentence is a function of the history.
    score = {label: sum(values) - 2.5 * len(values) for label, values in ratings.items()}
    ranked = sorted(score, key=lambda label: (-score[label], label)) or ["varied"]
    decades = Counter(items[i]["year"] // 10 * 10 for i in example["history"] if items[i].get("year") is not None)
    era = f"{max(decades, key=lambda decade: (decades[decade], decade))}s" if decades else ""
    low = [label for label in reversed(ranked[3:]) if sum(ratings[label]) < 3 * len(ratings[label])]
    return _FRAMES[frame % len(_FRAMES)].format(
        liked=" and ".join([", ".join(ranked[:2]), ranked[2]]) if len(ranked) > 2 else " and ".join(ranked),
        mostly=f", mostly from the {era}" if era else "",
        era=f"{era} " if era else "",
        kind=item_kind(items[example["history"][-1]]),
        but=f", but rates {low[0]} lower" if low else "",
        first=ranked[0],
    )


def _labels(item: Mapping[str, Any]) -> list[str]:
    """An item's genres, or its last two categories, or words of its title."""
    if "genres" in item:
        return list(item["genres"])
    return list(item.get("categories") or [])[-2:] or _TITLE_WORD.findall(str(item["title"]).lower())[:3]
