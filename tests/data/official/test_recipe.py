"""The ``official`` recipe gives the official script's counts, hashes and rows, on a set made to trip it up."""

import dataclasses
import gzip
import hashlib
import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from rrec_lib.data.amazon.raw import raw_files
from rrec_lib.data.official.items import clean_text, filter_item
from rrec_lib.data.official.recipe import OfficialRecipe, prepare_official

REFERENCE = Path(__file__).resolve().parents[2] / "reference"
CASES = json.loads((REFERENCE / "preprocess_Adversarial_A.json").read_text())["cases"]
PROBES = json.loads((REFERENCE / "preprocess_probes.json").read_text())
ROW = ("user_id", "item_asins", "item_asin", "history_rating", "rating", "history_timestamp", "timestamp")
ITEM = ("item_id", "parent_asin", "title", "price", "average_rating", "rating_number", "store", "main_category",
        "subtitle", "description", "features", "categories", "details")  # fmt: skip
ACCEPTED = ["baseline", "price NaN literal", "same item twice in meta with different titles",
            "no subtitle key anywhere", "no details key anywhere"]  # fmt: skip
SPLITS = ("train", "valid", "test")


def line(values):
    return json.dumps(list(values), separators=(",", ":"))


def sha256(lines):
    return hashlib.sha256("".join(text + "\n" for text in lines).encode()).hexdigest()


def recipe_of(arguments):
    start, end = (f"{arguments[f'{side}_year']}-{arguments[f'{side}_month']:02}" for side in ("st", "ed"))
    return OfficialRecipe(start, end, arguments["K"], arguments["window_size"])


def row_lines(split):
    """(sort key, line) of every stored row."""
    rows = [[row[name] for name in ROW] for row in split.to_list()]
    return [((row[6], row[0], row[2], text := line(row)), text) for row in rows]


def canonical(keyed):
    return [text for _, text in sorted(keyed)]


def item_values(row):
    row = {**row, "description": sorted(row["description"]), "details": json.loads(row["details"] or "{}")}
    return [row[name] for name in ITEM]


def iso(day):
    return datetime.strptime(day, "%Y-%m-%d").strftime("%Y-%m-%d")  # the reference writes 2016-1-01


def tie_robust(splits):
    """What the reference lists under ``tie_robust_checks``, without the numbers of users."""
    times = [key[0] for keyed in splits.values() for key, _ in keyed]
    cuts = np.cumsum([len(keyed) for keyed in splits.values()])[:2]
    shared = {times[cut] for cut in cuts if 0 < cut < len(times) and times[cut] == times[cut - 1]}
    everything = [pair for keyed in splits.values() for pair in keyed]
    uncertain = set()
    for (_, user, _, _), text in everything:
        _, _, _, _, _, history, timestamp = json.loads(text)
        if len({*history, timestamp}) <= len(history):
            uncertain.add(user)
    found = {f"{name}_without_boundary_timestamps": [pair for pair in keyed if pair[0][0] not in shared]
             for name, keyed in splits.items()}  # fmt: skip
    found["rows_of_users_without_equal_timestamps"] = [pair for pair in everything if pair[0][1] not in uncertain]
    checks = {name: {"rows": len(keyed), "sha256": sha256(canonical(keyed))} for name, keyed in found.items()}
    boundary = [pair for pair in everything if pair[0][0] in shared]
    return {**checks, "rows_in_tied_boundary_timestamps": len(boundary),
            "boundary_timestamp_rows_sha256": sha256(canonical(boundary))}  # fmt: skip


def summary(data):
    """Everything that the reference records of a case and that its rules determine, under the reference's keys."""
    counts, dataset = data.counts, data.dataset
    splits = {name: row_lines(dataset[name]) for name in SPLITS}
    items = sorted((row for row in dataset["item_info"].to_list()), key=lambda row: row["item_id"])
    rows = [[line(row) for row in map(json.loads, canonical(keyed))] for keyed in splits.values()]
    last = counts.windows_tried[-1]
    return {
        "loaded_items": counts.loaded_items,
        "printed_items_removed": sum(counts.removals.values()) - 1,
        "printed_removals": counts.removals,
        "reviews_with_a_loaded_item": counts.reviews_with_a_loaded_item,
        "windows_tried": [dataclasses.asdict(window) for window in counts.windows_tried],
        "effective_start": counts.effective_start,
        "end": counts.end,
        "stopped_by_minimum_year": counts.stopped_by_minimum_year,
        "final_stats": {"users": last.users, "items": last.items, "reviews": last.reviews, "density": counts.density},
        "interaction_rows": sum(map(len, splits.values())),
        "split_sizes": {name: counts.rows[name] for name in SPLITS},
        "item_info_rows": len(items),
        "canonical_sha256": {
            **{name: sha256(canonical(keyed)) for name, keyed in splits.items()},
            "all_splits": sha256(canonical([pair for keyed in splits.values() for pair in keyed])),
        },
        "as_stored_sha256": {name: sha256(text for _, text in keyed) for name, keyed in splits.items()},
        "first_rows": {name: [json.loads(text) for text in texts[:count]]
                       for name, texts, count in zip(SPLITS, rows, (20, 5, 5), strict=True)},
        "item_id_map_sha256": sha256(line([row["item_id"], row["parent_asin"]]) for row in items),
        "item_title_map_sha256": sha256(line([row["item_id"], row["title"]]) for row in items),
        "item_info_canonical_sha256": sha256(line(item_values(row)) for row in items),
        "first_item_info_rows": [item_values(row) for row in items[:6]],
        "tie_robust_checks": tie_robust(splits),
    }  # fmt: skip


