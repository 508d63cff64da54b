"""Columns: in, a CSV file's header; out, which is which, by usual names, the owner's names or MovieLens' order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrec_lib.data.csv.lines import Lines
from rrec_lib.data.records import split_fields, valid_id

DELIMITERS = (",", "\t", ";", "|", "::")
_INTEGER = re.compile(r"0*([0-9]+?)(?:\.0*)?")
_TYPED = re.compile(r"(.+):(?:token|float)(?:_seq)?")  # RecBole's atomic files
# Other names of a column, without capitals and underscores: MovieLens' and RecBole's.
_ALSO = {"item": {"movieid"}, "title": {"movietitle"}, "year": {"releaseyear"}, "genres": {"genre", "class"}}
_ORDER = {"user": ("user", "item", "rating", "time"), "title": ("item", "title", "genres")}  # MovieLens' :: files


@dataclass(frozen=True)
class Columns:
    """What the files call their columns. Year, genres (parted by ``|``) and description may be missing.

    ``items_item`` is the item's column in the file of items, if it isn't called as in that of events.
    """

    user: str = "user_id"
    item: str = "item_id"
    rating: str = "rating"
    time: str = "timestamp"
    title: str = "title"
    year: str = "year"
    genres: str = "genres"
    description: str = "description"
    items_item: str | None = None


@dataclass(frozen=True)
class CsvSource:
    """Two files, plain or gzipped.

    Attributes:
        events: a row per event.
        items: a row per item.
        columns: their names.
        kind: what prompts call an item, such as ``"album"``; its plural takes an s.
        best_rating: the scale's highest rating; ratings are brought to a scale of 5.
        time_unit: ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, ``"iso"`` (without a zone: UTC), or ``"auto"``: that of most
            events.
        delimiter: what parts fields; None finds it by the header.
        encoding: of both files, UTF-8 if None; a byte order mark overrules it.
        integer_ids: whether ``34.0``, ``00034`` and ``34`` are one id.
    """

    events: Path
    items: Path
    columns: Columns = Columns()
    kind: str = "item"
    best_rating: float = 5.0
    time_unit: str = "auto"
    delimiter: str | None = None
    encoding: str | None = None
    integer_ids: bool = False

    def key(self, item: str) -> str:
        """What two spellings of an id have in common."""
        return whole_number(item) if self.integer_ids else item


@dataclass(frozen=True)
class Layout:
    """How a file is laid out: its ``delimiter``, number of fields, each column's ``place``, whether it is of the form
    of MovieLens, what parts genres, and which columns are there ``twice``."""

    delimiter: str
    columns: int
    place: Mapping[str, int]
    movielens: bool
    genres_by: str
    twice: Sequence[str] = ()


def plain_id(text: str) -> bool:
    """Whether a field can be an id: as anywhere, and without a quotation mark, for that is a stray one."""
    return valid_id(text) and '"' not in text


def whole_number(text: str) -> str:
    """``34.0`` and ``00034`` as ``34``; any other text as it is."""
    match = _INTEGER.fullmatch(text)
    return match[1] if match else text


def read_layout(lines: Lines, wanted: Mapping[str, str], required: Sequence[str], delimiter: str | None) -> Layout:
    """Read the header of a file.

    Args:
        lines: the file from its first line; a line that is no header is put back.
        wanted: names by column, such as ``{"user": "user_id"}``.
        required: columns that must be there.
        delimiter: what parts the fields; None finds it by the header.

    Raises:
        ValueError: if the file is empty, a column is missing, or any that is wanted is there twice.
    """
    header = next((line for line in lines if line and not line.isspace()), None)
    if header is None:
        raise ValueError(
            f"{lines.path} is empty; expected a header with {', '.join(wanted[name] for name in required)}"
        )
    layouts = [_layout(header, wanted, sign) for sign in ([delimiter] if delimiter else DELIMITERS)]
    for layout in layouts:
        if all(name in layout.place for name in required):
            if layout.twice:
                raise ValueError(_missing(lines.path, header, wanted, layout.twice, layout))
            return layout
    order = _ORDER[required[0]] if required[0] in _ORDER else _ORDER["title"]
    count = len(header.split("::"))
    if delimiter in (None, "::") and len(required) <= count <= len(order):
        lines.put_back([header])
        return Layout("::", count, {name: at for at, name in enumerate(order[:count])}, True, "|")
    best = max(layouts, key=lambda layout: (len(layout.place), layout.columns))
    raise ValueError(_missing(lines.path, header, wanted, required, best))


def _layout(header: str, wanted: Mapping[str, str], delimiter: str) -> Layout:
    names = _names(header, delimiter)
    typed = [_TYPED.fullmatch(name) for name in names]
    bare = [match[1] for match in typed if match]
    atomic = len(bare) == len(names)
    plain = bare if atomic else names
    place, twice = {}, []
    for name, asked in wanted.items():
        found = [at for at, there in enumerate(plain) if there == asked or names[at] == asked]
        if not found and asked == getattr(Columns, name, "item_id"):  # nobody gave another name
            also = {_simple(asked)} | (_ALSO.get(name, set()) - (set() if atomic else {"class"}))
            found = [at for at, there in enumerate(plain) if _simple(there) in also]
        if len(found) == 1:
            place[name] = found[0]
        elif found:
            twice.append(name)
    films = {"movieid", "movietitle"} & {_simple(plain[at]) for at in place.values()}
    words = "genres" in place and atomic and names[place["genres"]].endswith("_seq")
    return Layout(delimiter, len(names), place, bool(films), " " if words else "|", twice)


def _names(header: str, delimiter: str) -> list[str]:
    fields = split_fields(header, delimiter)
    return [name.strip() for name in (header.replace('"', "").split(delimiter) if isinstance(fields, str) else fields)]


def _simple(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _missing(path: Path, header: str, wanted: Mapping[str, str], required: Sequence[str], best: Layout) -> str:
    missing = [name for name in required if name not in best.place]
    there = ", ".join(_names(header[:200], best.delimiter)) or "none"
    option = {"item": "items-item"} if "title" in wanted else {}
    named = " and ".join(f"--{option.get(name, name)}-column" for name in missing)
    return (
        f"{path} has no column {', '.join(wanted[name] for name in missing)}, or two, but {there}; name yours with "
        f"{named}, or what parts the fields with --delimiter"
    )
