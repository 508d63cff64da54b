"""Texts of items: in, any text; out, one line fit for a prompt, with a count of what had to be repaired."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from rrec_lib.data.encodings import BAD
from rrec_lib.data.faults import Faults

_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->|<\|[^<>|]*\|>", re.DOTALL)  # chat templates' signs as well
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


def plain_text(text: str) -> str:
    """HTML entities as signs, tags and control characters as spaces, whitespace as single spaces; Unicode stays."""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    return " ".join(text.split())


def count_repairs(title: str, texts: Sequence[str], path: Path, line: int, faults: Faults) -> None:
    """Count what :func:`plain_text` takes out of an item.

    Args:
        title: as the file has it, and
        texts: the item's other ones.
        path: the file, and
        line: the record's line, for the report.
        faults: where repairs are counted.
    """
    if _has_html(title):
        faults.add("html_title", path, line, title)
    if any(map(_has_html, texts)):
        faults.add("html_text", path, line)
    if any(not text.isprintable() and _CONTROL.search(BAD.sub("", text)) for text in (title, *texts)):
        faults.add("control_characters", path, line)


def _has_html(text: str) -> bool:
    return ("&" in text and html.unescape(text) != text) or ("<" in text and bool(_TAG.search(text)))
