"""Rows of examples small enough for a pencil."""

import pytest

DAY = 86_400


def make_rows(*quadruples):
    """Examples from (user, what was seen, target, day)."""
    return [
        {"user_id": user, "history": seen, "seen": seen, "target": target, "target_timestamp": day * DAY}
        for user, seen, target, day in quadruples
    ]


@pytest.fixture
def rows():
    """The function that builds examples."""
    return make_rows


@pytest.fixture
def train():
    """Three users, five items: 0 is followed by 1 twice, 1 by 2 and by 3, 3 by 1."""
    return make_rows((1, [0], 1, 1), (1, [0, 1], 2, 2), (2, [0], 1, 3), (2, [0, 1], 3, 4), (3, [3], 1, 5))
