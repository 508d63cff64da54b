"""What the page asks of the model: answers as plain values, mistakes as sentences. It knows nothing of Gradio.

One thread has the model, so that tabs are served in turn. LoRA stays merged while the desk is open: merging anew for
every text would delay its first word.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import Example, Item, prepare_profile
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.evaluation.ranks import target_rank, top_k
from rrec_lib.model.prompts import MARKER, encode_users, item_kind, item_name
from rrec_lib.recommend.films import FilmRecommender, load_recommender, typed_example
from rrec_lib.recommend.recommender import Hear, Reasonings
from rrec_lib.recommend.titles import complete, name_keys
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward
from rrec_lib.training.stages import STAGES, adapter_card

T = TypeVar("T")
LISTED = 10  # films of a list
LONGEST = 2000  # characters of a reasoning that is typed; the model's own have some 200
MOST_SAMPLES = 8  # of a group: more would take a processor too long
ME, OTHER = -1, -2  # users of two examples that must not count as one


@dataclass(frozen=True)
class History:
    """Catalogue rows with ratings out of 5, oldest first."""

    rows: list[int]
    ratings: list[float]


@dataclass(frozen=True)
class Listed:
    """A text and the list behind it.

    Attributes:
        text: without the marker; empty if nothing stood before it.
        finished: whether the model closed it itself.
        rows: catalogue rows, best first.
        shares: of each, its softmax probability among all films that may be listed.
    """

    text: str
    finished: bool
    rows: list[int]
    shares: list[float]


@dataclass(frozen=True)
class Comparison:
    """The lists of one history behind the model's own words, behind none, and behind those it wrote for another."""

    other: History
    own: Listed
    none: Listed
    others: Listed


@dataclass(frozen=True)
class Rewarded:
    """A group of G reasonings with their rewards and advantages, G numbers each.

    Attributes:
        ranks: best and worst place of the target, which differ where scores tie.
        advantages: by estimator.
    """

    texts: list[str]
    finished: list[bool]
    ranks: list[tuple[int, int]]
    ranking: list[float]
    similarity: list[float]
    fused: list[float]
    advantages: dict[str, list[float]]


