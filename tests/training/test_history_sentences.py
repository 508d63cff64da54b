"""Sentences of the warm-up: what a history supports, and never the target."""

from rrec_lib.training.history_sentences import history_sentence


def test_history_sentences_come_from_the_history_alone():
    items = [
        {"title": "A", "year": 1994, "genres": ["Crime", "Drama"]},
        {"title": "B", "year": 1997, "genres": ["Crime"]},
        {"title": "C", "year": 1985, "genres": ["Comedy", "Horror", "Musical"]},
        {"title": "D", "year": 2010, "genres": ["Western"]},
    ]
    example = {"history": [0, 1, 2], "history_ratings": [5.0, 4.0, 1.0], "target": 3}
    sentences = [history_sentence(example, items, frame) for frame in range(3)]
    assert len(set(sentences)) == 3
    for sentence in sentences:
        assert "Crime" in sentence
        assert "1990s" in sentence
        assert "Western" not in sentence
        assert "2010" not in sentence
    assert sentences == [history_sentence({**example, "target": 0}, items, frame) for frame in range(3)]
