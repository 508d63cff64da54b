"""Prompts: what stands in them, what never does, and how they fit a chat template without a system role."""

import copy
import itertools

import pytest

from rrec_lib.model import prompts
from rrec_lib.model.load import load_tokenizer
from rrec_lib.model.prompts import (
    encode_items,
    encode_users,
    fit_user,
    item_kind,
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
FILM_INSTRUCTION = prompts.ITEM_INSTRUCTION.format(kind="film")
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


@pytest.mark.parametrize(("template", "turn"), [(REFUSES, "\n\n"), (IGNORES, "\n\n"), (ACCEPTS, "[user]")])
def test_without_a_system_role_the_instruction_heads_the_users_turn(tokenizer, template, turn):
    role = "[system]" if template == ACCEPTS else "[user]"
    expected = f"{role}{FILM_INSTRUCTION}{turn}Title: Alien (1979)\nGenres: Horror, Sci-Fi"
    assert render(with_template(tokenizer, template), item_messages(ITEMS[0])) == expected


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
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "DESCRIPTION_WORDS", 5)
        patch.setattr(prompts.item_messages, "__defaults__", (5, None))
        assert prompts_hash(tokenizer) != first
    for name, change in (("item_kind", str.upper), ("relative_time", str.upper), ("_first_words", str.upper)):
        with monkeypatch.context() as patch:
            of = getattr(prompts, name)
            patch.setattr(prompts, name, lambda *given, of=of, change=change: change(of(*given)))
            assert prompts_hash(tokenizer) != first
    assert prompts_hash(tokenizer) == first


# -- other catalogues -----------------------------------------------------------------------------------------------

WORDS = [f"word{number}" for number in range(300)]
ALBUMS = [
    {"title": f"Album {letter}", "kind": "album", "categories": ["Music", "Jazz"], "description": description}
    for letter, description in (("A", " ".join(WORDS)), ("B", "Made after Album C."), ("C", ""), ("D", None))
]
FANS = {
    **EXAMPLE,
    "history": [0, 1, 3],
    "history_ratings": [5.0, 4.0, 3.0],
    "history_timestamps": [0, 1, 2],
    "target": 2,
}


def test_the_kind_of_the_items_decides_the_wording():
    system, user = user_messages(FANS, ALBUMS)
    assert "the next album between" in system["content"]
    assert user["content"].startswith("Albums rated, oldest first:\n")
    assert "this album between" in item_messages(ALBUMS[1])[0]["content"]
    assert item_kind(ITEMS[0]) == "film"


def test_an_item_prompt_by_hand():
    known = {"average_rating": 4.25, "rating_number": 17}
    content = item_messages({**ALBUMS[1], **known})[1]["content"]
    assert content == (
        "Title: Album B\nCategories: Music, Jazz\nAverage rating: 4.25 out of 5\nNumber of buyers: 17\n"
        "Description: Made after Album C."
    )
    plain = item_messages(ALBUMS[3])[1]["content"]
    assert plain == "Title: Album D\nCategories: Music, Jazz"  # nothing is said that the table lacks


def test_a_description_gives_its_first_hundred_words():
    content = item_messages(ALBUMS[0])[1]["content"]
    assert content.endswith(" ".join(WORDS[:100]))
    assert WORDS[100] not in content.split()


def test_no_user_prompt_takes_anything_from_descriptions():
    for history in itertools.permutations(range(4), 2):
        for target in set(range(4)) - set(history):
            example = {**EXAMPLE, "history": list(history), "target": target}
            assert not leaks(example, ALBUMS)
    assert "Album C" in item_messages(ALBUMS[1])[1]["content"]  # B's description would give C away


