"""The events of a CSV file: who had which item when, and how it was rated."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from rrec_lib.data.csv.columns import CsvSource, Layout, plain_id, read_layout, whole_number
from rrec_lib.data.csv.lines import Shape, open_lines, records
from rrec_lib.data.encodings import BAD
from rrec_lib.data.event_log import EventLog
from rrec_lib.data.events import copies
from rrec_lib.data.faults import MAX_SHOWN, Faults
from rrec_lib.data.records import read_number
from rrec_lib.data.times import FORMS, SECOND, UNITS, common_unit, read_time

COLUMNS = ("user", "item", "rating", "time")
_CODES = (*UNITS, "iso")


@dataclass
class _Table:
    """Events as they come, and what was wrong with the others."""

    line: list[int] = field(default_factory=list)
    user: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)  # -1: not in the item table
    rating: list[float] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    unit: list[int] = field(default_factory=list)  # place in _CODES
    users: dict[str, int] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)  # ids that the item table lacks
    bad_times: list[tuple[int, str]] = field(default_factory=list)
    off_scale: list[float] = field(default_factory=list)

    def arrays(self) -> list[np.ndarray]:
        """Line, user, item, rating, time and unit."""
        columns = (self.line, self.user, self.item, self.rating, self.time, self.unit)
        return [np.array(column, dtype=np.float64 if column is self.rating else np.int64) for column in columns]


def read_csv_events(
    source: CsvSource, item_rows: dict[str, int], faults: Faults
) -> tuple[EventLog, str, dict[str, int]]:
    """Read the log.

    Args:
        source: the files.
        item_rows: each item's row in the item table, by :meth:`CsvSource.key`.
        faults: where malformed rows are counted.

    Returns:
        The events of known items, times in nanoseconds; the unit of time; and how many were left out, by reason.

    Raises:
        FileNotFoundError, ValueError: if the file can't be read, a column is missing, too many rows are malformed, or
            no event names a known item.
    """
    path, table, lines = source.events, _Table(), open_lines(source.events, source.encoding)
    with lines.text:
        wanted = {name: getattr(source.columns, name) for name in COLUMNS}
        layout = read_layout(lines, wanted, COLUMNS, source.delimiter)
        places = [layout.place[name] for name in COLUMNS]
        for line, record in records(lines, layout.delimiter, _shape(layout, places), faults):
            _add(table, line, [record[place] for place in places], source, item_rows, faults)
    columns = table.arrays()
    units = Counter({name: int((columns[5] == code).sum()) for code, name in enumerate(_CODES)})
    unit = common_unit(units) if source.time_unit == "auto" else source.time_unit
    other = np.flatnonzero(columns[5] != _CODES.index(unit))
    odd = [(table.line[at], f"{_CODES[table.unit[at]]}, not {unit}") for at in other.tolist()]
    for line, found in sorted(table.bad_times + odd):
        faults.add("bad_time", path, line, found)
    faults.check(path, lines.records, _remedies(table, units, source))
    where, user, item, rating, time, _ = (np.delete(column, other) for column in columns)
    if not len(where):
        what = "has no usable event" if lines.records else "has a header and no event below it"
        raise ValueError(f"{path} {what}; export it again, or name another file with --events")
    _check_ids(table, len(where), item_rows, source, faults.limit)
    known = np.flatnonzero(item >= 0)
    again = known[copies(user[known], item[known], time[known])]
    left_out = {"review_without_item": np.flatnonzero(item < 0), "duplicate_event": again}
    for kind, lost in left_out.items():
        for at in where[lost[:MAX_SHOWN]].tolist():
            faults.add(kind, path, at)
        faults.add(kind, path, None, count=max(0, len(lost) - MAX_SHOWN))
    kept = np.setdiff1d(known, again)
    log = EventLog(user[kept], item[kept], rating[kept], time[kept], SECOND, pa.array(list(table.users), pa.string()))
    return log, unit, {kind: len(lost) for kind, lost in left_out.items()}


def _add(
    table: _Table, line: int, fields: list[str], source: CsvSource, item_rows: dict[str, int], faults: Faults
) -> None:
    user, item = fields[0].strip(), fields[1].strip()
    if not (plain_id(user) and plain_id(item)):
        kind = "invalid_utf8_id" if BAD.search(user + item) else "bad_id"
        faults.add(kind, source.events, line, ascii(f"{user}, {item}"))
        return
    rating = _rating(fields[2])
    if rating is None or not 0 <= rating <= source.best_rating:
        faults.add("bad_rating", source.events, line, ascii(fields[2]))
        table.off_scale += [] if rating is None else [rating]
        return
    moment = read_time(fields[3])
    if moment is None:
        table.bad_times.append((line, ascii(fields[3])))
        return
    row = item_rows.get(source.key(item), -1)
    if row < 0:
        table.unknown[item] += 1
    table.line.append(line)
    table.user.append(table.users.setdefault(source.key(user), len(table.users)))
    table.item.append(row)
    table.rating.append(rating * 5 / source.best_rating)
    table.time.append(moment[1])
    table.unit.append(_CODES.index(moment[0]))


def _rating(text: str) -> float | None:
    value = read_number(text)
    return value if value is not None and math.isfinite(value) else None


def _shape(layout: Layout, places: list[int]) -> Shape:
    def whole(fields: list[str]) -> bool:
        user, item, rating, time = (fields[place].strip() for place in places)
        return plain_id(user) and plain_id(item) and _rating(rating) is not None and read_time(time) is not None

    return Shape(layout.columns, set(range(layout.columns)) - set(places), whole)


def _remedies(table: _Table, units: Counter[str], source: CsvSource) -> dict[str, str]:
    found = {"bad_time": FORMS}
    if source.time_unit != "auto" and units[source.time_unit] < max(units.values()):
        found["bad_time"] = f"most times look like {common_unit(units)}: leave out --time-unit {source.time_unit}"
    if table.off_scale and min(table.off_scale) < 0:
        found["bad_rating"] = f"ratings from {min(table.off_scale):g} on: bring them to a scale that begins at 0"
    elif table.off_scale:
        top = max(table.off_scale)
        found["bad_rating"] = f"ratings go up to {top:g}: if that is the best, add --best-rating {top:g}"
    else:
        found["bad_rating"] = f"ratings are numbers from 0 to {source.best_rating:g}"
    return found


def _check_ids(table: _Table, events: int, item_rows: dict[str, int], source: CsvSource, limit: float) -> None:
    """Stop if ids stand there in two spellings, or the events' items aren't those of the items."""
    twins = [] if source.integer_ids else [u for u in table.users if u != whole_number(u) in table.users]
    if len(twins) > limit * len(table.users):
        raise ValueError(
            f"{len(twins):,} of {len(table.users):,} users in {source.events} are there in two spellings, such as "
            f"{twins[0]!r} and {whole_number(twins[0])!r}: a program took ids for numbers; add --integer-ids to read "
            "them as one"
        )
    unknown = sum(table.unknown.values())
    if not unknown:
        return
    spelt = {whole_number(item) for item in item_rows}
    alike = {item: count for item, count in table.unknown.items() if whole_number(item) in spelt}
    if alike and sum(alike.values()) > limit * events:
        item = next(iter(alike))
        theirs = next(there for there in item_rows if whole_number(there) == whole_number(item))
        raise ValueError(
            f"{sum(alike.values()):,} of {events:,} events in {source.events} name an item as {item!r} that "
            f"{source.items} calls {theirs!r}: a program took ids for numbers (pandas writes 1 as 1.0 where a column "
            "has gaps, and loses leading zeros); add --integer-ids to read them as whole numbers"
        )
    if unknown >= events:
        ours, theirs = next(iter(table.unknown)), next(iter(item_rows))
        raise ValueError(
            f"no event in {source.events} names an item of {source.items}: the ids are such as {ours!r} there and "
            f"{theirs!r} here; give two files of one set, and the columns of ids with --item-column and "
            "--items-item-column"
        )
