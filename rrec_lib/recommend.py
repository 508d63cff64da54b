"""For people: film titles in, a reasoning and a ranked list out."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datasets import DatasetDict

from rrec_lib.data.examples import prepare_profile
from rrec_lib.profiles import Profile
from rrec_lib.prompts import item_name
from rrec_lib.ranking import mask_items, top_k
from rrec_lib.reasoning import ReasoningRecommender
from rrec_lib.training import STAGES, has_adapter, load_stage

DAY = 86400
LIKED = 4.0  # the rating of a film that was named without one


@dataclass(frozen=True)
class Recommendation:
    """One film of the list; the score is a cosine over τ."""

    title: str
    source_id: int
    score: float


@dataclass(frozen=True)
class Answer:
    """What the model says to one history.

    Attributes:
        history: the films it was given, oldest first.
        reasoning: text that the model wrote; not an explanation of the list.
        finished: whether the model closed its reasoning itself.
        stage: which weights answered: ``"base"``, ``"warmup"`` or ``"recpo"``.
        films: the list, best first.
    """

    history: list[str]
    reasoning: str
    finished: bool
    stage: str
    films: list[Recommendation]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class FilmRecommender:
    """A trained policy with its catalogue, asked by title."""

    def __init__(self, profile: Profile, dataset: DatasetDict | None = None, stage: str | None = None, seed: int = 0):
        """Args:
        profile: sizes, model and recorded adapters.
        dataset: prepared data; read and prepared if not given.
        stage: ``"base"``, ``"warmup"`` or ``"recpo"``; the last that the profile has a recorded adapter for.
        seed: of fresh LoRA weights.
        """
        dataset = prepare_profile(profile) if dataset is None else dataset
        recorded = [name for name in STAGES if has_adapter(profile, name)]
        self.stage = stage or (recorded[-1] if recorded else "base")
        self.items: list[Mapping[str, Any]] = list(dataset["items"])
        self.model = ReasoningRecommender(load_stage(profile, dataset, self.stage, seed), self.items, profile)

    def recommend(self, history: Sequence[str], ratings: Sequence[float] | None = None, k: int = 5) -> Answer:
        """Reason about a history and list ``k`` films that are not in it.

        Args:
            history: titles, oldest first, such as ``"Alien (1979)"``; see :func:`find_items`.
            ratings: out of 5, one per title; :data:`LIKED` each if not given.
            k: length of the list.

        Raises:
            ValueError: for an empty history, an unknown title, ratings that do not fit, or k below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not history:
            raise ValueError('the history is empty; name at least one film, such as "Alien (1979)"')
        indices = find_items(history, self.items)
        example = typed_example(indices, ratings)
        written = self.model.reason([example])
        scores = mask_items(self.model.score_states(written.states), [indices])
        best = top_k(scores[0].cpu(), min(k, len(self.items) - len(set(indices))))
        films = [
            Recommendation(item_name(self.items[i]), int(self.items[i]["source_id"]), round(score, 4))
            for i, score in zip(best.items.tolist(), best.scores.tolist(), strict=True)
        ]
        names = [item_name(self.items[i]) for i in indices]
        return Answer(names, written.texts[0], written.closed[0].finished, self.stage, films)


def typed_example(indices: Sequence[int], ratings: Sequence[float] | None = None) -> dict[str, Any]:
    """A history somebody typed, as an example: one film a day, the last of them yesterday.

    Raises:
        ValueError: if there are not as many ratings as films, or one is outside 0.5 to 5.
    """
    ratings = [LIKED] * len(indices) if ratings is None else list(ratings)
    if len(ratings) != len(indices):
        raise ValueError(f"{len(indices)} films need {len(indices)} ratings, got {len(ratings)}")
    if any(not 0.5 <= rating <= 5 for rating in ratings):
        raise ValueError(f"ratings lie between 0.5 and 5, got {ratings}")
    now = len(indices) * DAY
    return {
        "user_id": 0,
        "history": list(indices),
        "history_ratings": ratings,
        "history_timestamps": [position * DAY for position in range(len(indices))],
        "seen": list(indices),
        "target_timestamp": now,
    }


def find_items(titles: Sequence[str], items: Sequence[Mapping[str, Any]]) -> list[int]:
    """Catalogue rows of titles, whatever their case; the year may be left out where one film has the title.

    Raises:
        ValueError: for a title that is not in the catalogue, naming the nearest, or that several films share.
    """
    full = {item_name(item).lower(): row for row, item in enumerate(items)}
    bare: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        bare.setdefault(str(item["title"]).lower(), []).append(row)
    found = []
    for title in titles:
        key = re.sub(r"\s+", " ", title).strip().lower()
        rows = [full[key]] if key in full else bare.get(key, [])
        if len(rows) != 1:
            raise ValueError(_not_found(title, rows, items))
        found.append(rows[0])
    return found


def _not_found(title: str, rows: list[int], items: Sequence[Mapping[str, Any]]) -> str:
    if rows:
        return f"several films are called {title!r}: {'; '.join(item_name(items[row]) for row in rows)}"
    names = {item_name(item).lower(): item_name(item) for item in items}
    wanted = title.lower()
    near = [name for key, name in names.items() if wanted and wanted in key]
    near += [names[key] for key in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)]
    hint = f"did you mean {'; '.join(list(dict.fromkeys(near))[:3])}?" if near else "no title is near it."
    return f"{title!r} is not among the {len(items)} films of this profile; {hint}"
