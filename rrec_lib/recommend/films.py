"""For people: film titles in, a reasoning and a ranked list out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from datasets import DatasetDict
from torch import Tensor

from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import Item, prepare_profile
from rrec_lib.evaluation.ranks import top_k
from rrec_lib.evaluation.scoring import mask_items
from rrec_lib.model.prompts import item_name
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.recommend.titles import find_items
from rrec_lib.training.stages import STAGES, has_adapter, load_stage

DAY = 86400
LIKED = 4.0  # the rating of a film that was named without one


@dataclass(frozen=True)
class Recommendation:
    """One film of the list.

    Attributes:
        title: without the year.
        year: of release; 0 where it is unknown.
        source_id: the data set's own name for it: MovieLens's ``movieId``, Amazon's ``parent_asin``.
        score: cosine of the user's and the film's state, over τ; good for order alone.
    """

    title: str
    year: int
    source_id: int | str
    score: float

    @property
    def name(self) -> str:
        """Title with its year: ``"Alien (1979)"``."""
        return item_name({"title": self.title, "year": self.year})


@dataclass(frozen=True)
class Answer:
    """What the model says to one history.

    Attributes:
        history: the films that it read, oldest first: the last ``data.window`` of those named.
        reasoning: text that the model wrote; not an explanation of the list.
        finished: whether the model closed its reasoning itself.
        stage: which weights answered: ``"base"``, ``"warmup"`` or ``"recpo"``.
        items: the list, best first.
    """

    history: list[str]
    reasoning: str
    finished: bool
    stage: str
    items: list[Recommendation]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class FilmRecommender:
    """A policy and its catalogue, asked by title. :func:`load_recommender` makes one."""

    def __init__(self, model: ReasoningRecommender, stage: str) -> None:
        self.model, self.stage = model, stage

    @property
    def items(self) -> Sequence[Item]:
        """The N films of the catalogue, in the order of the scores."""
        return self.model.items

    def recommend(self, history: Sequence[str], ratings: Sequence[float] | None = None, k: int = 5) -> Answer:
        """Reason about a history and list ``k`` films that are not in it.

        Args:
            history: titles, oldest first, such as ``"Alien (1979)"``; see
                :func:`rrec_lib.recommend.titles.find_items`. The model reads the last ``data.window`` of them, as in
                training; all of them are left out of the list.
            ratings: out of 5, one per title; :data:`LIKED` each if not given.
            k: length of the list; fewer films if the catalogue has no more.

        Raises:
            ValueError: for an empty history, an unknown title, ratings that do not fit, k below 1, or nothing left.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not history:
            raise ValueError('the history is empty; name at least one film, such as "Alien (1979)"')
        seen = find_items(history, self.items)
        example = typed_example(seen, ratings, self.model.profile.data.window)
        self.check_left(seen)
        written = self.model.reason([example])
        best = top_k(self.scores(written.states, seen)[0], min(k, len(self.items) - len(set(seen))))
        listed = [self.items[row] for row in best.items.tolist()]
        return Answer(
            history=[item_name(self.items[row]) for row in example["history"]],
            reasoning=written.texts[0].strip(),
            finished=written.closed[0].finished,
            stage=self.stage,
            items=[
                Recommendation(item["title"], int(item.get("year") or 0), item["source_id"], round(score, 4))
                for item, score in zip(listed, best.scores.tolist(), strict=True)
            ],
        )

    def check_left(self, seen: Sequence[int]) -> None:
        """Raise ``ValueError`` for a history that leaves nothing to recommend."""
        if len(set(seen)) == len(self.items):
            raise ValueError(f"the history names all {len(self.items)} films of the catalogue; none is left")

    def scores(self, states: Tensor, seen: Sequence[int], target: int | None = None) -> Tensor:
        """(E, N) scores behind (E, d) states of one person, on the processor; −inf for what they have seen.

        Args:
            states: behind one history, and several texts.
            seen: catalogue rows.
            target: one that stays rankable even if it was seen.
        """
        targets = None if target is None else torch.full((len(states),), target)
        return mask_items(self.model.score_states(states).cpu(), [seen] * len(states), targets)


def load_recommender(
    profile: Profile, stage: str = "recpo", seed: int = 0, dataset: DatasetDict | None = None
) -> FilmRecommender:
    """Load the policy of a stage with its catalogue.

    Args:
        profile: sizes, model and recorded adapters.
        stage: ``"base"``, ``"warmup"`` or ``"recpo"``. Where the profile has no recorded adapter for it, the stage
            before it answers; the recommender's ``stage`` says which one it is.
        seed: of fresh LoRA weights, which change nothing.
        dataset: prepared data; read and prepared if not given.

    Raises:
        ValueError: for an unknown stage, or an adapter that is tied to something else.
    """
    stages = ("base", *STAGES)
    if stage not in stages:
        raise ValueError(f"unknown stage {stage!r}; choose one of {', '.join(stages)}")
    used = next(name for name in stages[stages.index(stage) :: -1] if name == "base" or has_adapter(profile, name))
    dataset = prepare_profile(profile) if dataset is None else dataset
    policy = load_stage(profile, dataset, used, seed)
    return FilmRecommender(ReasoningRecommender(policy, list(dataset["items"]), profile), used)


def typed_example(
    seen: Sequence[int], ratings: Sequence[float] | None = None, window: int | None = None
) -> dict[str, Any]:
    """A history somebody typed, as an example: one film a day, the last of them yesterday.

    Args:
        seen: catalogue rows, oldest first.
        ratings: out of 5, one per film; :data:`LIKED` each if not given.
        window: how many of the last films the prompt shows; all if not given.

    Raises:
        ValueError: if there are not as many ratings as films, or one is outside 0.5 to 5.
    """
    ratings = [LIKED] * len(seen) if ratings is None else list(ratings)
    if len(ratings) != len(seen):
        raise ValueError(f"{len(seen)} films need {len(seen)} ratings, got {len(ratings)}")
    if any(not 0.5 <= rating <= 5 for rating in ratings):
        raise ValueError(f"ratings lie between 0.5 and 5, got {', '.join(f'{rating:g}' for rating in ratings)}")
    recent = slice(-window if window else None, None)
    return {
        "user_id": 0,
        "history": list(seen)[recent],
        "history_ratings": ratings[recent],
        "history_timestamps": [position * DAY for position in range(len(seen))][recent],
        "seen": list(seen),
        "target_timestamp": len(seen) * DAY,
    }
