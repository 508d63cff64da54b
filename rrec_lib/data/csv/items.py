"""The items of a CSV file: a title, and what else is known."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from rrec_lib.data.csv.columns import Columns, CsvSource, Layout, plain_id, read_layout
from rrec_lib.data.csv.lines import Shape, open_lines, records
from rrec_lib.data.encodings import BAD
from rrec_lib.data.faults import Faults
from rrec_lib.data.movielens import NO_GENRES, natural_title
from rrec_lib.data.records import read_number
from rrec_lib.data.texts import count_repairs, plain_text

OPTIONAL = ("year", "genres", "description")
_UNKNOWN = {"", "na", "n/a", "nan", "nat", "none", "null", "\\n"}  # how programs write that there is nothing
_FIRST, _LAST = 100, 2099  # two digits are more likely a year whose century isn't said
_YEAR = re.compile(r"(?<!\d)(1[0-9]{3}|20[0-9]{2})(?!\d)")
_TITLE_YEAR = re.compile(r"(.*\S)\s*\(((?:18|19|20)\d\d)\)")


def read_csv_items(source: CsvSource, faults: Faults) -> list[dict[str, Any]]:
    """Read the item table.

    Args:
        source: the files.
        faults: where malformed rows and repairs are counted.

    Returns:
        Rows with ``source_id``, ``kind``, ``title`` and those of ``OPTIONAL`` that are known.

    Raises:
        FileNotFoundError, ValueError: if the file can't be read, a column is missing, too many rows are malformed, or
            there is none.
    """
    names = source.columns
    wanted = {"item": names.items_item or names.item, **{name: getattr(names, name) for name in ("title", *OPTIONAL)}}
    usual = {column.name: column.default for column in fields(Columns)}
    required = ["item", "title", *(name for name in OPTIONAL if wanted[name] != usual[name])]
    rows: dict[str, dict[str, Any]] = {}
    outlines: set[tuple[str, bool]] = set()
    path, lines = source.items, open_lines(source.items, source.encoding)
    with lines.text:
        layout = read_layout(lines, wanted, required, source.delimiter)
        for line, record in records(lines, layout.delimiter, _shape(layout, outlines), faults):
            found = {name: record[at] for name, at in layout.place.items()}
            item = found["item"].strip()
            if not plain_id(item):
                faults.add("invalid_utf8_id" if BAD.search(item) else "bad_id", path, line, ascii(item))
            elif source.key(item) in rows:
                faults.add("item_twice", path, line, item)
            else:
                texts = _texts(found, layout, path, line, faults)
                rows[source.key(item)] = {"source_id": item, "kind": source.kind, **texts}
                outlines.add(_outline(item, record))
    faults.check(path, lines.records)
    if not rows:
        what = "has a header and no item below it" if not lines.records else "describes no item"
        raise ValueError(f"{path} {what}; export it again, or name another file with --items")
    _years_from_titles(list(rows.values()))
    return list(rows.values())


def read_year(text: str) -> int | None:
    """The year of ``1995``, ``1995.0``, ``1995-03-01`` or ``1 March 1995``; 0 where there is nothing, None if it can't
    be read."""
    text = text.strip()
    if text.lower() in _UNKNOWN:
        return 0
    value = read_number(text)
    if value is not None:
        return int(value) if value == 0 or (_FIRST <= value <= _LAST and value == int(value)) else None
    years = set(_YEAR.findall(text))
    return int(years.pop()) if len(years) == 1 else None


def _texts(found: dict[str, str], layout: Layout, path: Path, line: int, faults: Faults) -> dict[str, Any]:
    title = plain_text(found["title"])
    others = [found[name] for name in ("genres", "description") if name in found]
    count_repairs(found["title"], others, path, line, faults)
    if any(BAD.search(text) for text in found.values()):
        faults.add("invalid_utf8_text", path, line)
    if not title:
        faults.add("empty_title", path, line)
    row: dict[str, Any] = {"title": natural_title(title) if layout.movielens else title}
    row["title"] = row["title"] or f"Untitled ({found['item'].strip()})"
    if "year" in found:
        year = read_year(found["year"])
        if year is None:
            faults.add("bad_year", path, line, found["year"])
        row["year"] = year or 0
    if "genres" in found and found["genres"].strip() != NO_GENRES:
        row["genres"] = [text for text in map(plain_text, found["genres"].split(layout.genres_by)) if text]
    elif "genres" in found:
        row["genres"] = []
    if "description" in found:
        row["description"] = plain_text(found["description"])
    return row


def _years_from_titles(rows: list[dict[str, Any]]) -> None:
    """Where most titles end with a year, as MovieLens writes them, it becomes the item's."""
    matches = [_TITLE_YEAR.fullmatch(row["title"]) for row in rows]
    if sum(match is not None for match in matches) * 2 < len(rows):
        return
    for row, match in zip(rows, matches, strict=True):
        year = row.setdefault("year", 0)
        if match and year in (0, int(match[2])):
            row["title"], row["year"] = match[1], int(match[2])


def _shape(layout: Layout, outlines: set[tuple[str, bool]]) -> Shape:
    """An item's id and year hold no line break. A line of a description isn't an item unless it looks like one."""
    place = layout.place

    def whole(fields: list[str]) -> bool:
        item, title = fields[place["item"]].strip(), plain_text(fields[place["title"]])
        year = read_year(fields[place["year"]]) if "year" in place else 0
        alike = not outlines or _outline(item, fields) in outlines
        return plain_id(item) and bool(title) and year is not None and alike

    prose = set(range(layout.columns)) - {place[name] for name in ("item", "year") if name in place}
    return Shape(layout.columns, prose, whole)


def _outline(item: str, fields: list[str]) -> tuple[str, bool]:
    """What items of a file have in common: how their ids are made, and whether a space follows the delimiter."""
    return re.sub("[0-9]+", "0", re.sub("[A-Za-z]+", "a", item)), any(text[:1] == " " for text in fields)
