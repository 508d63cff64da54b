"""Prompts: an example becomes chat messages that end where the assistant begins, and so does an item.

The user prompt asks for an analysis and the next item between markers, then lists the history, a line each: how long
ago, title, rating. The item prompt asks for the item's key attributes; its assistant turn is opened with the marker, so
that users and items are read off at the same token (R²ec, prompts of App. A; wording ours).

What an item is called, its *kind*, stands in the item table (``"album"``); without that column it is a film. Prompts
have a budget of tokens. What is too long loses the oldest history lines, or the end of an item's description, and never
the instruction or the marker.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rrec_lib.data.movielens import FILM

MARKER = "<answer>"
Messages = list[dict[str, str]]

USER_INSTRUCTION = (
    "Analyse in depth what this person likes, then recommend the next {kind} between <answer> and </answer>."
)
ITEM_INSTRUCTION = "Summarise the key attributes of this {kind} between <answer> and </answer>."
MAX_USER_TOKENS, MAX_ITEM_TOKENS = 1536, 512  # budgets; 20 titles of 20 words and 100 words of description fit
DESCRIPTION_WORDS = 100  # R²ec, App. A
_PERIODS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def relative_time(seconds: float) -> str:
    """How long ago, in the largest whole unit: ``"3 months ago"``; under a minute is ``"just now"``."""
    for length, unit in _PERIODS:
        count = int(seconds // length)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def item_name(item: Mapping[str, Any]) -> str:
    """Title with its year, where the year is known: ``"Alien (1979)"``."""
    return f"{item['title']} ({item['year']})" if item.get("year") else str(item["title"])


def item_kind(item: Mapping[str, Any]) -> str:
    """What prompts call an item: ``"film"`` unless the item table says otherwise."""
    return str(item.get("kind") or FILM)


def user_messages(
    example: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    lines: int | None = None,
    title_words: int | None = None,
    instruction: str | None = None,
) -> Messages:
    """The messages for one example: instruction and history, never the target.

    Args:
        example: ``history``, ``history_ratings`` and ``history_timestamps`` of equal length, and ``target_timestamp``,
            the moment of recommending, in seconds.
        items: the item table; ``history`` indexes it.
        lines: how many of the last lines are kept; all if not given.
        title_words: how many words of each title are kept; all if not given.
        instruction: with a place for the items' kind; the one that asks for a reasoning, if not given.

    Raises:
        ValueError: for an empty history.
    """
    if not example["history"]:
        raise ValueError("the history is empty; give at least one item, for there is nothing to reason about")
    now = example["target_timestamp"]
    rows = list(zip(example["history"], example["history_ratings"], example["history_timestamps"], strict=True))
    kept = rows[-lines:] if lines else rows
    texts = [
        f"{relative_time(now - time)}: {_first_words(item_name(items[i]), title_words)}, {rating:g}/5"
        for i, rating, time in kept
    ]
    kind = item_kind(items[rows[-1][0]])
    verb = "seen" if kind == FILM else "rated"
    history = f"{kind[0].upper()}{kind[1:]}s {verb}, oldest first:\n" + "\n".join(texts)
    return [
        {"role": "system", "content": (instruction or USER_INSTRUCTION).format(kind=kind)},
        {"role": "user", "content": history},
    ]


def item_messages(
    item: Mapping[str, Any], description_words: int = DESCRIPTION_WORDS, title_words: int | None = None
) -> Messages:
    """The messages for one item; the marker is added by :func:`encode_items`.

    Title, genres or categories and the description are given where the item table has them. So are the average rating
    and the number of buyers, which know the future: tables have them only where that was asked for.

    Args:
        item: a row of the item table.
        description_words: how many words of the description are kept.
        title_words: how many words of the title; all if not given.
    """
    lines = [f"Title: {_first_words(item_name(item), title_words)}"]
    if "genres" in item:
        lines.append(f"Genres: {', '.join(item['genres']) or 'unknown'}")
    if item.get("categories"):
        lines.append(f"Categories: {', '.join(item['categories'])}")
    if item.get("average_rating") is not None:
        lines.append(f"Average rating: {item['average_rating']:g} out of 5")
    if item.get("rating_number") is not None:
        lines.append(f"Number of buyers: {item['rating_number']}")
    if description := _first_words(item.get("description") or "", description_words):
        lines.append(f"Description: {description}")
    instruction = ITEM_INSTRUCTION.format(kind=item_kind(item))
    return [{"role": "system", "content": instruction}, {"role": "user", "content": "\n".join(lines)}]


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """Apply the tokenizer's chat template up to the assistant's turn.

    A template that has no system role (Gemma-2's) gets the instruction at the head of the user's turn.
    """
    if not _has_system_role(tokenizer):
        instruction, user = messages
        messages = [{"role": "user", "content": f"{instruction['content']}\n\n{user['content']}"}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def encode_users(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Mapping[str, Any]],
    max_tokens: int = MAX_USER_TOKENS,
    instruction: str | None = None,
) -> list[list[int]]:
    """Token ids of each example's prompt, without the marker: the policy goes on from here.

    Args:
        tokenizer: with a chat template.
        examples: see :func:`user_messages`.
        items: the item table.
        max_tokens: the budget of a prompt; see :func:`fit_user`.
        instruction: see :func:`user_messages`.

    Raises:
        ValueError: for an empty history, or a budget below the instruction's own length.
    """
    return [fit_user(tokenizer, example, items, max_tokens, instruction)[0] for example in examples]


def fit_user(
    tokenizer: PreTrainedTokenizerBase,
    example: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    max_tokens: int,
    instruction: str | None = None,
) -> tuple[list[int], int]:
    """One example's prompt within a budget: the oldest lines go first, then words of the last title.

    Returns:
        The token ids, at most ``max_tokens``, and how many history lines were left out.
    """

    def ids(lines: int | None = None, title_words: int | None = None) -> list[int]:
        return _encode(tokenizer, render(tokenizer, user_messages(example, items, lines, title_words, instruction)))

    whole, total = ids(), len(example["history"])
    if len(whole) <= max_tokens:  # nearly always
        return whole, 0
    kept = _largest(lambda lines: len(ids(lines)) <= max_tokens, 1, total - 1)
    if kept:
        return ids(kept), total - kept
    words = len(_word_ends(item_name(items[example["history"][-1]])))
    kept = _largest(lambda words: len(ids(1, words)) <= max_tokens, 0, words)
    if kept is None:
        raise ValueError(f"a prompt may have {max_tokens} tokens, and the instruction alone has more; raise max_tokens")
    return ids(1, kept), total - 1


def encode_items(
    tokenizer: PreTrainedTokenizerBase, items: Sequence[Mapping[str, Any]], max_tokens: int = MAX_ITEM_TOKENS
) -> list[list[int]]:
    """Token ids of each item's prompt, the assistant's turn opened with the marker.

    Args:
        tokenizer: with a chat template.
        items: rows of the item table.
        max_tokens: the budget of a prompt, marker included; what is too long loses the end of its description, then
            that of its title.

    Raises:
        ValueError: for a budget below the length of instruction and marker.
    """
    marker = marker_ids(tokenizer)
    return [_fit_item(tokenizer, item, max_tokens - len(marker)) + marker for item in items]


def _fit_item(tokenizer: PreTrainedTokenizerBase, item: Mapping[str, Any], budget: int) -> list[int]:
    def ids(description_words: int, title_words: int | None = None) -> list[int]:
        return _encode(tokenizer, render(tokenizer, item_messages(item, description_words, title_words)))

    whole = ids(DESCRIPTION_WORDS)
    if len(whole) <= budget:  # nearly always
        return whole
    words = min(DESCRIPTION_WORDS, len(_word_ends(item.get("description") or "")))
    kept = _largest(lambda words: len(ids(words)) <= budget, 0, words - 1)
    if kept is not None:
        return ids(kept)
    kept = _largest(lambda words: len(ids(0, words)) <= budget, 0, len(_word_ends(item_name(item))))
    if kept is None:
        raise ValueError(f"{budget} tokens before the marker don't hold the instruction and categories of an item; "
                         "raise max_tokens")  # fmt: skip
    return ids(0, kept)


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number from ``low`` to ``high`` that fits, where less fits whenever more does; None if none does."""
    least = low
    while low <= high:  # everything below low fits, and nothing above high
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(middle) else (low, middle - 1)
    return low - 1 if low > least else None


def _first_words(text: str, count: int | None) -> str:
    """The first words of a text, whitespace as single spaces; a text of which nothing is cut stays as it is."""
    ends = _word_ends(text) if count is not None else []
    return text if count is None or len(ends) <= count else " ".join(text[: [0, *ends][count]].split())


def _word_ends(text: str) -> list[int]:
    """Where the words of a text end. What has no spaces, as Japanese, counts as a word for each 32 signs."""
    return [found.end() for found in re.finditer(r"\S{1,32}", text)]


def marker_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The marker's canonical token ids; three in SmolLM2."""
    return _encode(tokenizer, MARKER)


def closing_ids(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """What closes a reasoning's token ids: the marker, and the line's end before it where there is one."""
    marker = marker_ids(tokenizer)
    lengths = range(1, len(ids) + 1)  # a policy may have written the marker in other tokens
    length = next((n for n in lengths if MARKER in str(tokenizer.decode(list(ids[-n:])))), len(marker))
    before = list(ids[: len(ids) - length])[-1:]
    return [*before, *marker] if before and not str(tokenizer.decode(before)).strip() else marker


def reasoning_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a reasoning that is given instead of sampled, the marker on a line of its own behind it."""
    return _encode(tokenizer, f"{text}\n{MARKER}")


def prompts_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the wording and the chat template, 16 hex digits: trained states are tied to both."""
    film = {"title": "T", "year": 1, "genres": ["g"]}
    more = {"kind": "k", "categories": ["c"], "average_rating": 1.0, "rating_number": 1,
            "description": " ".join(["d"] * (DESCRIPTION_WORDS + 1))}  # fmt: skip
    items, ages = [film, {**film, **more}], [0, *(length for length, _ in _PERIODS)]
    examples = [
        {"history": [which] * len(ages), "history_ratings": [1.0] * len(ages), "history_timestamps": [-s for s in ages],
         "target_timestamp": 0} for which in range(len(items))
    ]  # fmt: skip
    ids = encode_users(tokenizer, examples, items) + encode_items(tokenizer, items)
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
