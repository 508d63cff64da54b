"""Notebook 01's checks: the stub and plausible wrong answers fail, the printed solution passes."""

from collections import Counter

import numpy as np
import pytest
import torch
from exercise_cells import read_exercises, read_notebook

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.exercises import nb01

CHAPTER, COMPANION = "01_quickstart", "01_quickstart_exercises"


def common(a, b, depth):
    return len(set(a[:depth]) & set(b[:depth]))


WRONG_OVERLAPS = {
    "plain overlap": (lambda a, b, k: common(a, b, k) / k, "overlap at depth k alone"),
    "same places": (lambda a, b, k: sum(x == y for x, y in zip(a[:k], b[:k], strict=True)) / k, "the same place"),
    "always by k": (lambda a, b, k: sum(common(a, b, d) / k for d in range(1, k + 1)) / k, "divides by k"),
    "depth 0 for k": (lambda a, b, k: sum(common(a, b, d) / max(d, 1) for d in range(k)) / k, "expected"),
}


def test_average_overlap(holds):
    def otherwise(a, b, k):
        return float(np.mean([np.isin(a[:d], b[:d]).mean() for d in range(1, k + 1)]))

    holds(CHAPTER, "my_average_overlap", nb01.check_average_overlap, WRONG_OVERLAPS, otherwise)


def in_place(scores, seen, k):
    scores[seen] = -torch.inf
    return scores.argsort(descending=True)[:k].tolist()


WRONG_LISTS = {
    "zero for seen": (
        lambda s, seen, k: (s * (1 - torch.eye(len(s))[seen].sum(0))).argsort(descending=True)[:k], "has been seen",
    ),
    "not masked": (lambda s, seen, k: s.argsort(descending=True)[:k], "has been seen"),
    "worst first": (lambda s, seen, k: [i for i in s.argsort().tolist() if i not in seen][:k], "the worst films"),
    "in place": (in_place, "work on a copy"),
    "too few": (lambda s, seen, k: s.index_fill(0, torch.tensor(seen).long(), -torch.inf).argmax()[None], "asked for"),
}  # fmt: skip


def test_top_k(holds):
    def otherwise(scores, seen, k):
        return sorted(set(range(len(scores))) - set(seen), key=lambda i: -scores[i])[:k]

    holds(CHAPTER, "my_top_k", nb01.check_top_k, WRONG_LISTS, otherwise)


def cosine(state, items):
    return torch.cosine_similarity(items, state[None])


WRONG_SCORES = {
    "inner product": (lambda s, i, t: i @ s / t, "inner product"),
    "the state's length": (lambda s, i, t: i @ s / i.norm(dim=1) / t, "the state has a length too"),
    "the items' lengths": (lambda s, i, t: i @ s / s.norm() / t, "the items have lengths too"),
    "times": (lambda s, i, t: cosine(s, i) * t, "don't multiply"),
    "no temperature": (lambda s, i, t: cosine(s, i), "the temperature is missing"),
    "softmax": (lambda s, i, t: (cosine(s, i) / t).softmax(0), "a softmax"),
    "one number": (lambda s, i, t: cosine(s, i)[0], "need"),
}


def test_scores(holds):
    holds(COMPANION, "my_scores", nb01.check_scores, WRONG_SCORES, lambda s, i, t: cosine(s, i) / t)


WRONG_CHANCES = {
    "nothing masked": (lambda k, n, a, b: k / n, "what has been seen is on neither list"),
    "one's own alone": (lambda k, n, a, b: k / (n - len(a)), "one of the two"),
    "a number": (lambda k, n, a, b: (n - len({*a, *b})) * k * k / ((n - len(a)) * (n - len(b))), "not the share"),
    "twice": (lambda k, n, a, b: (n - len(a) - len(b)) * k / ((n - len(a)) * (n - len(b))), "counted once"),
    "one catalogue": (lambda k, n, a, b: k / (n - len({*a, *b})), "draw from different films"),
}


def test_chance_overlap(holds):
    def otherwise(k, n, a, b):
        return sum(k / (n - len(a)) * k / (n - len(b)) for i in range(n) if i not in a and i not in b) / k

    holds(COMPANION, "my_chance_overlap", nb01.check_chance_overlap, WRONG_CHANCES, otherwise)


