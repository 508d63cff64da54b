"""Counting faults: what is kept, what is said, and when it is too much."""

from pathlib import Path

import pytest

from rrec_lib.data.faults import MAX_SHOWN, RULES, Faults, fault_lines, rules_table

FILE = Path("somewhere/a.csv.gz")


def test_counts_and_the_first_few():
    faults = Faults()
    for line in range(10):
        faults.add("bad_id", FILE, line + 2, "x" * 200)
    faults.add("duplicate_event", FILE, None, count=7)
    report = faults.as_dict()["a.csv.gz"]
    assert report["bad_id"]["count"] == 10
    assert [entry["line"] for entry in report["bad_id"]["first"]] == list(range(2, 2 + MAX_SHOWN))
    assert len(report["bad_id"]["first"][0]["found"]) == 80
    assert report["duplicate_event"] == {"count": 7, "treatment": "counted", "first": []}
    assert fault_lines(faults.as_dict()) == [
        "a.csv.gz: bad_id 10 (dropped), first on line 2",
        "a.csv.gz: duplicate_event 7 (counted)",
    ]


def test_the_limit_is_a_share_of_dropped_malformed_records():
    faults = Faults(0.1)
    faults.add("bad_id", FILE, 3)
    for kind in ("duplicate_event", "html_title", "item_twice"):
        faults.add(kind, FILE, None, count=100)
    faults.check(FILE, 10)
    with pytest.raises(
        ValueError, match=r"1 of 9 records are malformed, more than the share of 0.1.*bad_id 1 \(first on line 3"
    ):
        faults.check(FILE, 9)
    faults.check(Path("another.gz"), 0)


def test_an_unknown_kind_and_a_wrong_limit_are_refused():
    with pytest.raises(KeyError):
        Faults().add("oops", FILE, 1)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        Faults(1.5)


def test_the_table_has_a_row_per_kind():
    lines = rules_table().splitlines()
    assert len(lines) == len(RULES) + 2
    assert all(line.count("|") == 4 for line in lines)
