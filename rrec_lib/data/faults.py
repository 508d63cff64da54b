"""Faults of raw records: in, a kind with its file and line; out, counts, the first lines, and an error if too many.

``RULES`` lists every kind and what becomes of its record. A *dropped* record is not used; a *repaired* one is used
with the fault taken out; a *counted* one is used as it is, or left out because nothing could be done with it. None of
these stops the preparation unless the dropped records of a file are more than a set share of it. What does stop it at
once is a file that is missing, empty or in another encoding, an archive that is no gzip from its first byte, a header
that lacks a column, two files that don't belong together, and a log of which the window and the filters leave nothing.

At Amazon a line is a record. In other CSV files a quoted text may hold line breaks; a quotation that never closes, or
takes in a line that is a record of its own, costs the record it begins in and no other. What stood in a damaged archive
before the break is used, but for the line that the break cuts.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_FAULTS = 0.01  # of a file's records
MAX_SHOWN = 5  # of each kind that are kept with their line
MAX_ID = 64  # characters; Amazon's have 28 and 10


@dataclass(frozen=True)
class Rule:
    """What becomes of a record with a fault: ``"dropped"``, ``"repaired"`` or ``"counted"``; and what the fault is."""

    treatment: str
    meaning: str


RULES = {
    "damaged_archive": Rule("counted", "the archive breaks off or is damaged; what stands before the break is used"),
    "wrong_columns": Rule("dropped", "a CSV row with missing or extra columns, or an open quotation mark"),
    "bad_json": Rule("dropped", "a line that is not JSON"),
    "not_an_object": Rule("dropped", "a line whose JSON is not an object"),
    "bad_id": Rule(
        "dropped",
        f"an id that is empty, no text, over {MAX_ID} characters, or has a control character or, in CSV "
        "files of your own, a quotation mark",
    ),
    "bad_rating": Rule("dropped", "a rating that is no number or lies outside the scale, 1 to 5 at Amazon"),
    "bad_time": Rule("dropped", "a time that can't be read, or lies before 1995 or after 2099"),
    "invalid_utf8_id": Rule("dropped", "an id with bytes that don't belong to the file's encoding"),
    "invalid_utf8_text": Rule(
        "repaired", "a text with bytes that don't belong to the file's encoding: each becomes a space"
    ),
    "item_twice": Rule("dropped", "a later description of an item; the first is used (official: both are stored)"),
    "empty_title": Rule("repaired", "an item without a title: it is called Untitled, with its id (official: dropped)"),
    "html_title": Rule("repaired", "a title with HTML: entities become signs, tags spaces"),
    "html_text": Rule("repaired", "a description or genre with HTML, likewise (official: cleaned, not counted)"),
    "control_characters": Rule("repaired", "a text with control characters: each becomes a space"),
    "bad_year": Rule("repaired", "a year that is there but can't be read: the item has none"),
    "bad_price": Rule("counted", "a price that is there but is no number; it is not used (official: item dropped)"),
    "duplicate_event": Rule("counted", "the same user, item and time again: dropped, the first stays (official: kept)"),
    "review_without_item": Rule("counted", "a review of an item that has no description: left out"),
    "item_without_review": Rule("counted", "an item that nobody reviewed: left out"),
}
WELL_FORMED = {"item_twice"}  # dropped, but well-formed: they don't count towards the share


@dataclass
class Faults:
    """Faults of one preparation.

    ``limit`` is the share of a file's records that may be dropped; ``names`` are what reports call files whose own
    names don't tell them apart.
    """

    limit: float = MAX_FAULTS
    names: Mapping[Path, str] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    first: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise ValueError(f"the share of faults allowed is {self.limit}, expected 0 to 1")

    def add(self, kind: str, path: Path, line: int | None, detail: object = "", count: int = 1) -> None:
        """Count a fault.

        Args:
            kind: a name in ``RULES``.
            path: the file; its name alone is kept, so that reports are the same wherever it lies.
            line: its line, from 1, or None where a line says nothing.
            detail: a word on what was found; shortened.
            count: how many there were, if more than the one described.
        """
        if kind not in RULES:
            raise KeyError(kind)
        if not count:
            return
        name = self.name(path)
        self.counts.setdefault(name, Counter())[kind] += count
        kept = self.first.setdefault(name, {}).setdefault(kind, [])
        if line is not None and len(kept) < MAX_SHOWN:
            text = detail if isinstance(detail, str) else ascii(detail)
            kept.append({"line": line, "found": text if len(text) <= 80 else text[:77] + "..."})

    def check(self, path: Path, records: int, remedies: Mapping[str, str] | None = None) -> None:
        """Stop if too many records of a file were dropped.

        Args:
            path: the file, read to its end.
            records: its lines that are not blank, without the header.
            remedies: what to do against a kind of fault, where there is more to say than to mend the file.

        Raises:
            ValueError: with the counts, the first lines and what was found there.
        """
        found = self.counts.get(self.name(path), Counter())
        dropped = {k: n for k, n in found.items() if RULES[k].treatment == "dropped" and k not in WELL_FORMED}
        total = sum(dropped.values())
        if total > self.limit * records:
            listed = "; ".join(f"{kind} {n:,} {self._first(path, kind)}" for kind, n in dropped.items())
            known = [text for kind, text in (remedies or {}).items() if kind in dropped]
            usual = "mend the file or fetch it again"
            if total * 2 < records:  # what is wrong with most of a file isn't put right by leaving most of it out
                usual = "mend the file, fetch it again, or allow more with --max-faults"
            raise ValueError(
                f"{path}: {total:,} of {records:,} records are malformed, more than the share of {self.limit:g} that "
                f"is allowed: {listed}; {'; '.join([*known, usual])}"
            )

    def name(self, path: Path) -> str:
        """What reports call a file."""
        return self.names.get(path, path.name)

    def as_dict(self) -> dict[str, Any]:
        """For a manifest: by file and kind, how many, what became of them, and the first ones."""
        return {
            name: {
                kind: {"count": n, "treatment": RULES[kind].treatment, "first": self.first[name][kind]}
                for kind, n in sorted(found.items())
            }
            for name, found in sorted(self.counts.items())
        }

    def _first(self, path: Path, kind: str) -> str:
        kept = self.first[self.name(path)][kind]
        found = f": {kept[0]['found']}" if kept and kept[0]["found"] else ""
        return f"(first on line {kept[0]['line'] if kept else '?'}){found}"


def fault_lines(report: Mapping[str, Any]) -> list[str]:
    """What :meth:`Faults.as_dict` returned, a line per file and kind."""
    lines = []
    for name, kinds in report.items():
        for kind, entry in kinds.items():
            where = f", first on line {entry['first'][0]['line']}" if entry["first"] else ""
            found = f": {entry['first'][0]['found']}" if kind == "damaged_archive" and entry["first"] else ""
            lines.append(f"{name}: {kind} {entry['count']:,} ({entry['treatment']}){where}{found}")
    return lines


def rules_table() -> str:
    """``RULES`` as a Markdown table, for the book."""
    rows = [f"| `{kind}` | {rule.treatment} | {rule.meaning} |" for kind, rule in RULES.items()]
    return "\n".join(["| fault | record is | what it is |", "|---|---|---|", *rows]) + "\n"
