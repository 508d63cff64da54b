"""Closing a reasoning: where the marker is found, what is dropped, what is appended."""

import pytest
import torch
from transformers import AutoTokenizer

from rrec_lib.models import resolve
from rrec_lib.prompts import MARKER, marker_ids, relative_time, user_messages
from rrec_lib.rollouts import close, sample_groups


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(resolve("smollm2-135m-instruct"))


CASES = {
    # text as sampled: (kept text, finished, trimmed)
    "They like crime.\n<answer>": ("They like crime.\n", True, False),
    "They like crime.<answer> Fargo": ("They like crime.", True, False),  # `.<` is one token
    "crime <answer></answer>": ("crime ", True, True),  # `></` is one token, so the marker overshoots
    "They like": ("They like", False, False),
    "": ("", False, False),
    "<answer>": ("", True, False),
    "one<answer>two<answer>": ("one", True, False),
}


@pytest.mark.parametrize("text", CASES)
def test_close(text, tokenizer):
    kept, finished, trimmed = CASES[text]
    sampled = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    closed = close(sampled, tokenizer)
    decoded = tokenizer.decode(closed.ids)
    assert decoded.endswith(MARKER)
    assert decoded.count(MARKER) == 1
    assert decoded.removesuffix(MARKER).strip() == kept.strip()
    assert (closed.finished, closed.trimmed) == (finished, trimmed)
    if finished and not trimmed:
        assert closed.ids == sampled[: len(closed.ids)]  # as sampled, never re-tokenised
        assert closed.sampled == len(closed.ids)
    else:
        assert closed.ids[closed.sampled :] == marker_ids(tokenizer)  # appended, so masked out of the loss


def test_the_end_of_turn_ends_a_reasoning(tokenizer):
    ids = tokenizer("fine", add_special_tokens=False)["input_ids"]
    marker = marker_ids(tokenizer)
    closed = close([*ids, tokenizer.eos_token_id, *marker], tokenizer, {tokenizer.eos_token_id})
    assert closed.ids == ids + marker
    assert not closed.finished


def test_rollouts_refuse_nothing_to_do(tokenizer):
    with pytest.raises(ValueError, match="at least one prompt"):
        sample_groups(torch.nn.Linear(1, 1), tokenizer, [], 2, 4)


def test_relative_times_are_whole_units():
    day = 86400
    for seconds, words in (
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (day, "1 day ago"),
        (29 * day, "29 days ago"),
        (30 * day, "1 month ago"),
        (800 * day, "2 years ago"),
    ):
        assert relative_time(seconds) == words


def test_a_prompt_names_no_film_outside_the_history(smoke_dataset):
    items = list(smoke_dataset["items"])
    for example in smoke_dataset["test"]:
        text = user_messages(example, items)[1]["content"]
        shown = {items[i]["title"] for i in example["history"]}
        assert all(title in text for title in shown)
        target = items[example["target"]]["title"]
        assert target not in text or any(target in title for title in shown)
    with pytest.raises(ValueError, match="history is empty"):
        user_messages({"history": []}, items)
