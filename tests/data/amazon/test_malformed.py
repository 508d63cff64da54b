"""500 malformed inputs for either reader: never a traceback, a valid record lost, or half an output."""

import codecs
import gzip
import json
import shutil
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrec_lib.data.amazon.clean import CleanRecipe, save_clean
from rrec_lib.data.amazon.raw import raw_files, read_items, read_reviews
from rrec_lib.data.faults import Faults
from rrec_lib.data.official.recipe import OfficialRecipe, save_official
from rrec_lib.data.prepared import load_any, read_manifest

DAY = 86_400_000
# Each day holds two events of a user that are 400 ms apart.
REVIEWS = [f"u{i // 2 % 5},A{i // 2 % 7},{1 + i % 5}.0,{1_672_531_200_000 + i // 2 * DAY + i % 2 * 400}".encode()
           for i in range(25)]  # fmt: skip
ITEMS = [json.dumps({"parent_asin": f"A{i}", "title": f"Title {i}", "price": 1.0, "description": []}).encode()
         for i in range(7)]  # fmt: skip
HEADER = b"user_id,parent_asin,rating,timestamp"
FIELDS = [b"", b"x" * 70, b"6", b"nan", b"1_0", b"-1", b"0", b"\xff\xfe", b"\x00", b'"', b"9" * 30, b"1e400", b"u\x07"]
JSONS = [b"null", b"[]", b"{", b'"a"', b"NaN", b"[" * 5000, b'{"parent_asin": 3}', b'{"parent_asin": "A1", "title": 5}',
         b'{"parent_asin": "\\ud800"}', b'{"title": null, "parent_asin": "A2", "description": {"a": 1}}']  # fmt: skip


def stray_mark(line, at):
    return line[:at] + b'"' + line[at:]


bad_line = st.one_of(
    st.binary(max_size=40).filter(lambda text: b"\n" not in text),
    st.sampled_from(JSONS),
    st.builds(
        lambda line, at, field: b",".join([*line.split(b",")[:at], field, *line.split(b",")[at + 1 :]]),
        st.sampled_from(REVIEWS), st.integers(0, 3), st.sampled_from(FIELDS),
    ),
    st.builds(lambda line, end: line[:end], st.sampled_from(REVIEWS + ITEMS), st.integers(0, 60)),
    st.builds(stray_mark, st.sampled_from(REVIEWS + ITEMS), st.integers(0, 60)),
    st.sampled_from(REVIEWS + ITEMS).map(lambda line: line.decode().encode("utf-16-le").replace(b"\n", b"")),
    st.builds(
        lambda line, end: line + end, st.sampled_from(REVIEWS + ITEMS), st.sampled_from([b",5", b"}", b'"', b"\r"])
    ),
)  # fmt: skip
inserts = st.lists(st.tuples(st.integers(0, 25), bad_line), max_size=6)
marks = st.sampled_from([b"", codecs.BOM_UTF8])
damage = st.one_of(
    st.none(), st.tuples(st.just("cut"), st.floats(0, 1)), st.tuples(st.just("flip"), st.floats(0, 1)),
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=9)),
)  # fmt: skip


def spoil(lines, extra):
    lines = list(lines)
    for at, line in sorted(extra, reverse=True):
        lines.insert(min(at, len(lines)), line)
    return b"\n".join(lines) + b"\n"


def write(path, content, how):
    """A gzip archive of the content, and what can be had of it."""
    packed = gzip.compress(content, mtime=0)
    if how is None:
        path.write_bytes(packed)
        return content
    kind, value = how
    if kind == "append":
        path.write_bytes(packed + value)
        return content
    at = min(int(value * len(packed)), len(packed) - 1)
    spoilt = packed[:at] if kind == "cut" else packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
    path.write_bytes(spoilt)
    # What stands before the place of the damage must not be lost; how far a decoder gets behind it is its own affair.
    try:
        return zlib.decompressobj(31).decompress(packed[: max(0, at - 300 if kind == "flip" else at)])
    except zlib.error:
        return b""


def whole_lines(content, known):
    return {line for line in content.split(b"\n")[:-1] if line in known}


@settings(max_examples=500, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    reviews=inserts,
    items=inserts,
    review_damage=damage,
    item_damage=damage,
    recipe=st.sampled_from(["clean", "official", None, None]),
    mark=marks,
)
def test_malformed_inputs(reviews, items, review_damage, item_damage, recipe, mark):
    folder = Path(tempfile.mkdtemp())
    try:
        log = mark + spoil([HEADER, *REVIEWS], [(at + 1, line) for at, line in reviews])
        table = mark + spoil(ITEMS, items)
        log = write(folder / "Books.csv.gz", log, review_damage)
        table = write(folder / "meta_Books.jsonl.gz", table, item_damage)
        raw = raw_files(folder, "Books")
        table = table.removeprefix(mark)
        check_reading(raw, whole_lines(log, set(REVIEWS)), whole_lines(table, set(ITEMS)))
        if recipe:  # writing takes longer than reading
            check_writing(raw, folder / "out", recipe == "official")
        assert {path.name for path in folder.iterdir()} <= {"Books.csv.gz", "meta_Books.jsonl.gz", "out"}
    finally:
        shutil.rmtree(folder)


def attempt(work):
    """What work returns, and the one kind of error it may raise instead."""
    try:
        return work(), None
    except (ValueError, FileNotFoundError) as error:
        return None, str(error)


def check_reading(raw, expected_reviews, expected_items):
    """Every valid record that was there is read; a file that can't be read at all had none before its break."""
    faults = Faults(1.0)
    log, error = attempt(lambda: read_reviews(raw.reviews, faults))
    rows = set()
    if error:
        assert one_sentence(error)
    else:
        users, items = log.user_ids.to_pylist(), log.item_asins.to_pylist()
        columns = zip(log.user, log.item, log.rating, log.timestamp, strict=True)
        rows = {f"{users[u]},{items[i]},{r},{t}".encode() for u, i, r, t in columns}
    assert expected_reviews <= rows
    records, error = attempt(lambda: [record for _, record in read_items(raw.meta, faults)])
    assert not error or one_sentence(error)
    titles = {str(record.get("title")) for record in records or []}
    assert {json.loads(line)["title"] for line in expected_items} <= titles


def test_a_lost_record_is_noticed(tmp_path):
    write(tmp_path / "Books.csv.gz", spoil([HEADER, *REVIEWS[1:]], []), None)
    write(tmp_path / "meta_Books.jsonl.gz", spoil(ITEMS[1:], []), None)
    raw = raw_files(tmp_path, "Books")
    check_reading(raw, set(REVIEWS[1:]), set(ITEMS[1:]))
    with pytest.raises(AssertionError):
        check_reading(raw, set(REVIEWS), set(ITEMS[1:]))
    with pytest.raises(AssertionError):
        check_reading(raw, set(REVIEWS[1:]), set(ITEMS))


def check_writing(raw, out, official):
    if official:
        _, error = attempt(lambda: save_official(raw, OfficialRecipe("2023-01", "2023-03"), out, max_faults=1.0))
    else:
        _, error = attempt(lambda: save_clean(raw, CleanRecipe("2023-01", "2023-03"), out, max_faults=1.0))
    if error:
        assert one_sentence(error)
        assert not out.exists()
        return
    rows = read_manifest(out)["rows"]
    assert {name: split.num_rows for name, split in load_any(out).items()} == rows


def one_sentence(text):
    return 20 < len(text) < 1000 and "Traceback" not in text
