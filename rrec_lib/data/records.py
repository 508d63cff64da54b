"""Fields of one record of a text file: split at the delimiter, checked as ids, read as numbers."""

import re
from typing import Any

from rrec_lib.data.faults import MAX_ID

BYTE_ORDER_MARK = "\ufeff"  # files that were put together have one in the middle, too
OPEN = "an open quotation mark"
CLOSED = "text behind a closing quotation mark"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


def split_fields(text: str, delimiter: str) -> list[str] | str:
    """A record's fields, or ``OPEN`` or ``CLOSED`` if its quotation marks don't fit.

    A field is quoted if it begins with a mark, and then a doubled mark stands for one; elsewhere a mark is a sign like
    any other. The csv module would refuse long fields.
    """
    if '"' not in text or len(delimiter) > 1:  # files with longer delimiters, such as MovieLens', know no quoting
        return text.split(delimiter)
    fields, at = [], 0
    while True:
        if text[at : at + 1] == '"':
            end = text.find('"', at + 1)
            while end >= 0 and text[end + 1 : end + 2] == '"':
                end = text.find('"', end + 2)
            if end < 0:
                return OPEN
            fields.append(text[at + 1 : end].replace('""', '"'))
            at = end + 1
            if at < len(text) and not text.startswith(delimiter, at):
                return CLOSED
        else:
            end = text.find(delimiter, at)
            end = len(text) if end < 0 else end
            fields.append(text[at:end])
            at = end
        if at >= len(text):
            return fields
        at += len(delimiter)


def valid_id(value: object) -> bool:
    """Whether a value can be a user's or an item's id: a text of 1 to ``MAX_ID`` characters, no control character."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and not _CONTROL.search(value)


def read_number(text: str) -> float | None:
    """A field as a number, or None; Python would take ``1_000`` for one, CSV readers don't."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def json_number(value: Any, kind: type[int] | type[float]) -> Any:
    """A JSON number that is one, or None."""
    return kind(value) if isinstance(value, int | float) and abs(value) < 2**53 else None  # NaN and infinity aren't
