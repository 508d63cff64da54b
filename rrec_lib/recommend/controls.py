"""Controls of a reasoning: what stands before the marker in its place, to see whether the recommender reads it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from rrec_lib.data.examples import Example

REASONING_CONTROLS = {
    "own": "what the policy wrote",
    "none": "nothing: the marker follows the prompt at once",
    "other": "what it wrote for the next example of a different user",
    "random": "random tokens, as many as it wrote",
    "shuffled": "what it wrote of the history in random order, which the prompt then has too",
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
