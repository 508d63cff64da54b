"""The baselines that read: by hand, and BM25 against its formula said slowly."""

from math import log
from typing import Any

import pytest

from rrec_lib.baselines.text import BM25, TextSimilarity

FILMS = [
    {"title": "Night Train Night", "genres": ["Horror"]},
    {"title": "Train", "genres": ["Horror", "Drama"]},
    {"title": "Garden", "genres": ["Drama"]},
    {"title": "Snow", "genres": []},
]
TEXTS = [["night", "train", "night", "horror"], ["train", "horror", "drama"], ["garden", "drama"], ["snow"]]


def test_text_similarity_finds_the_item_of_the_same_kind(rows):
    items = [
        {"title": "Scream", "year": 1996, "genres": ["Horror"]},
        {"title": "Saw", "year": 1999, "genres": ["Horror"]},
        {"title": "Babe", "year": 1985, "genres": ["Children"]},
        {"title": "Untitled", "year": 0, "genres": []},
    ]
    scores = TextSimilarity(items).scores(rows((1, [0], 1, 1)))[0]
    assert scores.argsort(descending=True).tolist()[:2] == [0, 1]
    assert scores[0].item() == pytest.approx(1)
    assert scores[2].item() == pytest.approx(0)
    assert not scores.isnan().any()


def test_text_similarity_reads_any_catalogue(rows):
    items: list[dict[str, Any]] = [
        {"title": "Drum sticks", "description": "hickory wood", "categories": ["Percussion"]},
        {"title": "Snare", "description": "a drum", "categories": ["Percussion"]},
        {"title": "Score", "description": None},
    ]
    scores = TextSimilarity(items, length=1).scores(rows((1, [2, 0], 1, 1)))[0]
    assert scores[0] > scores[1] > scores[2] == 0


def slow_bm25(history, item, k1, b):
    """The sum over the query's words, one after the other."""
    mean_length = sum(map(len, TEXTS)) / len(TEXTS)
    total = 0.0
    for word in (word for place in history for word in TEXTS[place]):
        count, known_in = TEXTS[item].count(word), sum(word in text for text in TEXTS)
        idf = log(1 + (len(TEXTS) - known_in + 0.5) / (known_in + 0.5))
        total += idf * count * (k1 + 1) / (count + k1 * (1 - b + b * len(TEXTS[item]) / mean_length)) if count else 0
    return total


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0, 0.5), (2.0, 0), (0.5, 1)])
def test_bm25_is_its_formula(rows, k1, b):
    asked = rows((1, [0, 3], 1, 1), (2, [1, 2, 2], 1, 1))
    found = BM25(FILMS, k1, b).scores(asked).tolist()
    expected = [[slow_bm25(history, item, k1, b) for item in range(4)] for history in ([0, 3], [1, 2])]
    assert found == [pytest.approx(row, rel=1e-5) for row in expected]  # an item had twice asks once
    assert found[0] != pytest.approx([slow_bm25([0, 3], item, k1 + 1, b) for item in range(4)], rel=1e-3)


def test_bm25_asks_with_the_last_items_and_prefers_the_shorter_of_two_texts(rows):
    asked = rows((1, [3, 0], 1, 1), (1, [0], 1, 1))
    last, alone = BM25(FILMS, length=1).scores(asked)
    assert last.tolist() == alone.tolist()
    assert BM25(FILMS).scores(asked)[0].tolist() != alone.tolist()
    same_word = [{"title": "Train"}, {"title": "Train of thought and more"}, {"title": "Train"}]
    scores = BM25(same_word).scores(rows((1, [0], 1, 1)))[0]
    assert scores[2] > scores[1]
    flat = BM25(same_word, b=0).scores(rows((1, [0], 1, 1)))[0]
    assert flat[2] == flat[1]  # without the length's part they tie
