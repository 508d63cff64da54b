"""CSV files as people have them: quotation marks, encodings, units, spellings of ids, and other projects' layouts."""

import codecs
import csv
import gzip
import io
import json
from datetime import UTC, datetime

import pytest

from rrec_lib.cli.main import main
from rrec_lib.data.csv.columns import Columns, CsvSource, read_layout, whole_number
from rrec_lib.data.csv.files import save_csv
from rrec_lib.data.csv.items import read_year
from rrec_lib.data.csv.lines import open_lines
from rrec_lib.data.event_log import Filters
from rrec_lib.data.examples import SPLITS
from rrec_lib.data.prepared import load_prepared
from rrec_lib.data.records import CLOSED, OPEN, split_fields

START, DAY = 1_672_531_200, 86_400
USERS, STEPS = 6, 20
EVENTS = [("user_id", "item_id", "rating", "timestamp")] + [
    (f"u{user}", f"{(user + 3 * step) % 9:03}", str(1 + step % 5), str(START + step * DAY + 60 * user))
    for step in range(STEPS) for user in range(USERS)
]  # fmt: skip
ITEMS = [("item_id", "title", "year", "genres", "description")] + [
    (f"{n:03}", f"Album {n}", str(1990 + n), "Rock|Pop", f"Record {n}.") for n in range(9)
]


def text(rows, delimiter=","):
    return "".join(delimiter.join(row) + "\n" for row in rows)


def as_bytes(content):
    return content if isinstance(content, bytes) else (content if isinstance(content, str) else text(content)).encode()


@pytest.fixture
def prepare(tmp_path):
    """Prepare two contents; returns the manifest and the data."""

    def run(events=EVENTS, items=ITEMS, max_faults=0.01, **options):
        for name, content in (("events.csv", events), ("items.csv", items)):
            (tmp_path / name).write_bytes(as_bytes(content))
        source = CsvSource(tmp_path / "events.csv", tmp_path / "items.csv", **options)
        manifest = save_csv(source, Filters(window=50), tmp_path / "out", max_faults)
        return manifest, load_prepared(tmp_path / "out")

    return run


def events_of(manifest):
    return manifest["counts"]["events"]


def changed(rows, at, change):
    rows = [list(row) for row in rows]
    change(rows[at])
    return rows


# Quotation marks


def test_a_stray_quotation_mark_costs_its_record(prepare):
    broken = changed(EVENTS, 60, lambda row: row.__setitem__(1, '"' + row[1]))
    assert len(list(csv.reader(io.StringIO(text(broken))))) == 61  # what a plain reader makes of it
    manifest, _ = prepare(events=broken)
    assert events_of(manifest) == USERS * STEPS - 1
    assert manifest["faults"]["events.csv"] == {
        "wrong_columns": {"count": 1, "treatment": "dropped", "first": [{"line": 61, "found": OPEN}]}
    }


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("second", [None, "start", "end"])
def test_any_column_and_two_marks(prepare, place, second):
    broken = changed(EVENTS, 30, lambda row: row.__setitem__(place, '"' + row[place]))
    if second:
        mark = (lambda text: '"' + text) if second == "start" else (lambda text: text + '"')
        broken = changed(broken, 40, lambda row: row.__setitem__(place, mark(row[place])))
    manifest, _ = prepare(events=broken, max_faults=0.05)
    assert events_of(manifest) == USERS * STEPS - 1 - bool(second)
    assert {fault["first"][0]["line"] for fault in manifest["faults"]["events.csv"].values()} <= {31, 41}


@pytest.mark.parametrize("mark", ['"Album', 'Al"bum', 'Album"', '"Album"x'])
def test_a_mark_in_a_title(prepare, mark):
    manifest, dataset = prepare(items=changed(ITEMS, 4, lambda row: row.__setitem__(1, mark)), max_faults=0.2)
    assert set(dataset["items"]["source_id"]) >= {f"{n:03}" for n in range(9) if n != 3}
    lost = mark.startswith('"')
    assert ("003" not in dataset["items"]["source_id"]) == lost
    if lost:
        assert [where["line"] for where in manifest["faults"]["items.csv"]["wrong_columns"]["first"]] == [5]


