"""Amazon's raw files: every healthy record is read, every other one counted with its file and line."""

import codecs
import gzip
import zlib

import numpy as np
import pytest

from rrec_lib.data.amazon.raw import appearance, read_items, read_reviews
from rrec_lib.data.amazon.rows import parse_chunk, parse_lines
from rrec_lib.data.faults import Faults, fault_lines

T = 1_660_000_000_000
HEADER = "user_id,parent_asin,rating,timestamp\n"


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "Tiny.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
        return path

    return write


@pytest.fixture
def jsonl(tmp_path):
    def write(content):
        path = tmp_path / "meta_Tiny.jsonl.gz"
        path.write_bytes(gzip.compress(content))
        return path

    return write


def test_reviews_keep_file_order_and_number_ids_by_appearance(csv):
    reviews = read_reviews(csv(HEADER + f"b,Y,5.0,{T + 30}\na,X,1,{T + 20}\nb,X,2.5,{T + 10}\n"))
    assert reviews.user.tolist() == [0, 1, 0]
    assert reviews.item.tolist() == [0, 1, 1]
    assert reviews.rating.tolist() == [5.0, 1.0, 2.5]
    assert reviews.timestamp.tolist() == [T + 30, T + 20, T + 10]
    assert reviews.user_ids.to_pylist() == ["b", "a"]
    assert reviews.item_asins.to_pylist() == ["Y", "X"]


def test_ids_of_digits_keep_their_zeros_and_other_columns_are_not_read(csv):
    reviews = read_reviews(csv(f'timestamp,"verified",rating,"parent_asin",user_id\n{T},yes,5.0,0001,007\n'))
    assert reviews.user_ids.to_pylist() == ["007"]
    assert reviews.item_asins.to_pylist() == ["0001"]


@pytest.mark.parametrize("text", ["user_id,parent_asin,rating\na,X,5.0\n", "", "\n", f"rating,rating\n{T}\n"])
def test_a_csv_without_the_columns_stops(csv, text):
    with pytest.raises(ValueError, match=r"Tiny\.csv\.gz has no column|Tiny\.csv\.gz is empty"):
        read_reviews(csv(text))


BAD_ROWS = {
    "a,X,5.0": "wrong_columns",
    f"a,X,5.0,{T},1": "wrong_columns",
    f'a,"X,5.0,{T}': "wrong_columns",
    f",X,5.0,{T}": "bad_id",
    f"{'a' * 65},X,5.0,{T}": "bad_id",
    f"a,X\x00,5.0,{T}": "bad_id",
    f"a\xff,X,5.0,{T}": "invalid_utf8_id",
    f"a,X,,{T}": "bad_rating",
    f"a,X,good,{T}": "bad_rating",
    f"a,X,nan,{T}": "bad_rating",
    f"a,X,0.5,{T}": "bad_rating",
    f"a,X,5.5,{T}": "bad_rating",
    f"a,X,1_0,{T}": "bad_rating",
    "a,X,5.0,": "bad_time",
    "a,X,5.0,-5": "bad_time",
    f"a,X,5.0,{T}.5": "bad_time",
    "a,X,5.0,1600000000": "bad_time",  # seconds
    "a,X,5.0,4102444800000": "bad_time",
}


@pytest.mark.parametrize(("row", "kind"), BAD_ROWS.items())
def test_a_malformed_row_is_counted_and_no_other_is_lost(tmp_path, row, kind):
    lines = [f"u{i},X,4.0,{T + i}" for i in range(6)]
    path = tmp_path / "Tiny.csv.gz"
    text = HEADER + "\n".join([*lines[:3], row, "", *lines[3:]]) + "\n"
    path.write_bytes(gzip.compress(text.encode("latin-1")))
    faults = Faults(1.0)
    reviews = read_reviews(path, faults)
    assert reviews.user_ids.to_pylist() == [f"u{i}" for i in range(6)]
    assert faults.counts == {path.name: {kind: 1}}
    assert faults.first[path.name][kind][0]["line"] == 5
    assert [reviews.line(place) for place in range(6)] == [2, 3, 4, 7, 8, 9]
    with pytest.raises(ValueError, match=rf"1 of 7 records are malformed.*{kind} 1 \(first on line 5\)"):
        read_reviews(path, Faults(0.1))


