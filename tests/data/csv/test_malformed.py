"""500 malformed pairs of CSV files: never a traceback, never a valid record lost."""

import gzip
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrec_lib.data.csv.events import read_csv_events
from rrec_lib.data.csv.files import CsvSource, save_csv
from rrec_lib.data.csv.items import read_csv_items
from rrec_lib.data.event_log import Filters
from rrec_lib.data.faults import Faults
from rrec_lib.data.prepared import load_prepared

START = 1_672_531_200
# Two events of a user stand 400 ms apart; items have quoted commas, marks and line breaks, as they may.
EVENTS = [f"u{i // 2 % 5},A{i % 7},{1 + i % 5},{START + i // 2 * 86_400}.{i % 2 * 4}" for i in range(30)]
ITEMS = [f'A{i},"Title, {i}",{1990 + i},Rock|Pop,"First {i},\nsecond ""line""\n\nlast"' if i % 2 else
         f"A{i},Title {i},{1990 + i},Rock,Plain {i}" for i in range(7)]  # fmt: skip
OTHERS = ["w,A1,3,1672531300", 'w,"A2",3,1672531300.25', "B1,Other,1990,Rock,Text", 'B2,"Other, 2",1990,Rock,"Text"']
HEADERS = ("user_id,item_id,rating,timestamp", "item_id,title,year,genres,description")
FIELDS = ["", "NA", "nan", "2023-01-01", "1672531300000", "1e999", "x" * 140_000, "\x00", '"', '""', "é", "1995-03-01"]
ENCODINGS = {"utf-8": None, "utf-8-sig": None, "utf-16": None, "cp1252": "cp1252", "utf-16-le": "utf-16-le"}

bad_line = st.one_of(
    st.builds(lambda line, at: line[:at] + '"' + line[at:], st.sampled_from(OTHERS), st.integers(0, 30)),
    st.builds(lambda line, at: line[:at], st.sampled_from(OTHERS), st.integers(0, 30)),
    st.builds(
        lambda line, at, field: ",".join([*line.split(",")[:at], field, *line.split(",")[at + 1 :]]),
        st.sampled_from(OTHERS), st.integers(0, 4), st.sampled_from(FIELDS),
    ),
    st.builds(
        lambda line, end: line + end, st.sampled_from(OTHERS), st.sampled_from([",5", '"', "\r", '\r"', ',"', '"",'])
    ),
    st.sampled_from(OTHERS).map(lambda line: "\ufeff" + line),
    st.text(st.sampled_from('",\r\x00 aé1.'), max_size=12),
)  # fmt: skip
inserts = st.lists(st.tuples(st.integers(0, 30), bad_line), max_size=6)


def spoil(header, lines, extra, end):
    lines = list(lines)
    for at, line in sorted(extra, reverse=True):
        lines.insert(min(at, len(lines)), line)
    return end.join([header, *lines, ""])


def write(path, text, encoding, stray, packed):
    content = text.encode(encoding, "ignore")
    if stray and encoding == "utf-8":  # bytes of another encoding in a record of their own
        content += b"w,\xe9\xff,3,1672531300\n"
    path.write_bytes(gzip.compress(content) if packed else content)


def read(source):
    """The events and items of two files as texts, by the reader under test."""
    faults = Faults(1.0)
    items = read_csv_items(source, faults)
    log, unit, _ = read_csv_events(source, {row["source_id"]: at for at, row in enumerate(items)}, faults)
    users = log.user_ids.to_pylist()
    assert unit == "s"
    columns = zip(log.user, log.item, log.rating, log.time, strict=True)
    events = {(users[u], items[i]["source_id"], rating, time) for u, i, rating, time in columns}
    return events, {row["source_id"]: (row["title"], row["year"], row["description"]) for row in items}


def attempt(source):
    """What reading is refused with, if it is."""
    try:
        read(source)
    except ValueError as refusal:
        return str(refusal)
    return None


def check(found, events=EVENTS, items=range(7)):
    """Every good record is there, and reads as it was meant."""
    rows, table = found
    for line in events:
        user, item, rating, time = line.split(",")
        seconds, tenths = time.split(".")
        assert (user, item, float(rating), int(seconds) * 10**9 + int(tenths) * 10**8) in rows, line
    for i in items:
        title, text = (f"Title, {i}", f'First {i}, second "line" last') if i % 2 else (f"Title {i}", f"Plain {i}")
        assert table[f"A{i}"] == (title, 1990 + i, text)


@settings(max_examples=500, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    events=inserts, items=inserts, encoding=st.sampled_from([*ENCODINGS]), stray=st.booleans(), packed=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]), written=st.integers(0, 4),
)  # fmt: skip
def test_malformed_csv(events, items, encoding, stray, packed, end, written):
    folder = Path(tempfile.mkdtemp())
    try:
        for name, header, lines, extra in (("e", HEADERS[0], EVENTS, events), ("i", HEADERS[1], ITEMS, items)):
            write(folder / name, spoil(header, lines, extra, end), encoding, stray, packed)
        source = CsvSource(folder / "e", folder / "i", encoding=ENCODINGS[encoding])
        if stray and encoding == "utf-8":  # bytes that aren't UTF-8 are refused, unless it is told to go on
            if refusal := attempt(source):
                assert "is not UTF-8" in refusal
                assert "--encoding utf-8" in refusal
            source = CsvSource(folder / "e", folder / "i", encoding="utf-8")
        check(read(source))
        if not written:
            rows = save_csv(source, Filters(), folder / "out", 1.0)["rows"]
            assert {name: split.num_rows for name, split in load_prepared(folder / "out").items()} == rows
        assert {path.name for path in folder.iterdir()} <= {"e", "i", "out"}
    finally:
        shutil.rmtree(folder)


def test_a_lost_record_is_noticed(tmp_path):
    write(tmp_path / "e", spoil(HEADERS[0], EVENTS[1:], [], "\n"), "utf-8", False, False)
    write(tmp_path / "i", spoil(HEADERS[1], ITEMS[1:], [], "\n"), "utf-8", False, False)
    with pytest.raises(AssertionError):
        check(read(CsvSource(tmp_path / "e", tmp_path / "i")), EVENTS, range(1, 1))
    with pytest.raises(KeyError):
        check(read(CsvSource(tmp_path / "e", tmp_path / "i")), [], range(7))
