"""Gzip archives: in, a path; out, their content in blocks, lines or chunks, of a damaged one all before the break."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from rrec_lib.core.console import byte_progress

BLOCK = 1 << 18  # compressed bytes read at a time
GZIP = 31  # zlib's number for "a gzip header and its checksum"


class DamagedArchiveError(Exception):
    """The archive breaks off or is damaged here; everything before has been handed on."""


def read_blocks(path: Path) -> Iterator[bytes]:
    """Decompress an archive, several members and zeros between them included.

    Args:
        path: the archive.

    Yields:
        Its content in pieces.

    Raises:
        DamagedArchiveError: where it can't go on, after the last byte that could be decompressed.
        FileNotFoundError: if there is no such file.
    """
    engine, inside, members = zlib.decompressobj(GZIP), False, 0
    with path.open("rb") as file:
        compressed = iter(lambda: file.read(BLOCK), b"")
        for data in byte_progress(compressed, path.name, total=path.stat().st_size):
            while data := data if inside else data.lstrip(b"\0") if members else data:
                before = engine.copy()
                try:
                    piece = engine.decompress(data)
                except zlib.error as error:
                    yield from _salvage(before, data)
                    raise DamagedArchiveError(str(error)) from error
                yield piece
                inside, data = not engine.eof, engine.unused_data
                if engine.eof:
                    members += 1
                    engine = zlib.decompressobj(GZIP)
    if inside or not members:
        raise DamagedArchiveError("it breaks off before its end" if inside else "it is empty")


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of an archive without their line feeds; of a damaged one, up to the last whole line.

    Raises:
        DamagedArchiveError: as :func:`read_blocks`, after the last whole line.
    """
    parts: list[bytes] = []
    for block in read_blocks(path):
        first, *lines = block.split(b"\n")
        parts.append(first)
        if lines:
            yield b"".join(parts)
            parts = [lines.pop()]
            yield from lines
    if last := b"".join(parts):
        yield last


def read_chunks(path: Path, size: int) -> Iterator[bytes]:
    """Whole lines of an archive, about ``size`` bytes at a time; like :func:`read_lines` where it is damaged."""
    parts: list[bytes] = []
    length = 0
    try:
        for block in read_blocks(path):
            parts.append(block)
            length += len(block)
            if length >= size:
                whole, _, rest = b"".join(parts).rpartition(b"\n")
                if whole:
                    yield whole + b"\n"
                parts, length = [rest], 0
    except DamagedArchiveError:
        whole, feed, _ = b"".join(parts).rpartition(b"\n")
        if feed:
            yield whole + feed
        raise
    if last := b"".join(parts):
        yield last if last.endswith(b"\n") else last + b"\n"


def _salvage(engine, data: bytes) -> Iterator[bytes]:  # type: ignore[no-untyped-def]
    """What a block holds before its break: by kilobytes, and within the damaged one by bytes."""
    for step in (1 << 10, 1):
        for begin in range(0, len(data), step):
            before = engine.copy()
            try:
                yield engine.decompress(data[begin : begin + step])
            except zlib.error:
                engine, data = before, data[begin : begin + step]
                break
