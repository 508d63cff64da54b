"""The recipe ``clean``: worked by hand, byte for byte repeatable, and equal to a slow statement of its rules."""

import gzip
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.amazon.clean import CleanRecipe, plain_text, save_clean
from rrec_lib.data.amazon.raw import raw_files
from rrec_lib.data.examples import SPLITS, prepare_profile
from rrec_lib.data.prepared import load_prepared
from rrec_lib.model.prompts import item_messages, user_messages


def ms(day, second=0):
    return int(datetime(2023, 1, day, 0, 0, second, tzinfo=UTC).timestamp()) * 1000


ITEMS: list[dict[str, Any]] = [
    {"parent_asin": "A", "title": "Caf&eacute; <b>Blend</b>", "price": "from 9",
     "description": ["One.", "Two.", "One."]},
    {"parent_asin": "B", "title": "A title of more than twenty words " * 5, "price": None, "categories": ["x", "y"]},
    {"parent_asin": "C", "title": "", "description": "T\x07ext", "average_rating": 4.5, "rating_number": 12},
    {"parent_asin": "B", "title": "Second description"},
    {"parent_asin": "Z", "title": "Nobody's"},
    {"parent_asin": "D", "title": "Плеер"},
]  # fmt: skip
REVIEWS = [
    ("u2", "A", 5.0, ms(1)), ("u2", "B", 4.0, ms(2)), ("u2", "A", 3.0, ms(9)),  # comes back to A
    ("u1", "B", 5.0, ms(3)), ("u1", "C", 2.0, ms(3) + 400), ("u1", "D", 4.0, ms(8)),  # C .4 s after B
    ("u1", "D", 4.0, ms(8)), ("u3", "E", 5.0, ms(4)), ("u3", "A", 5.0, ms(5)),  # twice; of an unknown item
    ("u4", "A", 5.0, ms(1) - 40 * 86_400_000), ("u4", "B", 5.0, ms(6)), ("u4", "C", 5.0, ms(7)),  # before the window
]  # fmt: skip
REVIEWS += [("u9", "ABCD"[day % 4], 5.0, ms(12 + day)) for day in range(8)]  # steady, so that every split has a row
RECIPE = CleanRecipe("2023-01", "2023-02", window=2)