def test_the_chance_is_what_draws_give(exercises_of):
    k, n, seen = 5, 14, ([0, 1, 2], [2, 3])
    rng = np.random.default_rng(0)
    drawn = [[rng.choice(np.setdiff1d(np.arange(n), part), k, replace=False) for part in seen] for _ in range(4000)]
    mean = np.mean([len(np.intersect1d(a, b)) / k for a, b in drawn])
    assert exercises_of(COMPANION).solutions["my_chance_overlap"](k, n, *seen) == pytest.approx(mean, abs=0.01)


def share(named, held):
    return len(named & held) / len(named)


def gaps(named, held, strangers):
    return [share(w, held[i]) - np.mean([share(w, held[j]) for j in strangers(i)]) for i, w in enumerate(named) if w]


def pooled(named, held):
    def total(pairs):
        return sum(len(named[i] & held[j]) for i, j in pairs) / sum(len(named[i]) for i, _ in pairs)

    n = len(named)
    return total([(i, i) for i in range(n)]) - total([(i, j) for i in range(n) for j in range(n) if i != j])


def others(held):
    return lambda i: [j for j in range(len(held)) if j != i]


WRONG_LIFTS = {
    "own alone": (lambda w, h: np.mean([share(a, b) for a, b in zip(w, h, strict=True) if a]), "own share alone"),
    "oneself among them": (lambda w, h: np.mean(gaps(w, h, lambda i: range(len(h)))), "no stranger's"),
    "nothing named is 0": (lambda w, h: sum(gaps(w, h, others(h))) / len(w), "leave it out"),
    "the next": (lambda w, h: np.mean(gaps(w, h, lambda i: [(i + 1) % len(h)])), "the next person only"),
    "pooled": (pooled, "pools all words"),
}


def test_lift(holds):
    holds(COMPANION, "my_lift", nb01.check_lift, WRONG_LIFTS, lambda w, h: float(np.mean(gaps(w, h, others(h)))))


WRONG_PREDICTIONS = {
    "a film's share": ((0.42, 0.0, "b"), "a history has several films"),
    "everybody": ((1.0, 0.0, "b"), "Not everybody's last films"),
    "a lift": ((0.8, 0.5, "a"), "the same for everybody"),
    "below": ((0.8, -0.4, "c"), "why should strangers"),
    "true": ((0.8, 0.0, "a"), "makes no gap"),
    "no letter": ((0.8, 0.0, "because"), "one letter"),
    "two": ((0.8, 0.0), "three things"),
}


def test_everybody(holds):
    holds(COMPANION, "my_prediction", nb01.check_everybody, WRONG_PREDICTIONS, [(0.75, 0.01, "B ")])


def rules(profile):
    """Own and strangers' share of three rules on the people of the companion, as its sample answer measures them."""
    dataset = prepare_profile(load_profile(profile))
    films = list(dataset["items"])
    people = list({e["user_id"]: e for e in dataset["test"]}.values())
    seen = [Counter(g for i in e["history"] for g in films[i]["genres"]) for e in people]
    fame = Counter(g for film in films for g in film["genres"])
    held = [set(genres) for genres in seen]
    named = {
        "everybody": [{g for g, _ in fame.most_common(2)}] * len(people),
        "frequent": [{g for g, _ in genres.most_common(2)} for genres in seen],
        "rare": [{min(genres, key=lambda g: fame[g])} for genres in held],
    }
    lifts = {rule: np.mean(gaps(words, held, others(held))) for rule, words in named.items()}
    own = {r: np.mean([share(w, h) for w, h in zip(words, held, strict=True)]) for r, words in named.items()}
    return len(people), {rule: (own[rule], own[rule] - lifts[rule]) for rule in named}


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_what_the_same_sentence_for_everybody_reaches_is_what_the_check_takes_for_right(profile):
    _, found = rules(profile)
    own, strangers = found["everybody"]
    assert nb01.EVERYBODY[0] < own < nb01.EVERYBODY[1]
    assert own == pytest.approx(strangers)


def test_the_sample_answers_numbers():
    text = read_exercises(read_notebook(COMPANION))[-1].folded["A sample answer"]
    people, found = rules("cpu")
    assert f"the {people} test users" in text
    for own, strangers in found.values():
        shown = [f"{value:.2f}".removeprefix("0") for value in (own, strangers, own - strangers)]
        assert f"| {' | '.join(shown)} |" in text