def test_quoted_line_breaks_are_still_read(prepare):
    plain = text(ITEMS)
    quoted = plain.replace("Record 3.", '"First, line.\nSecond ""line"".\n\nRock, pop, jazz, soul, funk\nLast"')
    quoted = quoted.replace("Album 5", '"Album\r\n5, live"')
    manifest, dataset = prepare(items=quoted)
    items = {row["source_id"]: row for row in dataset["items"].to_list()}
    assert items["003"]["description"] == 'First, line. Second "line". Rock, pop, jazz, soul, funk Last'
    assert items["005"]["title"] == "Album 5, live"
    assert len(items) == 9
    assert not manifest["faults"]
    extra = text([(*row, "text" if n else "note") for n, row in enumerate(reversed(EVENTS))][::-1])
    manifest, _ = prepare(events=extra.replace(",text\n", ',"a\nb, c, d, e"\n', 1))
    assert events_of(manifest) == USERS * STEPS


def test_fields():
    for line in ('a,"b,""c""",', '"",x', "a", ",", 'a"b,c""', '"a\nb",c'):
        assert split_fields(line, ",") == next(csv.reader(io.StringIO(line, newline="")))
    assert split_fields('a,"b', ",") == split_fields('"b""', ",") == OPEN
    assert split_fields('"a"b,c', ",") == CLOSED
    assert split_fields('1::"A, B::C', "::") == ["1", '"A, B', "C"]


def test_long_fields(prepare):
    long = "word " * 60_000
    manifest, dataset = prepare(items=text(ITEMS).replace("Record 3.", long).replace("Record 4.", f'"{long},"'))
    assert not manifest["faults"]
    assert [len(words.split()) for words in dataset["items"]["description"][3:5]] == [60_000, 60_001]


# Encodings


