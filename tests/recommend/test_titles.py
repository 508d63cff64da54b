"""Titles as people write them."""

import pytest

from rrec_lib.recommend.titles import complete, find_items, name_keys

ITEMS = [
    {"title": "Alien", "year": 1979},
    {"title": "Solaris", "year": 1972},
    {"title": "Solaris", "year": 2002},
    {"title": "Aliens", "year": 1986},
    {"title": "Amélie", "year": 2001},
    {"title": "Seven (a.k.a. Se7en)", "year": 1995},
    {"title": "The Terminator", "year": 1984},
    {"title": "L'Avventura", "year": 1960},
    {"title": "Love, Actually", "year": 2003},
]


def test_titles_are_found_whatever_their_case_accents_and_aliases():
    assert find_items(["alien  (1979)", "ALIENS", "Solaris (2002)"], ITEMS) == [0, 3, 2]
    assert find_items(["amelie", "Seven (1995)", "Se7en", "Seven (a.k.a. Se7en) (1995)"], ITEMS) == [4, 5, 5, 5]
    assert find_items(["Terminator, The (1984)", "terminator, the", "TERMINATOR, THE (1984)"], ITEMS) == [6, 6, 6]
    assert find_items(["Avventura, L' (1960)", "the terminator", "love, actually"], ITEMS) == [7, 6, 8]
    assert find_items(["avventura, l\u2019", "L\u2019Avventura"], ITEMS) == [7, 7]  # an editor's
    with pytest.raises(ValueError, match=r"'Solaris' could be Solaris \(1972\); Solaris \(2002\): add the year"):
        find_items(["Solaris"], ITEMS)
    with pytest.raises(ValueError, match=r"did you mean Aliens \(1986\)"):
        find_items(["Alienss"], ITEMS)
    for hopeless in ("zzzzzz", " "):
        with pytest.raises(ValueError, match="no title is near it"):
            find_items([hopeless], ITEMS)


def test_a_field_completes_what_is_typed():
    keys = name_keys(ITEMS)
    assert complete("alien", keys) == [0, 3]
    assert complete("amél", keys) == complete("AMEL", keys) == [4]
    assert complete("a", keys, 3) == [0, 3, 4]  # what begins with it
    assert complete("ter", keys) == [6]
    assert complete("2002 solaris", keys) == [2]
    assert complete("actually", keys)[0] == 8
    assert complete("zz", keys) == []
    assert complete(" ", keys, 2) == [0, 1]
