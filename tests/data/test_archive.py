"""Gzip archives: all of a healthy one, and of a damaged one all that stands before the break."""

import gzip
import random
import zlib

import pytest

from rrec_lib.data import archive
from rrec_lib.data.archive import DamagedArchiveError, read_blocks, read_chunks, read_lines

CONTENT = b"".join(b"%d %x\n" % (i, random.Random(i).getrandbits(64)) for i in range(3000))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "BLOCK", 4096)
    return tmp_path / "a.gz"


def read(stream):
    """What a reader hands on, and whether it said that the archive is damaged."""
    pieces = []
    try:
        for piece in stream:
            pieces.append(piece)
    except DamagedArchiveError:
        return pieces, True
    return pieces, False


@pytest.mark.parametrize("padding", [b"", b"\0" * 9000])
def test_members_and_zeros_between_them(path, padding):
    path.write_bytes(gzip.compress(CONTENT[:5000]) + padding + gzip.compress(CONTENT[5000:]) + padding)
    pieces, damaged = read(read_blocks(path))
    assert (b"".join(pieces), damaged) == (CONTENT, False)
    assert list(read_lines(path)) == CONTENT.split(b"\n")[:-1]
    assert b"".join(read_chunks(path, 1000)) == CONTENT


def test_a_last_line_needs_no_line_feed(path):
    path.write_bytes(gzip.compress(b"a\n\nb"))
    assert list(read_lines(path)) == [b"a", b"", b"b"]
    assert b"".join(read_chunks(path, 1)) == b"a\n\nb\n"


@pytest.mark.parametrize("cut", [1, 5, 9, 1000, 20_000])
def test_truncated(path, cut):
    whole = gzip.compress(CONTENT)
    path.write_bytes(whole[:-cut])
    expected = zlib.decompressobj(31).decompress(whole[:-cut])
    pieces, damaged = read(read_blocks(path))
    assert (b"".join(pieces), damaged) == (expected, True)
    lines, damaged = read(read_lines(path))
    assert (lines, damaged) == (expected.split(b"\n")[:-1], True)
    chunks, damaged = read(read_chunks(path, 1000))
    assert (b"".join(chunks), damaged) == (expected[: expected.rfind(b"\n") + 1], True)


def test_everything_before_an_error_is_handed_on(path):
    """A stored block keeps its bytes as they are, so where the damage begins is known."""
    header = gzip.compress(b"")[:10]
    first = CONTENT[:5000]
    block = b"\0" + len(first).to_bytes(2, "little") + (0xFFFF - len(first)).to_bytes(2, "little") + first
    path.write_bytes(header + block + bytes([0b110]) + bytes(100))  # there is no block of type 3
    pieces, damaged = read(read_blocks(path))
    assert damaged
    assert b"".join(pieces) == first


@pytest.mark.parametrize("content", [b"", b"plain text", gzip.compress(CONTENT) + b"rubbish"])
def test_empty_no_archive_and_rubbish_behind_it(path, content):
    path.write_bytes(content)
    pieces, damaged = read(read_blocks(path))
    assert damaged
    assert b"".join(pieces) == (CONTENT if content.endswith(b"rubbish") else b"")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_blocks(tmp_path / "none.gz"))