@pytest.mark.parametrize("row", [f'"a","X",5.0,{T}', f"é,X,5.0,{T}", f"{'a' * 64},X,+5,{T}", f"a,X, 5e0, {T}\r"])
def test_an_unusual_row_is_not_a_malformed_one(csv, row):
    reviews = read_reviews(csv(HEADER + f"u,X,4.0,{T}\n" + row), Faults(0.0))
    assert reviews.rating.tolist() == [4.0, 5.0]


def test_the_fast_and_the_slow_way_agree(tmp_path):
    """Every healthy form is read by both; the slow one is the statement, and a bad row is left to it."""
    header = ["user_id", "parent_asin", "rating", "timestamp"]
    healthy = f"a,X,5.0,{T}\nb c,Y,1,{T + 1}\n".encode()
    fast = parse_chunk(healthy, header)
    slow, skipped, blank = parse_lines(healthy, header, tmp_path, 2, Faults())
    assert fast is not None
    assert fast.rows() == slow.rows()
    assert (skipped, blank) == ([], 0)
    for row in BAD_ROWS:
        assert parse_chunk(healthy + row.encode("latin-1") + b"\n", header) is None, row


def test_damaged_archives_are_read_to_the_break(tmp_path, csv, jsonl):
    rows = [f"user{i * 7919 % 10007},item{i},5.0,{T + i}\n" for i in range(20_000)]
    path = csv(HEADER + "".join(rows))
    assert len(read_reviews(path).user) == 20_000
    path.write_bytes(path.read_bytes()[:-3000])
    faults = Faults()
    reviews = read_reviews(path, faults)
    engine = zlib.decompressobj(31)
    whole = engine.decompress(path.read_bytes()).count(b"\n") - 1
    assert 15_000 < whole < 20_000
    assert reviews.item_asins.to_pylist() == [f"item{i}" for i in range(whole)]
    assert faults.counts == {path.name: {"damaged_archive": 1}}
    assert f"read up to line {whole + 1}" in fault_lines(faults.as_dict())[0]
    meta = jsonl(b"".join(b'{"n": %d}\n' % (i * 7919 % 10007) for i in range(20_000)))
    assert len(list(read_items(meta))) == 20_000
    meta.write_bytes(meta.read_bytes()[:-3000])
    faults = Faults()
    assert 10_000 < len(list(read_items(meta, faults))) < 20_000
    assert faults.counts == {meta.name: {"damaged_archive": 1}}


def test_what_is_no_archive_stops(csv, jsonl):
    path, meta = csv(HEADER), jsonl(b"{}\n")
    path.write_bytes(b"no gzip at all")
    meta.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match=r"Tiny\.csv\.gz can't be read"):
        read_reviews(path)
    with pytest.raises(ValueError, match=r"meta_Tiny\.jsonl\.gz can't be read"):
        list(read_items(meta))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_reviews(tmp_path / "none.csv.gz")
    with pytest.raises(FileNotFoundError):
        list(read_items(tmp_path / "none.jsonl.gz"))


def test_items_come_with_their_line_numbers(jsonl):
    path = jsonl('{"a": NaN}\n\n{"b": "é"}\n'.encode())
    (first, nan), second = read_items(path)
    assert (first, second) == (1, (3, {"b": "é"}))
    assert nan["a"] != nan["a"]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(b"{", "bad_json"), (b'{"a": 1} x', "bad_json"), (b"[1]", "not_an_object"), (b"3", "not_an_object"),
     (b"[" * 100_000, "bad_json"), (b"9" * 5000, "bad_json"), (b"\xff", "bad_json")],
)  # fmt: skip
def test_a_line_that_is_no_object_is_counted(jsonl, bad, kind):
    path, faults = jsonl(b'{"a": 1}\n' + bad + b'\n\n{"b": 2}'), Faults(1.0)
    assert list(read_items(path, faults)) == [(1, {"a": 1}), (4, {"b": 2})]
    assert faults.counts == {path.name: {kind: 1}}
    assert faults.first[path.name][kind][0]["line"] == 2
    with pytest.raises(ValueError, match=rf"1 of 3 records are malformed.*{kind} 1 \(first on line 2\)"):
        list(read_items(path))