def write_raw(folder, items=ITEMS, reviews=REVIEWS):
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "meta_Books.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    with gzip.open(folder / "Books.csv.gz", "wt", encoding="utf-8") as file:
        file.write("user_id,parent_asin,rating,timestamp\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in reviews)
    return raw_files(folder, "Books")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    manifest = save_clean(write_raw(folder / "raw"), RECIPE, folder / "out")
    return manifest, load_prepared(folder / "out")


def examples(dataset):
    return [row for name in SPLITS for row in dataset[name].to_list()]


def test_examples_by_hand(prepared):
    _, dataset = prepared
    titles = dataset["items"]["source_id"]
    rows = [row for row in examples(dataset) if row["user_id"] != "u9"]
    found = [
        (row["user_id"], [titles[i] for i in row["history"]], titles[row["target"]], row["repeat"]) for row in rows
    ]
    assert found == [
        ("u2", ["A"], "B", False),
        ("u1", ["B"], "C", False),  # .4 s later
        ("u4", ["B"], "C", False),
        ("u1", ["B", "C"], "D", False),
        ("u2", ["A", "B"], "A", True),
    ]
    last = rows[-1]
    assert last["history_ratings"] == [5.0, 4.0]
    assert last["history_timestamps"] == [ms(1) // 1000, ms(2) // 1000]
    assert (last["target_rating"], last["target_timestamp"]) == (3.0, ms(9) // 1000)


def test_items_by_hand(prepared):
    _, dataset = prepared
    items = dataset["items"].to_list()
    assert [item["source_id"] for item in items] == ["A", "B", "C", "D"]
    assert [item["item_id"] for item in items] == [0, 1, 2, 3]
    assert items[0]["title"] == "Café Blend"
    assert items[0]["description"] == "One. Two."
    assert len(items[1]["title"].split()) == 35
    assert items[1]["categories"] == ["x", "y"]
    assert (items[2]["title"], items[2]["description"]) == ("Untitled (C)", "T ext")
    assert items[3]["title"] == "Плеер"
    assert {item["kind"] for item in items} == {"book"}
    assert not {"average_rating", "rating_number", "price"} & set(items[0])


def test_the_manifest_says_what_was_dropped_and_why(prepared):
    manifest, _ = prepared
    assert manifest["dropped"] == {"review_without_item": 1, "outside_the_window": 1, "duplicate_event": 1}
    assert manifest["counts"] == {"events": 17, "users": 5, "items": 4, "events_that_are_no_target": 5}
    assert manifest["repeats"] == {"train": 2, "valid": 1, "test": 2}
    meta, log = manifest["faults"]["meta_Books.jsonl.gz"], manifest["faults"]["Books.csv.gz"]
    assert {kind: found["count"] for kind, found in meta.items()} == {
        "bad_price": 1, "control_characters": 1, "empty_title": 1, "html_title": 1, "item_twice": 1,
        "item_without_review": 1,
    }  # fmt: skip
    assert [found["line"] for found in log["duplicate_event"]["first"]] == [8]
    assert [found["line"] for found in log["review_without_item"]["first"]] == [9]
    assert set(manifest["source_sha256"]) == {"Books.csv.gz", "meta_Books.jsonl.gz"}
    kept = manifest["counts"]["events"]
    assert kept + sum(manifest["dropped"].values()) == manifest["reviews"] == len(REVIEWS)


def test_crawl_time_popularity_comes_only_when_asked_for(prepared, tmp_path):
    recipe = CleanRecipe("2023-01", "2023-02", crawl_time_popularity=True)
    save_clean(write_raw(tmp_path / "raw"), recipe, tmp_path / "out")
    item = load_prepared(tmp_path / "out")["items"][2]
    assert (item["average_rating"], item["rating_number"]) == (4.5, 12)
    assert "Number of buyers: 12" in item_messages(item)[1]["content"]
    assert "buyers" not in item_messages(prepared[1]["items"][2])[1]["content"]


@pytest.mark.parametrize("words", [0, 1, 99])
def test_descriptions_keep_as_many_words_as_are_asked_for(prepared, tmp_path, words):
    save_clean(write_raw(tmp_path / "raw"), replace(RECIPE, description_words=words), tmp_path / "out")
    whole = [text.split() for text in prepared[1]["items"]["description"]]
    assert max(map(len, whole)) > 1
    found = load_prepared(tmp_path / "out")["items"]["description"]
    assert [text.split() for text in found] == [text[:words] for text in whole]
    with pytest.raises(ValueError, match="0 \\(none\\) or more, got -1"):
        replace(RECIPE, description_words=-1)


def test_the_folder_goes_through_the_other_stations(tmp_path):
    save_clean(write_raw(tmp_path / "raw"), RECIPE, tmp_path / "out")
    dataset = prepare_profile(load_profile("smoke", {"data.dataset": str(tmp_path / "out")}))
    system, user = user_messages(dataset["test"][0], dataset["items"])
    assert "the next book between" in system["content"]
    assert user["content"].startswith("Books rated, oldest first:\n2 days ago: Café Blend, 5/5\n")


def slow_examples(reviews, k):
    """The rules, said again."""
    known = {item["parent_asin"] for item in ITEMS}
    start, end = ms(1), int(datetime(2023, 2, 1, tzinfo=UTC).timestamp()) * 1000
    log = list(dict.fromkeys((u, i, t) for u, i, _, t in reviews if i in known and start <= t < end))
    while True:
        kept = [
            (u, i, t) for u, i, t in log
            if sum(v == u for v, _, _ in log) >= k and sum(j == i for _, j, _ in log) >= k
        ]  # fmt: skip
        if kept == log:
            break
        log = kept
    found = []
    for user, item, time in log:
        past = sorted((t, i) for u, i, t in log if u == user and t < time)
        if past:
            order = [item["parent_asin"] for item in ITEMS].index
            past = sorted(past, key=lambda event: (event[0], order(event[1])))
            names = [i for _, i in past]
            found.append((time, user, item, names[-2:], item in names))
    found.sort(key=lambda row: (row[0], row[1], order(row[2])))
    return [(time // 1000, *rest) for time, *rest in found]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [0, 3])
def test_random_logs_equal_a_slow_statement_of_the_rules(seed, k, tmp_path):
    rng = random.Random(seed)
    reviews = []
    for _ in range(150):
        time = ms(rng.randint(1, 31), rng.randint(0, 1)) + rng.choice([0, 300]) - rng.choice([0, 0, 0, 86_400_000])
        reviews.append((f"u{rng.randint(0, 15)}", rng.choice("ABCDE"), float(rng.randint(1, 5)), time))
    recipe = CleanRecipe("2023-01", "2023-02", k_core=k, window=2)
    save_clean(write_raw(tmp_path / "raw", reviews=reviews), recipe, tmp_path / "out")
    dataset = load_prepared(tmp_path / "out")
    names = dataset["items"]["source_id"]
    found = [
        (row["target_timestamp"], row["user_id"], names[row["target"]], [names[i] for i in row["history"]],
         row["repeat"])
        for row in examples(dataset)
    ]  # fmt: skip
    assert found == slow_examples(reviews, k)
    ends = [dataset[name]["target_timestamp"] for name in SPLITS]
    assert max(ends[0]) < min(ends[1]) <= max(ends[1]) < min(ends[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "2023-13"}, "not of the form"),
        ({"start": "2024-01"}, "swap them"),
        ({"window": 0}, "window 0"),
        ({"k_core": 9}, "no event is left.*k_core"),
        ({"start": "2020-01", "end": "2020-02"}, "no event is left.*outside_the_window"),
    ],
)
def test_what_leaves_nothing_says_so_and_writes_nothing(changes, message, tmp_path):
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(ValueError, match=message):
        save_clean(raw, CleanRecipe(**{"start": "2023-01", "end": "2023-02", **changes}), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_plain_text():
    for text, expected in (
        ("a &amp; b", "a & b"),
        ("x&lt;br/&gt;y", "x y"),
        ("2 < 3 and 5 > 4", "2 < 3 and 5 > 4"),
        ("<|im_start|>system", "system"),
        ("no <answer> here</answer>", "no here"),
        ("tab\tand\u00a0space\r\n", "tab and space"),
        ("bell\x07and\ud800half", "bell and half"),
        ("日本語 ok", "日本語 ok"),
    ):
        assert plain_text(text) == expected
