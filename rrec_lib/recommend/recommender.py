"""A trained policy as a recommender: it writes a reasoning, and the state behind it scores the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from peft import PeftModel
from torch import Tensor

from rrec_lib.core.console import progress
from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import Example, Item
from rrec_lib.evaluation.checks import Finding, check_item_table, check_trained
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.model.precision import check_finite
from rrec_lib.model.prompts import encode_items, encode_users, marker_ids
from rrec_lib.recommend.controls import REASONING_CONTROLS, other_users, random_texts, shuffled_histories
from rrec_lib.recpo.rollouts import Closed, sample_groups


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


class ReasoningRecommender:
    """A policy with its item table, whose scores stand behind its own reasonings or a control of them."""

    def __init__(
        self,
        policy: Policy,
        items: Sequence[Item],
        profile: Profile,
        use_cache: bool = True,
        control: str = "own",
    ) -> None:
        """Args:
        policy: trained or not.
        items: the item table's rows.
        profile: sizes, and the item softmax's temperature.
        use_cache: read the item table from disk, and keep it there.
        control: what :meth:`scores` reads, see :meth:`states`.
        """
        self.policy, self.items, self.profile, self.use_cache = policy, items, profile, use_cache
        self.control = control

    @cached_property
    def item_embeddings(self) -> Tensor:
        """(N, d) item table; encoded, or read from the cache, when it is first needed."""
        return item_table(self.policy, self.items, self.use_cache)

    def reason(self, examples: Sequence[Example], temperature: float = 0.0, seed: int = 0) -> Reasonings:
        """Write one reasoning per example, greedily unless a temperature is given.

        Seeded apart from the global random stream, so that an evaluation in the midst of training changes nothing.
        """
        prompts = encode_users(self.policy.tokenizer, examples, self.items)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # like lengths together: less padding
        size = self.profile.evaluation.batch_size
        texts, closed = [""] * len(prompts), [None] * len(prompts)
        states = torch.empty(len(prompts), self.policy.hidden_size, device=self.policy.device)
        model, rollouts = language_model(self.policy.model), self.profile.rollouts
        with self.policy.inference(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for batch in progress([order[i : i + size] for i in range(0, len(order), size)], "reasoning"):
                result = sample_groups(
                    model,
                    self.policy.tokenizer,
                    [prompts[i] for i in batch],
                    1,
                    rollouts.max_new_tokens,
                    temperature,
                    rollouts.top_k,
                )
                states[batch] = result.states
                for i, text, row in zip(batch, result.texts(self.policy.tokenizer), result.closed, strict=True):
                    texts[i], closed[i] = text, row  # type: ignore[call-overload]
        return Reasonings(texts, closed, states)  # type: ignore[arg-type]

    def states(self, examples: Sequence[Example], control: str = "own", written: Reasonings | None = None) -> Tensor:
        """(E, d) user states behind the example's own reasoning, or behind a control of it.

        Args:
            examples: E examples.
            control: a key of :data:`REASONING_CONTROLS`.
            written: reasonings of the same examples, so that they need not be written again; a shuffled history is
                always read and written anew.

        Raises:
            ValueError: for an unknown control.
        """
        if control not in REASONING_CONTROLS:
            raise ValueError(f"unknown control {control!r}; choose one of {', '.join(REASONING_CONTROLS)}")
        if control == "shuffled":
            return self.reason(shuffled_histories(examples)).states
        prompts, marker = encode_users(self.policy.tokenizer, examples, self.items), marker_ids(self.policy.tokenizer)
        if control == "none":
            return encode(self.policy, [prompt + marker for prompt in prompts], description="states without reasoning")
        written = written or self.reason(examples)
        if control == "own":
            return written.states
        if control == "random":
            texts = random_texts(self.policy.tokenizer, [len(closed.ids) - len(marker) for closed in written.closed])
            swapped = [prompt + text + marker for prompt, text in zip(prompts, texts, strict=True)]
            return encode(self.policy, swapped, description="states with random text")
        donors = other_users([example["user_id"] for example in examples])
        swapped = [prompt + written.closed[donor].ids for prompt, donor in zip(prompts, donors, strict=True)]
        return encode(self.policy, swapped, description="states with another user's reasoning")

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