def expected_summary(case, keys):
    expected = {key: case[key] for key in keys}
    expected["windows_tried"] = [{**window, "start": iso(window["start"])} for window in case["windows_tried"]]
    expected |= {key: iso(case[key]) for key in ("effective_start", "end")}
    users = ("users_with_rows", "users_with_equal_timestamps_inside")
    expected["tie_robust_checks"] = {k: v for k, v in case["tie_robust_checks"].items() if k not in users}
    return expected


def write_raw(folder, reviews, meta):
    texts = [json.dumps(item).replace('"NaN literal"', "NaN") for item in meta]
    with gzip.open(folder / "meta_Tiny.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(text + "\n" for text in texts)
    with gzip.open(folder / "Tiny.csv.gz", "wt", encoding="utf-8") as file:
        file.write("user_id,parent_asin,rating,timestamp\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in reviews)


@pytest.fixture(scope="module", params=range(len(CASES)))
def case_and_data(request, tmp_path_factory):
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp("official")
    return case, prepare_official(raw_files(REFERENCE / "raw", "Adversarial_A"), recipe_of(case["arguments"]), folder)


@pytest.fixture
def probe(tmp_path):
    def run(name, **changes):
        probe = PROBES["probes"][name]
        reviews = PROBES["baseline_reviews"] if probe["raw_reviews"] == "baseline" else probe["raw_reviews"]
        write_raw(tmp_path, reviews, probe["raw_meta"])
        recipe = dataclasses.replace(recipe_of(probe["arguments"]), **changes)
        return probe, prepare_official(raw_files(tmp_path, "Tiny"), recipe, tmp_path)

    return run


def test_counts_hashes_and_rows_are_the_official_ones(case_and_data):
    case, data = case_and_data
    found = summary(data)
    expected = expected_summary(case, found)
    for key in expected:
        assert found[key] == expected[key], key


def test_columns_ids_and_titles_agree_with_item_info(case_and_data):
    case, data = case_and_data
    assert data.dataset["train"].column_names == case["columns"]["train"]
    named = set(case["columns"]["item_info"]) - {"__index_level_0__"}  # pandas' left-over
    assert set(data.dataset["item_info"].column_names) == named
    items = data.dataset["item_info"].to_list()
    ids = [row["item_id"] for row in items]
    assert ids == [*range(1, len(items)), 0]
    titles = {row["item_id"]: row["title"] for row in items}
    asins = {row["item_id"]: row["parent_asin"] for row in items}
    if "item_titles" in case:
        assert case["item_titles"] == [[i, asins[i], titles[i]] for i in sorted(titles)]
    count = 0
    for name in SPLITS:
        for row in data.dataset[name]:
            assert row["interaction_id"] == count
            assert row["item_title"] == titles[row["item_id"]]
            assert row["item_asin"] == asins[row["item_id"]]
            assert row["history_item_title"] == [titles[i] for i in row["history_item_id"]]
            assert row["item_asins"] == [asins[i] for i in row["history_item_id"]]
            count += 1


def test_a_changed_argument_or_row_changes_the_hashes(tmp_path):
    """Negative control: the comparison above is not one that anything passes."""
    case = CASES[0]
    recipe = dataclasses.replace(recipe_of(case["arguments"]), window=19)
    data = prepare_official(raw_files(REFERENCE / "raw", "Adversarial_A"), recipe, tmp_path)
    found = summary(data)
    assert found["split_sizes"] == case["split_sizes"]
    assert all(found["canonical_sha256"][name] != case["canonical_sha256"][name] for name in SPLITS)
    keyed = row_lines(data.dataset["train"])
    swapped = [keyed[1], keyed[0], *keyed[2:]]
    assert sha256(text for _, text in swapped) != found["as_stored_sha256"]["train"]
    assert sha256(canonical(swapped)) == found["canonical_sha256"]["train"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_inputs_that_the_official_script_accepts(probe, name):
    expected, data = probe(name)
    last = data.counts.windows_tried[-1]
    assert {"users": last.users, "items": last.items, "reviews": last.reviews,
            "density": data.counts.density} == expected["final_stats"]  # fmt: skip
    assert {split: data.dataset[split].num_rows for split in SPLITS} == expected["split_sizes"]
    assert data.dataset["item_info"].num_rows == expected["item_info_rows"]


def test_an_item_described_twice_has_two_rows_and_one_id(probe):
    _, data = probe("same item twice in meta with different titles")
    rows = data.dataset["item_info"].to_list()
    twice = [row["title"] for row in rows if row["parent_asin"] == "B000"]
    assert twice == ["T B000", "Second title"]
    assert [row["item_id"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8, 1, 0]
    titles = {title for split in SPLITS for row in data.dataset[split] for title in row["history_item_title"]}
    assert "Second title" not in titles


def test_nan_is_a_price_and_text_that_reads_as_a_number_too(probe):
    _, data = probe("price NaN literal")
    assert math.isnan(data.dataset["item_info"][0]["price"])
    _, data = probe("one price is the parseable string '12.99', others numbers")
    assert data.dataset["item_info"][0]["price"] == 12.99


def test_users_with_one_event_give_empty_splits(probe):
    _, data = probe("all users have one event")
    assert [data.dataset[name].num_rows for name in SPLITS] == [0, 0, 0]
    assert data.dataset["item_info"].num_rows == 9


def test_ids_of_digits_stay_texts(probe):
    """The official script reads them as integers and then finds no item for any review."""
    _, data = probe("ids all digits in both columns")
    assert data.dataset["train"].num_rows == 28


def test_nothing_left_is_an_error_that_says_so(probe):
    with pytest.raises(ValueError, match=r"no review is left between 2018-01-01 and 2018-12-01 with k_core 1000"):
        probe("K larger than any count")


def test_the_same_input_gives_the_same_files(probe, tmp_path):
    def contents():
        return {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.glob("*/*") if path.is_file()}

    _, data = probe("baseline")
    first, prints = contents(), [split._fingerprint for split in data.dataset.values()]
    assert len(first) == 12
    _, again = probe("baseline")
    assert contents() == first
    assert [split._fingerprint for split in again.dataset.values()] == prints
    assert list(again.dataset) == [*SPLITS, "item_info"]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("tmp")]
    _, other = probe("baseline", window=2)
    assert other.dataset["test"]._fingerprint != prints[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k_core": -1}, "k_core is -1"),
        ({"window": 0}, "window 0"),
        ({"start": "2018/01"}, "month '2018/01' is not of the form 2022-10"),
        ({"end": "2017-12"}, "starts in 2018-01 and ends in 2017-12"),
    ],
)
def test_a_wrong_recipe_is_named(probe, changes, message):
    with pytest.raises(ValueError, match=message):
        probe("baseline", **changes)


def test_a_missing_file_or_folder_is_named(probe, tmp_path):
    probe("baseline")
    (tmp_path / "meta_Tiny.jsonl.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks meta_Tiny\.jsonl\.gz"):
        prepare_official(raw_files(tmp_path, "Tiny"), OfficialRecipe(), tmp_path)
    with pytest.raises(FileNotFoundError, match="make it first"):
        prepare_official(raw_files(REFERENCE / "raw", "Adversarial_A"), OfficialRecipe(), tmp_path / "nowhere")


def test_cleaning_takes_its_steps_in_order():
    assert clean_text(" Caf&eacute;  <b>&amp;</b>\tBar\n") == "Caf  & Bar"
    assert clean_text("Caf&eacute;   x") == "Caf  x"  # blanked after the spaces were collapsed
    assert clean_text("&lt;b&gt;x") == "x"
    assert clean_text("&amp;lt;b>") == "&lt;b>"  # unescaped once
    assert clean_text("<i> x</i>") == " x"  # trimmed before the tag goes
    assert clean_text("é") == " "
    assert clean_text("plain") == "plain"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"price": 1}, "num_no_title"),
        ({"title": None, "price": 1}, "num_no_title"),
        ({"title": ' "x" ', "price": 1}, "num_no_title"),
        ({"title": "a <span id=1>", "price": 1}, "num_invalid_title"),
        ({"title": "w " * 20 + "w", "price": 1}, "num_too_long_title"),
        ({"title": "w" + " " * 20 + "w", "price": 1}, "num_too_long_title"),
        ({"title": "w " * 19 + "w", "price": 1}, ("w " * 19 + "w", 1.0)),
        ({"title": "w\t" * 30 + "w", "price": "2.5"}, ("w\t" * 30 + "w", 2.5)),
        ({"title": "&quot;A &amp; B&quot;", "price": 3}, ("A & B", 3.0)),
        ({"title": "fine", "price": "from 3"}, "num_invalid_price"),
        ({"title": "fine", "price": None}, "num_invalid_price"),
        ({"title": "fine", "price": 10**400}, "num_invalid_price"),
        ({"title": "fine"}, "num_invalid_price"),
    ],
)
def test_which_items_stay(record, expected):
    assert filter_item(record) == expected