class Desk:
    """A policy with its catalogue, asked one thing after the other; :func:`open_desk` makes one."""

    def __init__(self, films: FilmRecommender, users: Dataset, thread: ThreadPoolExecutor) -> None:
        """Args:
        films: the policy and its catalogue.
        users: examples to draw users from.
        thread: the one that has the model.
        """
        self.films, self.users, self._thread = films, users, thread
        self._keys = name_keys(films.items)

    @property
    def items(self) -> Sequence[Item]:
        """The catalogue."""
        return self.films.items

    @property
    def profile(self) -> Profile:
        """Sizes and hyperparameters."""
        return self.films.model.profile

    @property
    def kind(self) -> str:
        """What an item is called."""
        return item_kind(self.items[0])

    # -- what needs no model ------------------------------------------------------------------------------------------

    def complete(self, text: str) -> list[dict[str, Any]]:
        """Films whose names hold what was typed, as the page's field shows them."""
        return [self.named(row) for row in complete(str(text), self._keys)]

    def named(self, row: int, rating: float | None = None) -> dict[str, Any]:
        """A film as the page's field keeps it."""
        rated = {} if rating is None else {"rating": rating}
        return {"row": row, "name": item_name(self.items[row]), **rated}

    def history(self, chosen: Any) -> History:
        """Check what a page sends as a history: a list of rows with ratings.

        Raises:
            ValueError: for an empty history, a film or a rating that can't be, or a history of the whole catalogue.
        """
        if not chosen:
            raise ValueError(f"The history is empty: add at least one {self.kind}.")
        history = History([self._row(film) for film in chosen], [_rating(film) for film in chosen])
        self.films.check_left(history.rows)
        return history

    def target(self, chosen: Any) -> int:
        """Check what a page sends as the film that was seen next.

        Raises:
            ValueError: if there is none, or it isn't in the catalogue.
        """
        if not chosen:
            raise ValueError(f"Name the {self.kind} that was really seen next: the rewards ask where it stands.")
        return self._row(chosen[0])

    def _row(self, film: Any) -> int:
        row = film.get("row") if isinstance(film, dict) else None
        if not isinstance(row, int) or not 0 <= row < len(self.items):
            raise ValueError(f"No {self.kind} of the catalogue has number {row!r}: choose one from the field's list.")
        return row

    def drawn(self, number: int) -> tuple[History, int]:
        """A user of the test set, the same for the same number: the history a prompt would show, and what came next."""
        example = self.users[int(np.random.default_rng(number).integers(len(self.users)))]
        recent = slice(-self.profile.data.window, None)
        ratings = [min(max(rating, 0.5), 5.0) for rating in example["history_ratings"]]  # an own scale may go lower
        return History(example["history"][recent], ratings[recent]), example["target"]

    # -- what needs the model -----------------------------------------------------------------------------------------

    def prompt(self, history: History) -> str:
        """The prompt as the model reads it, special tokens included."""

        def work() -> str:
            tokenizer = self.films.model.policy.tokenizer
            return str(tokenizer.decode(encode_users(tokenizer, [self._example(history)], self.items)[0]))

        return self._thread.submit(work).result()

    def write(self, history: History) -> Iterator[str | Listed]:
        """Let the model write about a history: the text as far as it is written, at last the list behind it."""

        def work(hear: Hear) -> Listed:
            (written,) = self.films.model.sample([self._example(history)], 1, 0.0, hear=hear)
            return self._list(written.states, history, written)[0]

        for piece in self._heard(work):
            yield piece if isinstance(piece, Listed) else piece[0][0]

    def rank_again(self, history: History, text: str) -> Listed:
        """The list behind words that somebody typed.

        Raises:
            ValueError: for a text that is too long or holds the marker.
        """
        text = text.strip()
        if len(text) > LONGEST:
            raise ValueError(f"The reasoning has {len(text):,} characters; keep it to {LONGEST:,}.")
        if MARKER in text:
            raise ValueError(f"Leave {MARKER} out: it is put behind your words, and the list is read off there.")

        def work() -> Listed:
            model, example = self.films.model, self._example(history)
            states = model.states_behind([example], [text]) if text else model.states([example], "none")
            return replace(self._list(states, history)[0], text=text)

        return self._thread.submit(work).result()

    def compare(self, history: History, other: History) -> Iterator[list[str] | Comparison]:
        """Rank behind the model's own words, behind none, and behind what it writes for somebody else.

        Yields:
            The two texts as far as they are written, at last the comparison.
        """
        examples = [{**self._example(history), "user_id": ME}, {**self._example(other), "user_id": OTHER}]

        def work(hear: Hear) -> Comparison:
            model = self.films.model
            (written,) = model.sample(examples, 1, 0.0, hear=hear)
            none = model.states(examples[:1], "none")
            states = torch.cat([written.states[:1], none, model.states(examples, "other", written)[:1]])
            own, silent, others = self._list(states, history)
            finished = [closed.finished for closed in written.closed]
            return Comparison(
                other,
                replace(own, text=written.texts[0], finished=finished[0]),
                silent,
                replace(others, text=written.texts[1], finished=finished[1]),
            )

        for piece in self._heard(work):
            yield piece if isinstance(piece, Comparison) else [piece[number][0] for number in sorted(piece)]

    def reward(self, history: History, target: int, count: int, seed: int = 0) -> Iterator[list[str] | Rewarded]:
        """Sample a group and reward it as RecPO does: the target stays rankable even if it was seen before.

        Yields:
            The texts as far as they are written, at last their rewards.

        Raises:
            ValueError: for a group of less than two, or too many.
        """
        if not 2 <= count <= MOST_SAMPLES:
            raise ValueError(f"A group has 2 to {MOST_SAMPLES} reasonings, got {count}: one alone has no baseline.")

        def work(hear: Hear) -> Rewarded:
            model, settings = self.films.model, self.profile.reward
            temperature = self.profile.rollouts.temperature
            group = model.sample([self._example(history)], count, temperature, seed, hear)
            states = torch.cat([one.states for one in group])
            scores, targets = self.films.scores(states, history.rows, target), torch.tensor([target])
            greater, equal = target_rank(scores, targets.expand(count))
            ranking = ranking_reward(scores[None], targets, settings.ndcg_k)
            similarity = similarity_reward(scores[None], targets)
            fused = fused_reward(ranking, similarity, settings.beta)
            return Rewarded(
                texts=[one.texts[0] for one in group],
                finished=[one.closed[0].finished for one in group],
                ranks=[(above + 1, above + same) for above, same in zip(greater.tolist(), equal.tolist(), strict=True)],
                ranking=ranking[0].tolist(),
                similarity=similarity[0].tolist(),
                fused=fused[0].tolist(),
                advantages={name: advantages(fused)[0].tolist() for name, advantages in ADVANTAGES.items()},
            )

        for piece in self._heard(work):
            yield piece if isinstance(piece, Rewarded) else piece[0]

    def _heard(self, work: Callable[[Hear], T]) -> Iterator[Any | T]:
        """Run ``work`` on the model's thread; what it hears, then its result."""
        pieces: SimpleQueue[Any] = SimpleQueue()
        job: Future[T] = self._thread.submit(work, pieces.put)
        job.add_done_callback(lambda done: pieces.put(None))
        while (piece := pieces.get()) is not None:
            yield piece
        yield job.result()

    def _example(self, history: History) -> Example:
        return typed_example(history.rows, history.ratings, self.profile.data.window)

    def _list(self, states: Tensor, history: History, written: Reasonings | None = None) -> list[Listed]:
        """One list for each of (E, d) states behind the same history."""
        scores = self.films.scores(states, history.rows)
        best = top_k(scores, min(LISTED, len(self.items) - len(set(history.rows))))
        shares = scores.softmax(-1).gather(-1, best.items)
        lists = [Listed("", True, *row) for row in zip(best.items.tolist(), shares.tolist(), strict=True)]
        if written is None:
            return lists
        told = zip(written.texts, written.closed, strict=True)
        return [replace(one, text=text, finished=c.finished) for one, (text, c) in zip(lists, told, strict=True)]


