"""Any two CSV files: columns by name, three kinds of time, a scale brought to five, faults with their line."""

import dataclasses
import gzip

import pytest

from rrec_lib.cli.main import main
from rrec_lib.data.csv.files import Columns, CsvSource, save_csv
from rrec_lib.data.event_log import Filters
from rrec_lib.data.prepared import load_prepared
from rrec_lib.model.prompts import item_messages, user_messages

DAY = 86_400
START = 1_672_531_200  # 1 January 2023
ITEMS = "id,name,year,tags\nx,Kind of Blue,1959,Jazz|Modal\ny,<i>Blue</i>,,Folk\nz,Kid A,2000,\n"
COLUMNS = Columns(user="who", item="id", rating="stars", time="when", title="name", genres="tags")


def log(write=lambda day: str(START + day * DAY)):
    rows = [f"u{user},{'xyz'[(day + user) % 3]},{1 + day % 10},{write(day)}" for day in range(12) for user in range(2)]
    return "who,id,stars,when\n" + "\n".join(rows) + "\n"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "events.csv").write_text(log())
    (tmp_path / "items.csv").write_text(ITEMS)
    return CsvSource(tmp_path / "events.csv", tmp_path / "items.csv", COLUMNS, "album", 10.0)


def prepare(source, tmp_path, **options):
    manifest = save_csv(source, Filters(window=3), tmp_path / "out", **options)
    return manifest, load_prepared(tmp_path / "out")


def test_examples_items_and_prompts(source, tmp_path):
    manifest, dataset = prepare(source, tmp_path)
    assert dataset["items"].to_list()[1] == {
        "item_id": 1, "source_id": "y", "kind": "album", "title": "Blue", "year": 0, "genres": ["Folk"],
    }  # fmt: skip
    first = dataset["train"][0]
    assert (first["user_id"], first["history"], first["history_ratings"]) == ("u0", [0], [0.5])
    assert first["target_timestamp"] == START + DAY
    system, user = user_messages(first, dataset["items"])
    assert "next album" in system["content"]
    assert user["content"] == "Albums rated, oldest first:\n1 day ago: Kind of Blue (1959), 0.5/5"
    assert item_messages(dataset["items"][2])[1]["content"] == "Title: Kid A (2000)\nGenres: unknown"
    assert manifest["arguments"]["time_unit"] == "s"


def test_two_files_of_one_name_are_told_apart(tmp_path):
    for role, text in (("events", log() + "u9,q,99,1\n"), ("items", ITEMS)):
        (tmp_path / role).mkdir()
        (tmp_path / role / "log.csv").write_text(text)
    one = CsvSource(tmp_path / "events" / "log.csv", tmp_path / "items" / "log.csv", COLUMNS, "album", 10.0)
    manifest, _ = prepare(one, tmp_path, max_faults=0.5)
    assert set(manifest["source_sha256"]) == {"log.csv (events)", "log.csv (items)"}
    assert set(manifest["faults"]) == {"log.csv (events)", "log.csv (items)"}
    assert set(manifest["faults"]["log.csv (items)"]) == {"html_title"}


@pytest.mark.parametrize(
    ("unit", "write"),
    [
        ("ms", lambda day: str((START + day * DAY) * 1000 + 999)),
        ("iso", lambda day: f"2023-01-{day + 1:02}T01:00:00+01:00"),
        ("iso", lambda day: f"2023-01-{day + 1:02}"),
        ("s", lambda day: f"{START + day * DAY}.5"),
    ],
)
def test_times_in_every_form_mean_the_same(unit, write, source, tmp_path):
    _, expected = prepare(source, tmp_path)
    source.events.write_text(log(write))
    manifest, found = prepare(source, tmp_path)
    assert manifest["arguments"]["time_unit"] == unit
    assert found["test"].to_list() == expected["test"].to_list()


def test_a_packed_file_is_read_too(source, tmp_path):
    _, expected = prepare(source, tmp_path)
    source.events.write_bytes(gzip.compress(log().encode()))
    assert prepare(source, tmp_path)[1]["test"].to_list() == expected["test"].to_list()


def test_faults_have_their_line_and_cost_nothing_else(source, tmp_path):
    _, expected = prepare(source, tmp_path)
    bad = ["u0,x,5", "u0,,5,1", "u0,x,11,1672531200", "u0,x,nan,1672531200", "u0,x,5,yesterday", "u0,w,5,1672531201"]
    lines = log().splitlines()
    source.events.write_text("\n".join([*lines[:3], *bad, *lines[3:], lines[5]]) + "\n")
    manifest, found = prepare(source, tmp_path, max_faults=0.5)
    assert found["test"].to_list() == expected["test"].to_list()
    report = manifest["faults"]["events.csv"]
    assert {kind: [where["line"] for where in entry["first"]] for kind, entry in report.items()} == {
        "wrong_columns": [4], "bad_id": [5], "bad_rating": [6, 7], "bad_time": [8], "review_without_item": [9],
        "duplicate_event": [len(lines) + len(bad) + 1],
    }  # fmt: skip
    assert manifest["dropped"] == {"review_without_item": 1, "duplicate_event": 1}
    with pytest.raises(ValueError, match=r"5 of 31 records are malformed.*wrong_columns 1 \(first on line 4\)"):
        prepare(source, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": Columns()}, "has no column item_id, title, or two, but id, name, year, tags; name yours"),
        ({"time_unit": "weeks"}, "time_unit is 'weeks'"),
        ({"best_rating": 0.0}, "a positive number"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(change, message, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(dataclasses.replace(source, **change), tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command_prepares_and_says_how_times_were_read(source, tmp_path, capsys):
    names = ["--user-column", "who", "--item-column", "id", "--rating-column", "stars", "--time-column", "when"]
    names += ["--title-column", "name", "--genres-column", "tags", "--kind", "album", "--best-rating", "10"]
    files = ["--events", str(source.events), "--items", str(source.items), "--out", str(tmp_path / "out")]
    assert main(["prepare", "csv", *files, *names]) == 0
    out = capsys.readouterr().out
    assert "18 train, 2 valid, 2 test, 3 items" in out
    assert "times read as s, UTC" in out
    assert out.endswith(f"next: rrec inspect {tmp_path / 'out'}\n")
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "CSV files" in capsys.readouterr().out
