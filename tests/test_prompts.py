"""Prompts: what stands in them, what never does, and how they fit a chat template without a system role."""

import copy

import pytest

from rrec_lib import prompts
from rrec_lib.models import load_tokenizer
from rrec_lib.prompts import (
    encode_items,
    encode_users,
    item_messages,
    item_name,
    marker_ids,
    prompts_hash,
    relative_time,
    render,
    user_messages,
)

ITEMS = [
    {"title": "Alien", "year": 1979, "genres": ["Horror", "Sci-Fi"]},
    {"title": "Fargo", "year": 1996, "genres": ["Crime"]},
    {"title": "Lost Reel", "year": 0, "genres": []},
]
DAY = 86400
EXAMPLE = {
    "history": [2, 0],
    "history_ratings": [3.5, 4.0],
    "history_timestamps": [0, 399 * DAY],
    "target": 1,
    "target_timestamp": 400 * DAY,
}
ACCEPTS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + ACCEPTS
IGNORES = "{% for m in messages if m['role'] != 'system' %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-random")


def with_template(tokenizer, template):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def test_relative_times_are_whole_units():
    for seconds, words in (
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (DAY, "1 day ago"),
        (29 * DAY, "29 days ago"),
        (30 * DAY, "1 month ago"),
        (364 * DAY, "12 months ago"),
        (365 * DAY, "1 year ago"),
        (800 * DAY, "2 years ago"),
    ):
        assert relative_time(seconds) == words


def test_messages_by_hand():
    system, user = user_messages(EXAMPLE, ITEMS)
    assert (system["role"], user["role"]) == ("system", "user")
    assert "<answer>" in system["content"]
    assert user["content"] == ("Films seen, oldest first:\n1 year ago: Lost Reel, 3.5/5\n1 day ago: Alien (1979), 4/5")
    assert item_messages(ITEMS[0])[1]["content"] == "Title: Alien (1979)\nGenres: Horror, Sci-Fi"
    assert item_messages(ITEMS[2])[1]["content"] == "Title: Lost Reel\nGenres: unknown"
    assert item_name(ITEMS[2]) == "Lost Reel"


def test_an_empty_history_and_an_uneven_one_are_refused():
    with pytest.raises(ValueError, match="history is empty"):
        user_messages({**EXAMPLE, "history": []}, ITEMS)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        user_messages({**EXAMPLE, "history_ratings": [5.0]}, ITEMS)


def leaks(example, items):
    text = str(user_messages(example, items))
    target = items[example["target"]]["title"]
    return target in text and not any(target in items[i]["title"] for i in example["history"])


def test_a_prompt_names_no_film_outside_the_history(smoke_dataset):
    items = list(smoke_dataset["items"])
    for split in ("train", "valid", "test"):
        for example in smoke_dataset[split]:
            text = user_messages(example, items)[1]["content"]
            assert all(items[i]["title"] in text for i in example["history"])
            assert not leaks(example, items)


def test_the_leak_check_sees_a_leak(monkeypatch):
    assert not leaks(EXAMPLE, ITEMS)
    monkeypatch.setattr(prompts, "USER_INSTRUCTION", "Recommend Fargo.")
    assert leaks(EXAMPLE, ITEMS)


@pytest.mark.parametrize("template", [REFUSES, IGNORES])
def test_without_a_system_role_the_instruction_heads_the_users_turn(tokenizer, template):
    expected = f"[user]{prompts.ITEM_INSTRUCTION}\n\nTitle: Alien (1979)\nGenres: Horror, Sci-Fi"
    assert render(with_template(tokenizer, template), item_messages(ITEMS[0])) == expected


def test_with_a_system_role_nothing_is_merged(tokenizer):
    expected = f"[system]{prompts.ITEM_INSTRUCTION}[user]Title: Alien (1979)\nGenres: Horror, Sci-Fi"
    assert render(with_template(tokenizer, ACCEPTS), item_messages(ITEMS[0])) == expected


def test_items_end_with_the_marker_and_users_do_not(tokenizer):
    marker = marker_ids(tokenizer)
    assert tokenizer.decode(marker) == prompts.MARKER
    assert all(ids[-len(marker) :] == marker for ids in encode_items(tokenizer, ITEMS))
    (user,) = encode_users(tokenizer, [EXAMPLE], ITEMS)
    assert user[-len(marker) :] != marker
    assert tokenizer.decode(user) == render(tokenizer, user_messages(EXAMPLE, ITEMS))  # no second beginning of text


def test_the_hash_follows_template_and_wording(tokenizer, monkeypatch):
    first = prompts_hash(tokenizer)
    assert prompts_hash(copy.deepcopy(tokenizer)) == first
    assert prompts_hash(with_template(tokenizer, ACCEPTS)) != first
    for name in ("USER_INSTRUCTION", "ITEM_INSTRUCTION"):
        with monkeypatch.context() as patch:
            patch.setattr(prompts, name, getattr(prompts, name) + " Please.")
            assert prompts_hash(tokenizer) != first
    assert prompts_hash(tokenizer) == first