def long_history(count):
    return {
        **EXAMPLE,
        "history": [0, 1] * (count // 2),
        "history_ratings": [4.0] * count,
        "history_timestamps": list(range(count)),
    }


def test_the_oldest_lines_go_first_and_the_instruction_never(tokenizer):
    example = long_history(20)
    (whole,) = encode_users(tokenizer, [example], ITEMS)
    shorter = {**example, "history_timestamps": [*example["history_timestamps"][:-1], 150 * DAY]}  # marks the last
    for budget in (len(whole), len(whole) - 1, len(whole) // 2, 80):
        ids, dropped = fit_user(tokenizer, shorter, ITEMS, budget)
        text = tokenizer.decode(ids)
        assert len(ids) <= budget
        assert text.count("/5") == 20 - dropped
        assert prompts.USER_INSTRUCTION.format(kind="film") in text
        assert "8 months ago: Fargo (1996)" in text  # the newest
        if dropped:  # one more line would not have fitted
            more = user_messages(shorter, ITEMS, 20 - dropped + 1)
            assert len(tokenizer(render(tokenizer, more), add_special_tokens=False)["input_ids"]) > budget
    assert fit_user(tokenizer, shorter, ITEMS, len(whole) + 5)[1] == 0


def test_one_line_that_is_too_long_loses_the_end_of_its_title(tokenizer):
    items = [{"title": " ".join(WORDS), "year": 0, "genres": []}]
    example = {**EXAMPLE, "history": [0, 0], "target": 0}
    ids, dropped = fit_user(tokenizer, example, items, 120)
    text = tokenizer.decode(ids)
    assert len(ids) <= 120
    assert dropped == 1
    assert "word0 word1" in text
    assert "4/5" in text
    with pytest.raises(ValueError, match="instruction alone"):
        fit_user(tokenizer, example, items, 20)


def test_an_item_loses_its_description_before_its_title_and_never_the_marker(tokenizer):
    item = {"title": " ".join(WORDS[:40]), "kind": "album", "description": " ".join(WORDS)}
    marker = marker_ids(tokenizer)
    (whole,) = encode_items(tokenizer, [item], 10_000)
    for budget in (len(whole), len(whole) - 1, 250, 100):
        (ids,) = encode_items(tokenizer, [item], budget)
        text = tokenizer.decode(ids)
        assert len(ids) <= budget
        assert ids[-len(marker) :] == marker
        assert prompts.ITEM_INSTRUCTION.format(kind="album") in text
        assert ("word39" in text) == (budget >= 250)  # the title is whole as long as there is a description to cut
    assert len(whole) > 250
    with pytest.raises(ValueError, match="raise max_tokens"):
        encode_items(tokenizer, [item], 20)


def test_texts_without_spaces_are_cut_and_not_dropped(tokenizer):
    signs = "".join(chr(0x3042 + number % 80) for number in range(3000))
    (ids,) = encode_items(tokenizer, [{"title": "T", "year": 0, "description": signs}])
    text = tokenizer.decode(ids)
    kept = text.split("Description: ")[1].split("<|im_end|>")[0]
    assert signs.startswith(kept)
    assert len(kept) >= 32
    (more,) = encode_items(tokenizer, [{"title": "T", "year": 0, "description": signs[: len(kept) + 32]}], 10_000)
    assert len(ids) <= prompts.MAX_ITEM_TOKENS < len(more)
    (ids,) = encode_items(tokenizer, [{"title": signs, "year": 0}])
    assert signs[:32] in tokenizer.decode(ids)
    (ids,) = encode_users(tokenizer, [{**EXAMPLE, "history": [0, 0]}], [{"title": signs, "year": 0}], 300)
    assert signs[:32] in tokenizer.decode(ids)


def test_a_title_of_a_thousand_words_stays_within_the_default_budgets(tokenizer):
    items = [{"title": " ".join(WORDS * 4), "year": 0, "genres": []}]
    assert len(encode_items(tokenizer, items)[0]) <= prompts.MAX_ITEM_TOKENS
    assert len(encode_users(tokenizer, [{**EXAMPLE, "history": [0, 0]}], items)[0]) <= prompts.MAX_USER_TOKENS
