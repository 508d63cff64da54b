"""Records of a text file: in, lines and a delimiter; out, each record's fields. A broken one costs no other.

A field in quotation marks may hold delimiters and line breaks. A stray mark must not take the lines behind it along:
the quotation is given up as soon as a line inside it reads as a record of its own, where the closing mark is followed
by text, or where the file ends.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rrec_lib.data.encodings import Blocks, open_text
from rrec_lib.data.faults import Faults
from rrec_lib.data.records import BYTE_ORDER_MARK, OPEN, split_fields

LONGEST = 1 << 24  # characters of a record that goes over several lines


@dataclass(frozen=True)
class Shape:
    """What a healthy record looks like.

    ``columns`` is the number of fields, ``prose`` the places of those that may hold a line break, and ``whole`` tells
    whether the fields of a line make a record.
    """

    columns: int
    prose: Collection[int]
    whole: Callable[[list[str]], bool]


@dataclass
class Lines:
    """A text's lines, numbered from 1 and without their ends; lines can be put back."""

    path: Path
    text: TextIO
    raw: Blocks
    number: int = 0
    records: int = 0  # those that are not blank
    back: deque[str] = field(default_factory=deque)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.back:
            self.number += 1
            return self.back.popleft()
        line = next(self.text)
        if self.raw.damage and not line.endswith(("\n", "\r")):
            raise StopIteration  # the break cuts this line
        self.number += 1
        line = line.rstrip("\r\n")
        return line.removeprefix(BYTE_ORDER_MARK)

    def put_back(self, lines: list[str]) -> None:
        """Have lines come again, the first one first."""
        self.back.extendleft(reversed(lines))
        self.number -= len(lines)


def open_lines(path: Path, encoding: str | None) -> Lines:
    """The lines of a file, by :func:`rrec_lib.data.encodings.open_text`."""
    return Lines(path, *open_text(path, encoding))


def records(lines: Lines, delimiter: str, shape: Shape, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Read records; those with other fields than expected are counted, and blank lines passed over.

    Args:
        lines: what follows the header.
        delimiter: what parts the fields.
        shape: of a healthy record.
        faults: where malformed records are counted.

    Yields:
        The line on which a record begins, and its fields.
    """
    for text in lines:
        if not text or text.isspace():
            continue
        number = lines.number
        lines.records += 1
        fields = split_fields(text, delimiter)
        if fields == OPEN:
            fields = _longer(text, lines, delimiter, shape)
        if isinstance(fields, str):
            faults.add("wrong_columns", lines.path, number, fields)
        elif len(fields) != shape.columns:
            faults.add("wrong_columns", lines.path, number, f"{len(fields)} fields, expected {shape.columns}")
        else:
            yield number, fields
    if lines.raw.damage:
        found = f"{lines.raw.damage}; read up to line {lines.number}"
        faults.add("damaged_archive", lines.path, lines.number, found)


def _longer(text: str, lines: Lines, delimiter: str, shape: Shape) -> list[str] | str:
    """The fields of a record that goes on in the next lines; otherwise these lines are put back."""
    held, length = [text], len(text)
    for line in lines:
        held.append(line)
        length += len(line)
        alone = split_fields(line, delimiter)
        if length > LONGEST or (isinstance(alone, list) and len(alone) == shape.columns and shape.whole(alone)):
            break
        if '"' not in line:
            continue
        fields = split_fields("\n".join(held), delimiter)
        if fields == OPEN:
            continue
        if isinstance(fields, list) and len(fields) == shape.columns:
            broken = (place for place, value in enumerate(fields) if "\n" in value)
            if all(place in shape.prose for place in broken):
                return fields
        break
    lines.put_back(held[1:])
    return OPEN