def _rating(film: dict[str, Any]) -> float:
    try:
        return float(film["rating"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"A rating is a number from 0.5 to 5, got {film.get('rating')!r}.") from None


@contextmanager
def open_desk(profile: Profile, stage: str = "recpo", seed: int = 0) -> Iterator[Desk]:
    """Load data and policy, and encode the catalogue, or read it from the cache.

    An adapter that ships with the project is left out if it is of another catalogue than the data's: then the language
    model answers as published, and the desk's ``films.stage`` is ``"base"``. Any other is refused instead.

    Args:
        profile: its ``data.dataset`` may be a folder of prepared data, its adapter the reader's own.
        stage, seed: see :func:`rrec_lib.recommend.films.load_recommender`.
    """
    dataset = prepare_profile(profile)
    found = catalogue_hash(dataset["items"])
    shipped = [name for name in STAGES if str(profile.adapters.get(name)).startswith("results/")]
    if any(adapter_card(profile, name)["tied_to"]["catalogue"] != found for name in shipped):
        profile = replace(profile, adapters={})
    films = load_recommender(profile, stage, seed, dataset)
    with ThreadPoolExecutor(1, "model") as thread:
        thread.submit(lambda: films.model.item_embeddings).result()  # before merging, which changes its cache's key
        with films.model.policy.inference():
            yield Desk(films, dataset["test"], thread)