def test_bytes_that_are_not_utf8_are_repaired(jsonl):
    path, faults = jsonl(b'{"a": "\xff"}\n'), Faults(0.0)
    assert list(read_items(path, faults)) == [(1, {"a": "\ufffd"})]
    assert faults.counts == {path.name: {"invalid_utf8_text": 1}}


def test_byte_order_marks_belong_to_no_record(tmp_path, jsonl):
    mark = codecs.BOM_UTF8
    path = tmp_path / "Tiny.csv.gz"
    rows = [mark + HEADER.encode(), mark + f"a,X,5.0,{T}\n".encode(), f"a,Y,5.0,{T}\n".encode()]
    path.write_bytes(gzip.compress(b"".join(rows)))
    faults = Faults(0.0)
    reviews = read_reviews(path, faults)
    assert (reviews.user_ids.to_pylist(), reviews.item_asins.to_pylist()) == (["a"], ["X", "Y"])
    meta = jsonl(mark + b'{"a": 1}\r\n' + mark + b"\n" + mark + b'{"b": 2}\n{"c": 3}\n')
    assert list(read_items(meta, faults)) == [(1, {"a": 1}), (3, {"b": 2}), (4, {"c": 3})]
    assert not faults.counts


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_widths_are_refused_by_name(tmp_path, jsonl, name):
    path = tmp_path / "Tiny.csv.gz"
    path.write_bytes(gzip.compress((HEADER + f"a,X,5.0,{T}\n").encode(name)))
    with pytest.raises(ValueError, match=rf"Tiny.csv.gz is {name}, expected UTF-8"):
        read_reviews(path)
    with pytest.raises(ValueError, match=rf"meta_Tiny.jsonl.gz is {name}, expected UTF-8"):
        list(read_items(jsonl('{"a": "abcdefgh"}\n'.encode(name))))


def test_long_fields_and_times_with_a_point(csv):
    long = "x," * 100_000
    rows = f'a,X,5.0,{T}.0,"{long}"\nb,X,5.0,{T},\nc,X,5.0,{T},"\n'
    faults = Faults(1.0)
    reviews = read_reviews(csv(HEADER.strip() + ",text\n" + rows), faults)
    assert (reviews.user_ids.to_pylist(), reviews.timestamp.tolist()) == (["a", "b"], [T, T])
    assert faults.first == {"Tiny.csv.gz": {"wrong_columns": [{"line": 4, "found": "an open quotation mark"}]}}


@pytest.mark.parametrize(
    ("rows", "message"),
    [("", "has a header and no usable review below it"), ("a,X,9,1\n", "another scale.*--best-rating"),
     ("a,X,5,1600000000\n", "milliseconds since 1970")],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_remedy(csv, rows, message):
    with pytest.raises(ValueError, match=message):
        read_reviews(csv(HEADER + rows))


@pytest.mark.parametrize(("content", "message"), [(b"\n", "is empty; fetch it"), (b"[]\n", "describes no usable item")])
def test_items_of_which_none_is_left_are_refused(jsonl, content, message):
    with pytest.raises(ValueError, match=rf"meta_Tiny.jsonl.gz {message}"):
        list(read_items(jsonl(content), Faults(1.0)))


def test_appearance():
    numbers, first = appearance(np.array([7, 3, 7, 9, 3]))
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert first.tolist() == [0, 1, 3]
    assert [len(part) for part in appearance(np.array([], dtype=np.int64))] == [0, 0]
