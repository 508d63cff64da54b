"""Event logs small enough to work out by hand."""

import pandas as pd
import pytest

COLUMNS = ["user_id", "item_id", "rating", "timestamp"]


def make_log(rows: list[tuple[int, int, float, int]]) -> pd.DataFrame:
    """An event log from (user, item, rating, time)."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"user_id": "int64", "item_id": "int64", "rating": "float64", "timestamp": "int64"})


def make_items(events: pd.DataFrame) -> pd.DataFrame:
    """A row for every item of a log."""
    numbers = sorted(set(events["item_id"]))
    return pd.DataFrame(
        {
            "item_id": numbers,
            "title": [f"Film {number}" for number in numbers],
            "year": pd.array([1990 + number % 30 for number in numbers], dtype="Int64"),
            "genres": [["Drama"] for _ in numbers],
        }
    )


@pytest.fixture
def small_log() -> pd.DataFrame:
    """Two users; user 1 rates films 11 and 12 in the same second, and dislikes 13."""
    return make_log(
        [
            (1, 10, 5.0, 100),
            (1, 11, 4.0, 200),
            (1, 12, 4.0, 200),
            (1, 13, 1.0, 300),
            (1, 14, 4.5, 400),
            (2, 12, 3.0, 150),
            (2, 10, 4.0, 250),
        ]
    )


@pytest.fixture
def steady_log() -> pd.DataFrame:
    """Ten users, ten films, one rating a second in turn; every film liked."""
    return make_log(
        [(user, (user + step) % 10, 4.0, 1000 + 10 * step + user) for step in range(10) for user in range(10)]
    )


@pytest.fixture
def log():
    """The function that builds an event log from rows."""
    return make_log


@pytest.fixture
def item_table():
    """The function that builds a log's item table."""
    return make_items
