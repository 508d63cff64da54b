"""Amazon's raw files: read whole, or an error that names the file, the line and what to do."""

import gzip

import numpy as np
import pytest

from rrec_lib.data.amazon import appearance, read_items, read_reviews

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
    reviews = read_reviews(csv(HEADER + "b,Y,5.0,30\na,X,1,20\nb,X,2.5,10\n"))
    assert reviews.user.tolist() == [0, 1, 0]
    assert reviews.item.tolist() == [0, 1, 1]
    assert reviews.rating.tolist() == [5.0, 1.0, 2.5]
    assert reviews.timestamp.tolist() == [30, 20, 10]
    assert reviews.user_ids.to_pylist() == ["b", "a"]
    assert reviews.item_asins.to_pylist() == ["Y", "X"]


def test_ids_of_digits_keep_their_zeros_and_other_columns_are_not_read(csv):
    reviews = read_reviews(csv('timestamp,"verified",rating,"parent_asin",user_id\n10,yes,5.0,0001,007\n'))
    assert reviews.user_ids.to_pylist() == ["007"]
    assert reviews.item_asins.to_pylist() == ["0001"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,parent_asin,rating\na,X,5.0\n", "has no column timestamp"),
        (HEADER + "a,X,5.0,10\n,X,5.0,10\n", "1 rows lack user_id, the first on line 3"),
        (HEADER + "a,X,,10\n", "1 rows lack rating, the first on line 2"),
        (HEADER + "a,X,good,10\n", "can't be read as gzipped CSV"),
        (HEADER + "a,X,5.0,1.5\n", "can't be read as gzipped CSV"),
        ("", "has no column user_id, parent_asin, rating, timestamp"),
    ],
)
def test_a_wrong_csv_is_named(csv, text, message):
    with pytest.raises(ValueError, match=message):
        read_reviews(csv(text))


def test_damaged_archives_are_named(tmp_path, csv, jsonl):
    rows = "".join(f"user{i * 7919 % 10007},item{i},5.0,{i}\n" for i in range(20_000))
    path = csv(HEADER + rows)
    assert len(read_reviews(path).user) == 20_000
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"Tiny\.csv\.gz can't be read"):
        read_reviews(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match=r"Tiny\.csv\.gz can't be read"):
        read_reviews(path)
    meta = jsonl(b"".join(b'{"n": %d}\n' % (i * 7919 % 10007) for i in range(20_000)))
    assert len(list(read_items(meta))) == 20_000
    meta.write_bytes(meta.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"jsonl\.gz is damaged after line \d+"):
        list(read_items(meta))
    meta.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match="damaged after line 0"):
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


@pytest.mark.parametrize("bad", [b"{", b'{"a": 1} x', b"[1]", b"3", b'{"a": "\xff"}'])
def test_a_line_that_is_no_object_is_named(jsonl, bad):
    with pytest.raises(ValueError, match=r"meta_Tiny\.jsonl\.gz, line 2: not a JSON object"):
        list(read_items(jsonl(b'{"a": 1}\n' + bad + b"\n")))


def test_appearance():
    numbers, first = appearance(np.array([7, 3, 7, 9, 3]))
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert first.tolist() == [0, 1, 3]
    assert [len(part) for part in appearance(np.array([], dtype=np.int64))] == [0, 0]
