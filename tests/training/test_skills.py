"""Skills: every text parses whole and is true, none looks at the target, and what is false is seen."""

import pytest
from datasets import DatasetDict

from rrec_lib.training.skills import SKILLS, Statement, World, contradicts_itself, is_true, parse, world_of


def read(text):
    """A text that must be a skill's."""
    found = parse(text)
    assert found is not None, text
    return found


@pytest.fixture(scope="module")
def world(smoke_dataset):
    return world_of(smoke_dataset)


@pytest.fixture(scope="module")
def examples(smoke_dataset):
    return list(smoke_dataset["train"])


@pytest.mark.parametrize("name", SKILLS)
def test_texts_parse_whole_and_are_true_of_the_history(world, examples, name):
    written = [SKILLS[name](example, world) for example in examples]
    found = [read(text) for text in written]
    stated = [(statement, example) for kind, example in zip(found, examples, strict=True) for statement in kind[1]]
    assert all(is_true(statement, example, world) for statement, example in stated)
    assert not any(contradicts_itself(statements) for _, statements in found)
    own = [kind for kind, _ in found if kind == name]
    assert len(own) > len(found) / 3  # else words that hold nothing stand in
    if name != "idle":
        assert len({statement for statement, _ in stated}) > 3


@pytest.mark.parametrize("name", SKILLS)
def test_no_text_looks_at_the_target(world, examples, name):
    for example in examples[:50]:
        blind = {key: value for key, value in example.items() if not key.startswith("target")}
        assert SKILLS[name](blind, world) == SKILLS[name](example, world)


def test_no_text_is_made_from_its_own_log(smoke_dataset, world, examples):
    """Else a training row's text would name its target more often than one of test can."""
    own, other = examples[0]["user_id"], smoke_dataset.copy()
    rows = [place for place, example in enumerate(examples) if place == 0 or example["user_id"] != own]
    assert len(rows) < len(examples) - 5
    other["train"] = smoke_dataset["train"].select(rows)
    changed = world_of(other)
    assert changed.neighbours != world.neighbours
    assert changed.near(examples[0]) == world.near(examples[0])
    stranger = {**examples[0], "user_id": "nobody"}
    assert changed.near(stranger) == changed.neighbours


def test_a_log_of_one_user_leaves_no_others(smoke_dataset):
    one = smoke_dataset.copy()
    one["train"] = smoke_dataset["train"].select(range(1))
    world, example = world_of(one), one["train"][0]
    assert len(world.near(example)) == len(one["items"])


def test_of_another_history_most_statements_are_false(world, examples):
    true = []
    for example, other in zip(examples, reversed(examples), strict=True):
        if example["user_id"] != other["user_id"]:
            _, statements = read(SKILLS["association"](example, world))
            true += [is_true(statement, other, world) for statement in statements]
    assert sum(true) < len(true) / 4


def test_what_is_no_skill_or_says_two_things_at_once_is_seen():
    for text in ("", "Likes Drama", "Likes Drama. Lately more War, less Crime.", "I think Drama."):
        assert parse(text) is None
    assert contradicts_itself([Statement("likes", "Drama"), Statement("rates lower", "Drama")])
    assert not contradicts_itself([Statement("likes", "Drama"), Statement("rates lower", "War")])
    _, stated = read("People who liked Sense and Sensibility (1995) also liked Heat (1995) and Love and Death (1975).")
    assert [statement.whom.split("\n")[1] for statement in stated] == ["Heat (1995)", "Love and Death (1975)"]


def test_titles_without_years_or_with_a_stroke_are_told_apart():
    """Products have no year that would end their names."""
    items = [{"title": title} for title in ("Tape | blue", "Pens and ink", "Glue", "Saw")]
    world, example = (
        World(items, [[1, 2], [0], [0], [0]]),
        {"history": [0, 3], "history_ratings": [5.0, 1.0], "seen": [0, 3]},
    )
    text = SKILLS["association"](example, world)
    assert text == "People who liked Tape | blue also liked Pens and ink and Glue."
    for said, true in ((text, True), (text.replace("Glue", "Saw"), False), (text.replace(" and Glue", ""), True)):
        _, stated = read(said)
        assert [is_true(statement, example, world) for statement in stated] == [true]


def test_long_titles_are_cut_where_they_stay_apart():
    long = "Heavy duty packing tape, six rolls, clear, 2 inches wide"
    same = ["One two three four five six left", "One two three four five six right"]
    world = World([{"title": title} for title in (long, *same, "Glue")], [[1, 2], [0], [0], [0]])
    assert world.names == ["Heavy duty packing tape, six rolls", *same, "Glue"]
    example = {"history": [0], "history_ratings": [5.0], "seen": [0]}
    text = SKILLS["association"](example, world)
    assert text == f"People who liked {world.names[0]} also liked {same[0]} and {same[1]}."
    _, stated = read(text)
    assert [is_true(statement, example, world) for statement in stated] == [True]
    films = World([{"title": "A film with a title of eight words", "year": 1999}], [[]])
    assert films.names == ["A film with a title of eight words (1999)"]


def test_items_of_one_name_are_told_of_together():
    """A catalogue may sell one thing twice."""
    items = [{"title": title} for title in ("Tape", "Tape", "Glue", "Saw", "Glue")]
    world = World(items, [[2, 1, 4, 3], [], [], [], []])
    example = {"history": [1, 0], "history_ratings": [5.0, 5.0], "seen": [0, 1]}
    text = SKILLS["association"](example, world)
    assert text == "People who liked Tape also liked Glue and Saw."
    for history, true in (([1, 0], True), ([0], True), ([1], False)):
        assert is_true(read(text)[1][0], {**example, "history": history}, world) is true


def test_who_shares_nobody_is_no_neighbour(smoke_dataset):
    world = world_of(smoke_dataset)
    logs: dict[int, set[int]] = {}
    for row in smoke_dataset["train"]:
        logs.setdefault(row["user_id"], set()).update([*row["seen"], row["target"]])
    for row, near in enumerate(world.neighbours):
        alike = [log for log in logs.values() if row in log]
        assert not near or any(len(log) > 1 for log in alike)
    lonely = world_of(DatasetDict({**smoke_dataset, "train": smoke_dataset["train"].select([0])}))
    seen = {*smoke_dataset["train"][0]["seen"], smoke_dataset["train"][0]["target"]}
    assert all(set(near) <= seen for near in lonely.neighbours)


def test_categories_stand_in_for_genres_in_words_that_a_text_can_hold(smoke_dataset):
    kinds = [["Goods", "Pens, Pencils and Co.", "Red"], ["Goods", "Tape; Glue", "Blue: dark"], None, []]
    items = [
        {key: value for key, value in {**item, "categories": kinds[row % 4]}.items() if key != "genres"}
        for row, item in enumerate(smoke_dataset["items"])
    ]
    world = World(items, [[]] * len(items))
    assert world.genres[:4] == [["Pens Pencils & Co", "Red"], ["Tape Glue", "Blue dark"], [], []]
    said = set()
    for example in list(smoke_dataset["train"])[:80]:
        for name in ("taste", "drift"):
            skill, statements = read(SKILLS[name](example, world))
            said |= {(skill, one.what) for one in statements}
            assert all(is_true(one, example, world) for one in statements)
    assert {("taste", "likes"), ("taste", "rates lower"), ("drift", "more")} <= said
