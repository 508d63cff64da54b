"""A trained policy as a recommender: it writes a reasoning, and the state behind it scores the catalogue."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from peft import PeftModel
from torch import Tensor

from rrec_lib.core.console import progress
from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import Example, Item
from rrec_lib.evaluation.checks import Finding, check_item_table, check_trained
from rrec_lib.evaluation.scoring import score_items, unit_rows
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.model.precision import check_finite
from rrec_lib.model.prompts import closing_ids, encode_items, encode_users, marker_ids, reasoning_ids
from rrec_lib.recommend.controls import (
    GIVEN_TEXTS,
    REASONING_CONTROLS,
    SWAPPED,
    other_users,
    random_texts,
    shuffled_histories,
    swap_titles,
)
from rrec_lib.recpo.rollouts import Closed, sample_groups
from rrec_lib.training.skills import World

Hear = Callable[[Mapping[int, list[str]]], None]


@dataclass(frozen=True)
class Reasonings:
    """What the policy wrote for E examples.

    Attributes:
        texts: E strings, without the marker.
        closed: E reasonings as token ids.
        states: (E, d) states at the marker.
    """

    texts: list[str]
    closed: list[Closed]
    states: Tensor

    @property
    def finished_fraction(self) -> float:
        """Share of reasonings in which the policy wrote the marker itself."""
        return sum(c.finished for c in self.closed) / len(self.closed)


def _tell(hear: Hear, batch: Sequence[int], count: int, texts: list[str]) -> None:
    hear({i: texts[place * count : (place + 1) * count] for place, i in enumerate(batch)})


def seed_of(examples: Sequence[Example], seed: int = 0) -> int:
    """A seed for what is drawn for some rows, from their histories: the same for the same ones, whatever the target."""
    return zlib.crc32(json.dumps([seed, [list(example["history"]) for example in examples]]).encode())


def averaged(states: Tensor) -> Tensor:
    """One state from several reasonings' states: the mean of their directions.

    Each is normalised first, since ``rec_head`` scores by cosine: so the catalogue is ranked by the mean of the scores
    that the reasonings give it, and a long state counts for no more than a short one. Of one state nothing changes in
    the scores.

    Args:
        states: (K, E, d).

    Returns:
        (E, d).
    """
    return unit_rows(states).mean(0)


class ReasoningRecommender:
    """A policy with its item table, whose scores stand behind its own reasonings or a control of them."""

    def __init__(
        self,
        policy: Policy,
        items: Sequence[Item],
        profile: Profile,
        use_cache: bool = True,
        control: str = "own",
        world: World | None = None,
    ) -> None:
        """Args:
        policy: trained or not.
        items: the item table's rows.
        profile: sizes, and the item softmax's temperature.
        use_cache: read the item table from disk, and keep it there.
        control: what :meth:`scores` reads, see :meth:`states`.
        world: neighbours of the items, for controls that compute or change texts.
        """
        self.policy, self.items, self.profile, self.use_cache = policy, items, profile, use_cache
        self.control, self.world = control, world

    @cached_property
    def item_embeddings(self) -> Tensor:
        """(N, d) item table; encoded, or read from the cache, when it is first needed."""
        return item_table(self.policy, self.items, self.use_cache)

    def reason(self, examples: Sequence[Example], temperature: float = 0.0, seed: int = 0) -> Reasonings:
        """Write one reasoning per example, greedily unless a temperature is given; see :meth:`sample`."""
        return self.sample(examples, 1, temperature, seed)[0]

    def sample(
        self, examples: Sequence[Example], count: int, temperature: float, seed: int = 0, hear: Hear | None = None
    ) -> list[Reasonings]:
        """Write ``count`` reasonings per example; a prompt is computed once for all of its own.

        As many are written at a time whatever the count. Seeded apart from the global random stream, so that an
        evaluation in the midst of training changes nothing.

        Args:
            examples, count, temperature, seed: what to write, and how.
            hear: called at each step with the ``count`` texts, as far as they are written, of each example at work.

        Returns:
            ``count`` times one reasoning for each of the examples.
        """
        prompts = encode_users(self.policy.tokenizer, examples, self.items)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # like lengths together: less padding
        size = -(-self.profile.evaluation.batch_size // count)
        texts, closed = [[""] * len(prompts) for _ in range(count)], [[None] * len(prompts) for _ in range(count)]
        states = torch.empty(count, len(prompts), self.policy.hidden_size, device=self.policy.device)
        model, rollouts = language_model(self.policy.model), self.profile.rollouts
        with self.policy.inference(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for batch in progress([order[i : i + size] for i in range(0, len(order), size)], "reasoning"):
                result = sample_groups(
                    model,
                    self.policy.tokenizer,
                    [prompts[i] for i in batch],
                    count,
                    rollouts.max_new_tokens,
                    temperature,
                    rollouts.top_k,
                    hear=None if hear is None else partial(_tell, hear, batch, count),
                )
                states[:, batch] = result.states.view(len(batch), count, -1).transpose(0, 1)
                found = list(zip(result.texts(self.policy.tokenizer), result.closed, strict=True))
                for place, i in enumerate(batch):
                    for number, (text, row) in enumerate(found[place * count : (place + 1) * count]):
                        texts[number][i], closed[number][i] = text, row  # type: ignore[call-overload]
        return [Reasonings(*one) for one in zip(texts, closed, states, strict=True)]  # type: ignore[arg-type]

    def states_behind(self, examples: Sequence[Example], texts: Sequence[str]) -> Tensor:
        """(E, d) states behind texts that are given, the marker on a line of its own behind each."""
        tokenizer = self.policy.tokenizer
        prompts = encode_users(tokenizer, examples, self.items)
        whole = [prompt + reasoning_ids(tokenizer, text) for prompt, text in zip(prompts, texts, strict=True)]
        return encode(self.policy, whole, description="states behind given texts")

    def states(self, examples: Sequence[Example], control: str = "own", written: Reasonings | None = None) -> Tensor:
        """(E, d) user states behind the example's own reasoning, or behind a control of it.

        Args:
            examples: E examples.
            control: a key of :data:`REASONING_CONTROLS`.
            written: reasonings of the same examples, so that they need not be written again; a shuffled history is
                always read and written anew.

        Raises:
            ValueError: for an unknown control, or one that needs a world where none was given.
        """
        if control not in REASONING_CONTROLS:
            raise ValueError(f"unknown control {control!r}; choose one of {', '.join(REASONING_CONTROLS)}")
        if control in GIVEN_TEXTS:
            world = self._world(control)
            return self.states_behind(examples, [GIVEN_TEXTS[control](example, world) for example in examples])
        if control == "shuffled":
            return self.reason(shuffled_histories(examples, seed_of(examples))).states
        prompts, marker = encode_users(self.policy.tokenizer, examples, self.items), marker_ids(self.policy.tokenizer)
        if control == "none":
            return encode(self.policy, [prompt + marker for prompt in prompts], description="states without reasoning")
        written = written or self.reason(examples)
        if control == "own":
            return written.states
        if control == SWAPPED:
            return self._states_swapped(examples, written)
        if control == "random":
            endings = [closing_ids(self.policy.tokenizer, closed.ids) for closed in written.closed]
            lengths = [len(closed.ids) - len(end) for closed, end in zip(written.closed, endings, strict=True)]
            texts = random_texts(self.policy.tokenizer, lengths, seed_of(examples))
            swapped = [prompt + text + end for prompt, text, end in zip(prompts, texts, endings, strict=True)]
            return encode(self.policy, swapped, description="states with random text")
        donors = other_users([example["user_id"] for example in examples])
        swapped = [prompt + written.closed[donor].ids for prompt, donor in zip(prompts, donors, strict=True)]
        return encode(self.policy, swapped, description="states with another user's reasoning")

    def _world(self, control: str) -> World:
        if self.world is None:
            raise ValueError(f"control {control!r} needs the items' neighbours: give the recommender a world, "
                             "as rrec_lib.training.skills.world_of(dataset) makes it")  # fmt: skip
        return self.world

    def _states_swapped(self, examples: Sequence[Example], written: Reasonings) -> Tensor:
        """States behind texts with one title swapped; where a text names none, the state that it has."""
        swaps = swap_titles(written.texts, examples, self._world(SWAPPED))
        rows, states = [row for row, swap in enumerate(swaps) if swap.added is not None], written.states.clone()
        if rows:
            states[rows] = self.states_behind([examples[row] for row in rows], [swaps[row].text for row in rows])
        return states

    def score_states(self, states: Tensor) -> Tensor:
        """(E, N) scores of the catalogue: cosine over τ; ``ValueError`` for states that are no numbers."""
        return score_items(
            check_finite(states, self.policy.compute_dtype), self.item_embeddings, self.profile.reward.temperature
        )

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) scores behind the examples' own greedy reasonings, or behind this recommender's control."""
        return self.score_states(self.states(examples, self.control))

    def check(self, examples: Sequence[Example], name: str, trained: bool, rows: int = 4) -> list[Finding]:
        """Try on a few rows that the adapter does something and that the item table is in the catalogue's order.

        Args:
            examples: what is to be evaluated.
            name: for messages.
            trained: whether the policy claims to be trained; the base model's own adapter does nothing.
            rows: how many examples and items to try.

        Raises:
            ValueError: as ``check_trained`` and ``check_item_table`` of :mod:`rrec_lib.evaluation.checks`.
        """
        findings, tried, model = [], examples[:rows], self.policy.model
        if trained and isinstance(model, PeftModel):
            states = self.states(tried, "none")
            with model.disable_adapter():
                findings.append(check_trained(states, self.states(tried, "none"), name))

        def encode_again(numbers: list[int]) -> Tensor:
            return encode(self.policy, encode_items(self.policy.tokenizer, [self.items[i] for i in numbers]))

        return [*findings, check_item_table(self.item_embeddings, encode_again, name, rows)]
