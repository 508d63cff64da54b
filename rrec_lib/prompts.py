"""Prompts: an example becomes chat messages that end where the assistant begins, and so does an item.

The user prompt asks for an analysis and the next item between markers, then lists the history, a line each: how long
ago, title, rating. The item prompt asks for the item's key attributes; its assistant turn is opened with the marker, so
that users and items are read off at the same token (R²ec, prompts of App. A; wording ours).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

MARKER = "<answer>"
Messages = list[dict[str, str]]

USER_INSTRUCTION = (
    "Analyse in depth what this person likes, then recommend the next film between <answer> and </answer>."
)
ITEM_INSTRUCTION = "Summarise the key attributes of this film between <answer> and </answer>."
_PERIODS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def relative_time(seconds: float) -> str:
    """How long ago, in the largest whole unit: ``"3 months ago"``; under a minute is ``"just now"``."""
    for length, unit in _PERIODS:
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def item_name(item: Mapping[str, Any]) -> str:
    """Title with its year, where the year is known: ``"Alien (1979)"``."""
    return f"{item['title']} ({item['year']})" if item["year"] else str(item["title"])


def user_messages(example: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Messages:
    """The messages for one example: instruction and history, never the target.

    Args:
        example: ``history``, ``history_ratings`` and ``history_timestamps`` of equal length, and ``target_timestamp``,
            the moment of recommending.
        items: the item table; ``history`` indexes it.

    Raises:
        ValueError: for an empty history.
    """
    if not example["history"]:
        raise ValueError("the history is empty; give at least one film, for there is nothing to reason about")
    now = example["target_timestamp"]
    rows = zip(example["history"], example["history_ratings"], example["history_timestamps"], strict=True)
    lines = [f"{relative_time(now - time)}: {item_name(items[i])}, {rating:g}/5" for i, rating, time in rows]
    history = "Films seen, oldest first:\n" + "\n".join(lines)
    return [{"role": "system", "content": USER_INSTRUCTION}, {"role": "user", "content": history}]


def item_messages(item: Mapping[str, Any]) -> Messages:
    """The messages for one item, its title last but for the genres; the marker is added by :func:`encode_items`."""
    genres = ", ".join(item["genres"]) or "unknown"
    content = f"Title: {item_name(item)}\nGenres: {genres}"
    return [{"role": "system", "content": ITEM_INSTRUCTION}, {"role": "user", "content": content}]


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """Apply the tokenizer's chat template up to the assistant's turn.

    A template that has no system role (Gemma-2's) gets the instruction at the head of the user's turn.
    """
    if not _has_system_role(tokenizer):
        instruction, user = messages
        messages = [{"role": "user", "content": f"{instruction['content']}\n\n{user['content']}"}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def encode_users(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
) -> list[list[int]]:
    """Token ids of each example's prompt, without the marker: the policy goes on from here."""
    return [_encode(tokenizer, render(tokenizer, user_messages(example, items))) for example in examples]


def encode_items(tokenizer: PreTrainedTokenizerBase, items: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Token ids of each item's prompt, the assistant's turn opened with the marker."""
    marker = marker_ids(tokenizer)
    return [_encode(tokenizer, render(tokenizer, item_messages(item))) + marker for item in items]


def marker_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The marker's canonical token ids; three in SmolLM2."""
    return _encode(tokenizer, MARKER)


def prompts_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the wording and the chat template, 16 hex digits: trained states are tied to both."""
    item = {"title": "T", "year": 1, "genres": ["g"]}
    example = {"history": [0], "history_ratings": [1.0], "history_timestamps": [0], "target_timestamp": 60}
    ids = encode_users(tokenizer, [example], [item]) + encode_items(tokenizer, [item])
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=8)
def _has_system_role(tokenizer: PreTrainedTokenizerBase) -> bool:
    probe = [{"role": "system", "content": "probe"}, {"role": "user", "content": "x"}]
    try:
        return "probe" in str(tokenizer.apply_chat_template(probe, tokenize=False))
    except TemplateError:
        return False