LATIN = changed(ITEMS, 2, lambda row: row.__setitem__(1, "Amélie à Noël"))
SCRIPTS = {
    "cp1252": "Amélie à Noël", "cp1251": "Война и мир", "cp1250": "Zażółć gęślą jaźń", "cp1253": "Καλημέρα κόσμε",
    "shift_jis": "千と千尋の神隠し", "gb18030": "卧虎藏龙 霸王别姬", "cp949": "올드보이 영화", "utf-16-le": "Amélie",
    "koi8-r": "война и мир", "iso8859-5": "Война и мир", "iso8859-2": "Zażółć gęślą jaźń", "mac-roman": "Amélie à Noël",
    "euc-jp": "千と千尋の神隠し",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_another_encoding_is_refused_by_name_and_read_when_named(prepare, name):
    content = text(changed(ITEMS, 2, lambda row: row.__setitem__(1, SCRIPTS[name]))).encode(name)
    with pytest.raises(ValueError, match=rf"items.csv is not UTF-8: it looks like {name}.*--encoding {name}"):
        prepare(items=content)
    manifest, dataset = prepare(items=content, events=text(EVENTS).encode(name), encoding=name)
    assert dataset["items"][1]["title"] == SCRIPTS[name]
    assert (manifest["arguments"]["encoding"], manifest["faults"]) == (name, {})


def test_bytes_of_no_encoding_are_refused_or_repaired_and_counted(prepare):
    content = text(LATIN).encode("cp1252")
    manifest, dataset = prepare(items=content, encoding="utf-8")
    assert dataset["items"][1]["title"] == "Am lie No l"
    assert manifest["faults"]["items.csv"].keys() == {"invalid_utf8_text"}  # not as control characters, too
    assert manifest["faults"]["items.csv"]["invalid_utf8_text"]["first"][0]["line"] == 3
    damaged = text(LATIN).replace("Album 5", "Ästhetik über Öl").encode().replace(b"Album 7", b"Album\xff7")
    manifest, dataset = prepare(items=damaged)  # UTF-8 but for one byte
    assert manifest["faults"]["items.csv"]["invalid_utf8_text"]["count"] == 1
    assert dataset["items"][7]["title"] == "Album 7"
    for name in ("nonsense", "rot13", "punycode"):
        with pytest.raises(ValueError, match=f"--encoding {name} is unknown"):
            prepare(encoding=name)
    with pytest.raises(ValueError, match=r"items.csv has no byte order mark, which utf-16 begins with, and doesn't"):
        prepare(encoding="utf-16")
    with pytest.raises(ValueError, match="and looks like utf-16-le: add --encoding utf-16-le"):
        prepare(items=text(LATIN).encode("utf-16-le"), encoding="utf-16")
    with pytest.raises(ValueError, match="is an archive, a spreadsheet or a Parquet file"):
        prepare(items=b"PK\x03\x04" + bytes(50))
    broken = text(changed(EVENTS, 9, lambda row: row.__setitem__(1, "é"))).encode("cp1252")
    manifest, _ = prepare(events=broken, encoding="utf-8")
    assert manifest["faults"]["events.csv"]["invalid_utf8_id"]["first"][0]["line"] == 10


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_byte_order_marks(prepare, name, packed):
    expected = prepare(items=LATIN)[1]
    contents = [text(rows).replace("user_id", '"user_id"').encode(name) for rows in (EVENTS, LATIN)]
    events, items = (gzip.compress(content) if packed else content for content in contents)
    manifest, found = prepare(events=events, items=items)
    assert not manifest["faults"]
    assert all(found[split].to_list() == expected[split].to_list() for split in ("train", "items"))


def test_a_mark_in_the_middle_belongs_to_no_id(prepare):
    rows = text(EVENTS).encode()
    manifest, _ = prepare(events=rows.replace(b"\nu1,", b"\n" + codecs.BOM_UTF8 + b"u1,", 1))
    assert (manifest["counts"]["users"], manifest["faults"]) == (USERS, {})


def test_repairs_of_text_are_counted(prepare):
    rows = changed(ITEMS, 1, lambda row: row.__setitem__(1, "Ben &amp; Jerry <b>live</b>"))
    rows = changed(rows, 2, lambda row: row.__setitem__(4, "A<br>B\x07"))
    rows = changed(rows, 3, lambda row: row.__setitem__(1, "Sunset 🌅 שלום & <3"))
    manifest, dataset = prepare(items=rows)
    assert dataset["items"]["title"][:3] == ["Ben & Jerry live", "Album 1", "Sunset 🌅 שלום & <3"]
    found = {kind: fault["first"][0]["line"] for kind, fault in manifest["faults"]["items.csv"].items()}
    assert found == {"html_title": 2, "html_text": 3, "control_characters": 3}


# Years, times, ids and ratings


@pytest.mark.parametrize(
    ("written", "year"),
    [("1995", 1995), (" 1995 ", 1995), ("1995.0", 1995), ("1995-03-01", 1995), ("1995-03", 1995), ("01-Mar-1995", 1995),
     ("03/01/1995", 1995), ("1995-03-01T00:00:00", 1995), ("c. 1995", 1995), ("476", 476), ("0", 0), ("", 0), ("NA", 0),
     ("nan", 0), ("1995.5", None), ("nineteen", None), ("95000", None), ("1995-1998", None), ("inf", None),
     ("-5", None), ("03/01/95", None), ("95", None), ("9999", None)],
)  # fmt: skip
def test_years(written, year, prepare):
    assert read_year(written) == year
    if "/" in written or written in ("95", "1995.0"):
        manifest, dataset = prepare(items=changed(ITEMS, 2, lambda row: row.__setitem__(2, written)))
        assert dataset["items"]["year"][1] == (year or 0)
        assert ("bad_year" in manifest["faults"].get("items.csv", {})) == (year is None)


def sub_second(unit):
    """Three events in a second of each user: one item, another, the first again."""
    rows = [EVENTS[0]]
    for user, item, rating, time in EVENTS[1:]:
        other = f"{(int(item) + 1) % 9:03}"
        for step, there in enumerate((item, other, item)):
            date = f"{datetime.fromtimestamp(int(time), UTC):%Y-%m-%dT%H:%M:%S}.{2 * step}00"
            moment = {"s": f"{time}.{2 * step}", "ms": str(int(time) * 1000 + 200 * step), "iso": date}[unit]
            rows.append((user, there, rating, moment))
    return rows


@pytest.mark.parametrize("unit", ["s", "ms", "iso"])
def test_times_within_a_second_are_kept_apart_and_in_order(prepare, unit):
    rows = sub_second(unit)
    manifest, dataset = prepare(events=[rows[0], *rows[:0:-1]])  # the file's order says nothing
    assert events_of(manifest) == 3 * USERS * STEPS
    assert not manifest["faults"]
    assert sum(manifest["rows"][split] for split in SPLITS) == 3 * USERS * STEPS - USERS
    first = [row for row in dataset["train"].to_list() if row["user_id"] == "u0"][:2]
    assert [(row["history"], row["target"]) for row in first] == [([0], 1), ([0, 1], 0)]
    assert first[0]["history_timestamps"] == [first[0]["target_timestamp"]] == [START]  # stored as whole seconds
    ends = [dataset[split]["target_timestamp"] for split in SPLITS]
    assert max(ends[0]) < min(ends[1]) <= max(ends[1]) < min(ends[2])


def test_the_very_same_moment_is_still_a_duplicate(prepare):
    manifest, _ = prepare(events=[*sub_second("ms"), sub_second("ms")[2]])
    assert manifest["dropped"] == {"duplicate_event": 1}
    assert manifest["faults"]["events.csv"]["duplicate_event"]["first"][0]["line"] == 3 * USERS * STEPS + 2


@pytest.mark.parametrize("odd", ["", "NA", "nan", "yesterday", "2023-01-01", "1672531200000", "0", "1e30", "9" * 5000])
@pytest.mark.parametrize("lines", [(1,), (1, 2), (70,)])
def test_odd_times_cost_their_records_wherever_they_stand(prepare, odd, lines):
    rows = [list(row) for row in EVENTS]
    for at in lines:
        rows[at][3] = odd
    manifest, _ = prepare(events=rows, max_faults=0.05)
    assert manifest["arguments"]["time_unit"] == "s"
    assert events_of(manifest) == USERS * STEPS - len(lines)
    assert [where["line"] for where in manifest["faults"]["events.csv"]["bad_time"]["first"]] == [n + 1 for n in lines]


def test_an_unreadable_date_says_which_forms_are_read(prepare):
    rows = [EVENTS[0], *((*row[:3], "12/31/2020") for row in EVENTS[1:])]
    with pytest.raises(
        ValueError, match=r"bad_time 120 \(first on line 2\): '12/31/2020'; times are read as .*01-31T17"
    ):
        prepare(events=rows)
    with pytest.raises(ValueError, match="most times look like s: leave out --time-unit ms"):
        prepare(time_unit="ms")


def floats(row):
    return (row[0], f"{float(row[1])}", *row[2:])


def test_ids_that_a_program_took_for_numbers(prepare):
    rows = [EVENTS[0], *map(floats, EVENTS[1:])]
    with pytest.raises(ValueError, match=r"name an item as '0.0' that .* calls '000'.*pandas.*--integer-ids"):
        prepare(events=rows)
    with pytest.raises(ValueError, match=r"60 of 120 events .*--integer-ids"):  # half of them is as bad
        prepare(events=[EVENTS[0], *EVENTS[1:61], *map(floats, EVENTS[61:])])
    expected, (manifest, found) = prepare()[1], prepare(events=rows, integer_ids=True)
    assert found["items"].to_list() == expected["items"].to_list()
    assert found["test"].to_list() == expected["test"].to_list()
    assert not manifest["faults"]
    assert [whole_number(i) for i in ("34.0", "00034", "34", "0.0", "000", "34.5", "A1", "-1.0", "1.")] == [
        "34", "34", "34", "0", "0", "34.5", "A1", "-1.0", "1"]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": EVENTS[:1]}, "events.csv has a header and no event below it.*--events"),
        ({"items": ITEMS[:1]}, "items.csv has a header and no item below it.*--items"),
        ({"events": b""}, "events.csv is empty; expected a header with user_id"),
        ({"items": b"\n\n"}, "items.csv is empty"),
        ({"items": [ITEMS[0], ("x", *ITEMS[1][1:])]}, "no event .* names an item .* '000' there and 'x' here.*one set"),
        ({"events": [EVENTS[0], *((*r[:2], str(2 * int(r[2])), r[3]) for r in EVENTS[1:])]}, "--best-rating 10"),
        ({"events": [EVENTS[0], *((*r[:2], "-1", r[3]) for r in EVENTS[1:])]}, "a scale that begins at 0"),
        ({"events": [EVENTS[0], *((*r[:3], str(START)) for r in EVENTS[1:])]}, "no train example.*strictly earlier"),
        ({"delimiter": '"'}, "the delimiter is '\"'"),
        ({"best_rating": float("inf")}, "best_rating inf, expected .* a positive number"),
        ({"kind": " "}, "kind is ' ', expected a word for an item"),
        ({"items": [(*row, row[2]) for row in ITEMS]}, "no column year, or two.*--year-column"),
        ({"events": [EVENTS[0], *((*r[:2], "like", r[3]) for r in EVENTS[1:])]}, "'like'.*numbers from 0 to 5"),
        ({"events": [EVENTS[0], *((*r, "") for r in EVENTS[1:])]}, r"first on line 2\): 5 fields, expected 4"),
        (
            {"events": [EVENTS[0], *((r[0][1:] + ".0" * (n < 60), *r[1:]) for n, r in enumerate(EVENTS[1:]))]},
            "6 of 12 users .* '0.0' and '0'.*--integer-id",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(prepare, change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(**change)
    assert "time window" not in str(caught.value)
    assert "allow more" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_k_core_that_leaves_nothing(prepare, tmp_path, capsys):
    prepare()
    files = ["--events", str(tmp_path / "events.csv"), "--items", str(tmp_path / "items.csv")]
    assert main(["prepare", "csv", *files, "--k-core", "99", "--out", str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err == "rrec: error: no event is left (dropped: 120 k_core); lower --k-core\n"


# Layouts


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("told", [False, True])
def test_other_delimiters(prepare, delimiter, told):
    expected = prepare(items=[row[:3] for row in ITEMS])[1]
    manifest, found = prepare(text(EVENTS, delimiter), text([row[:3] for row in ITEMS], delimiter),
                              delimiter=delimiter if told else None)  # fmt: skip
    assert found["test"].to_list() == expected["test"].to_list()
    assert not manifest["faults"]


def test_the_command_takes_delimiter_encoding_and_columns(prepare, tmp_path, capsys):
    events = text([("who", *EVENTS[0][1:]), *EVENTS[1:]], "\t")
    items = text([("id", *LATIN[0][1:]), *LATIN[1:]], "\t").encode("cp1252")
    prepare(events, items, encoding="cp1252", columns=Columns(user="who", items_item="id"))
    command = ["prepare", "csv", "--events", str(tmp_path / "events.csv"), "--items", str(tmp_path / "items.csv")]
    command += ["--delimiter", "tab", "--encoding", "cp1252", "--user-column", "who", "--out", str(tmp_path / "new")]
    assert main(command) == 2
    assert "has no column item_id, or two, but id, title" in (err := capsys.readouterr().err)
    assert "--items-item-column" in err
    assert main([*command, "--items-item-column", "id", "--integer-ids"]) == 0
    arguments = json.loads((tmp_path / "new" / "manifest.json").read_text())["arguments"]
    assert (arguments["delimiter"], arguments["columns"]["items_item"]) == ("\t", "id")
    assert load_prepared(tmp_path / "new")["items"]["title"][1] == "Amélie à Noël"


def test_a_column_that_was_asked_for_must_be_there(prepare):
    with pytest.raises(ValueError, match=r"has no column tags.*--genres-column"):
        prepare(columns=Columns(genres="tags"))


def test_recbole(prepare):
    typed = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    events = text([typed, *((*r[:2], r[2] + ".0", r[3] + ".0") for r in EVENTS[1:])], "\t")
    rows = ((row[0], row[1] if n else "Matrix, The", row[2], "Sci-Fi Children's") for n, row in enumerate(ITEMS[1:]))
    items = text([("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"), *rows], "\t")
    manifest, dataset = prepare(events, items)
    assert events_of(manifest) == USERS * STEPS
    assert dataset["items"][0] == {
        "item_id": 0, "source_id": "000", "kind": "item", "title": "The Matrix", "year": 1990,
        "genres": ["Sci-Fi", "Children's"],
    }  # fmt: skip


FILMS = [
    ("1", "Toy Story (1995)", "Animation|Children's"),
    ("2", "City of Lost Children, The (1995)", "(no genres listed)"),
    ("3", "Babylon 5", "Drama"),
]
FILM_ROWS = [
    {"source_id": "1", "title": "Toy Story", "year": 1995, "genres": ["Animation", "Children's"]},
    {"source_id": "2", "title": "The City of Lost Children", "year": 1995, "genres": []},
    {"source_id": "3", "title": "Babylon 5", "year": 0, "genres": ["Drama"]},
]
SEEN = [(row[0][1:], str(1 + int(row[1]) % 3), row[2], row[3]) for row in EVENTS[1:]]


@pytest.mark.parametrize("form", ["dat", "csv"])
def test_movielens(prepare, form):
    if form == "dat":
        events, items = text(SEEN, "::"), text(FILMS, "::")
    else:
        quoted = [(n, f'"{title}"' if "," in title else title, genres) for n, title, genres in FILMS]
        events = text([("userId", "movieId", "rating", "timestamp"), *SEEN])
        items = text([("movieId", "title", "genres"), *quoted])
    manifest, dataset = prepare(events, items, kind="film")
    assert events_of(manifest) == USERS * STEPS
    assert not manifest["faults"]
    assert [{name: row[name] for name in FILM_ROWS[0]} for row in dataset["items"].to_list()] == FILM_ROWS


def test_a_year_in_few_titles_is_part_of_them(prepare):
    items = [row[:2] for row in changed(ITEMS, 2, lambda row: row.__setitem__(1, "Drill (2000)"))]
    assert prepare(items=items)[1]["items"].column_names == ["item_id", "source_id", "kind", "title"]


def test_a_header_of_which_two_columns_have_a_name(tmp_path):
    (tmp_path / "a.csv").write_text('user_id,item_id,item_id,rating,"timestamp\n')
    with pytest.raises(ValueError, match=r"has no column item_id, or two, but user_id, item_id, item_id, rating, time"):
        read_layout(open_lines(tmp_path / "a.csv", None), dict(zip("uirt", EVENTS[0], strict=True)) | {
            "user": "user_id", "item": "item_id", "rating": "rating", "time": "timestamp"},
            ["user", "item", "rating", "time"], None)  # fmt: skip
