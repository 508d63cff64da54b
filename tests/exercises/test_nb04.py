"""Notebook 04's checks: stub and plausible wrong answers fail with a message that fits, right ones pass."""

import re
from typing import Any

import exercise_cells
import pytest
import torch

from rrec_lib.book import three_words
from rrec_lib.exercises import nb04
from rrec_lib.recpo import advantages, losses

CHAPTER, COMPANION = "04_policy_gradients", "04_policy_gradients_exercises"


def eye(logits):
    return torch.eye(len(logits), dtype=torch.float64)


def directions(logits):
    return eye(logits) - logits.softmax(0)


def by_autograd(logits, word):
    return torch.autograd.functional.jacobian(lambda x: x.log_softmax(0)[word], logits)


def test_direction(holds):
    wrong = {
        "sign": (lambda x, w: -directions(x)[w], "*less* likely"),
        "gradient of the chance": (lambda x, w: x.softmax(0)[w] * directions(x)[w], "the chance itself"),
        "no normalisation": (lambda x, w: eye(x)[w], "logarithm of the sum"),
        "no word": (lambda x, w: -x.softmax(0), "1 at the word's own place"),
        "of the chances": (lambda x, w: eye(x)[w] / x.softmax(0)[w], "with respect to the chances"),
        "the value": (lambda x, w: x.log_softmax(0), "not its gradient"),
        "one number": (lambda x, w: directions(x)[w, w], "one number per logit"),
        "for three words only": (lambda x, w: directions(x)[w] if len(x) == 3 else eye(x)[w] - 1 / 3, "expected"),
    }
    holds(CHAPTER, "my_direction", nb04.check_direction, wrong, by_autograd)


def squared(logits):
    return directions(logits).square().sum(1)


def lowest(logits, rewards):
    """By search instead of by formula: a parabola through three points."""
    p = logits.softmax(0)
    low, middle, high = (p @ ((rewards - b) ** 2 * squared(logits)) for b in (-1, 0, 1))
    return ((low - high) / (2 * (low + high - 2 * middle))).item()


def test_best_baseline(holds):
    def mean(weights, rewards):
        return weights @ rewards / weights.sum()

    wrong = {
        "J": (lambda x, r: x.softmax(0) @ r, "expected reward J"),
        "plain mean": (lambda x, r: r.mean(), "plain mean"),
        "no chances": (lambda x, r: mean(squared(x), r), "chances are missing"),
        "not squared": (lambda x, r: mean(x.softmax(0) * squared(x).sqrt(), r), "squared"),
        "not divided": (lambda x, r: (x.softmax(0) * squared(x)) @ r, "divide by their sum"),
        "one per word": (lambda x, r: squared(x) * r, "one number"),
    }
    holds(CHAPTER, "my_best_baseline", nb04.check_best_baseline, wrong, lowest)


def test_objective(holds):
    def ratio(x):
        return (x - x.detach()).exp()

    wrong = {
        "no detach": (lambda x, a: ((x - x).exp() * a).mean(), "detach the old one"),
        "all detached": (lambda x, a: ((x - x).detach().exp() * a).mean(), "only one side"),
        "nothing left": (lambda x, a: a.detach().mean(), "nothing is left"),
        "a loss": (lambda x, a: -(ratio(x) * a).mean(), "sign is turned"),
        "old over new": (lambda x, a: ((x.detach() - x).exp() * a).mean(), "old − new"),
        "a sum": (lambda x, a: (ratio(x) * a).sum(), "take the mean"),
        "without a ratio": (lambda x, a: (x * a.detach()).mean(), "mean advantage"),
        "through the advantages": (lambda x, a: (ratio(x) * a).mean(), "constants"),
        "a float": (lambda x, a: a.mean().item(), "autograd can go back"),
    }

    def otherwise(x, a):
        return (x.exp() / x.exp().detach()) @ a.detach() / len(a)

    holds(COMPANION, "my_objective", nb04.check_objective, wrong, otherwise)


def test_estimate_from_old_words(holds):
    def ratio(old, new, drawn):
        return (new.softmax(0) / old.softmax(0))[drawn]

    wrong = {
        "no ratio": (lambda o, n, d, r: r.mean(), "*old* policy"),
        "upside down": (lambda o, n, d, r: (r / ratio(o, n, d)).mean(), "upside down"),
        "of logits": (lambda o, n, d, r: ((n - o).exp()[d] * r).mean(), "normalisations"),
        "logarithms": (lambda o, n, d, r: (ratio(o, n, d).log() * r).mean(), "take exp"),
        "by the sum of ratios": (lambda o, n, d, r: ratio(o, n, d) @ r / ratio(o, n, d).sum(), "bends"),
        "new chance alone": (lambda o, n, d, r: (n.softmax(0)[d] * r).mean(), "new chance alone"),
        "a sum": (lambda o, n, d, r: (ratio(o, n, d) * r).sum(), "take the mean"),
        "exact, for the old policy": (lambda o, n, d, r: 0.5, "expected"),
    }

    def otherwise(o, n, d, r):
        return sum((ratio(o, n, d) * r).tolist()) / len(r)

    holds(COMPANION, "my_estimate", nb04.check_reused, wrong, otherwise)


def test_prediction(holds):
    wrong = {
        "J": ((0.98, "d"), "near J"),
        "the mean of the rewards": ((0.5, "c"), "next to nothing"),
        "as at the start": ((0.48, "a"), "next to nothing"),
        "the worst reward": ((0.0, "b"), "law isn't the only"),
        "right by luck, for the common word": ((0.4, "a"), "almost no length"),
        "right by luck, as a mean": ((0.4, "c"), "no plain mean"),
        "right by luck, rising": ((0.4, "d"), "b* fell"),
        "no letter": ((0.4, "because"), "one letter"),
        "a number alone": (0.36, "two things"),
    }
    holds(COMPANION, "my_prediction", nb04.check_prediction, wrong, [(0.4, "B"), ["0.33", "b"]])


def test_the_reason_for_the_prediction_holds():
    """What the letter b says: the common word makes next to no noise, and of the rare ones crime counts more."""
    world = three_words.three_words()
    late = three_words.climb(world, nb04.STEPS)[-1]
    noise = late.softmax(0) * squared(late)
    assert noise[0] < 0.05 * noise.sum()
    assert noise[1] > noise[2]


def test_another_seed_gives_other_cases(monkeypatch):
    first = [logits.tolist() for logits, _ in nb04.policies()]
    assert first == [logits.tolist() for logits, _ in nb04.policies()]
    monkeypatch.setenv("RREC_CHECK_SEED", "7")
    other = [logits.tolist() for logits, _ in nb04.policies()]
    assert first[0] == other[0]  # the three words are always among them
    assert first[1:] != other[1:]


@pytest.mark.parametrize("seed", range(1, 6))
def test_solutions_pass_on_hidden_seeds(seed, monkeypatch, exercises_of, verdict):
    monkeypatch.setenv("RREC_CHECK_SEED", str(seed))
    chapter, companion = exercises_of(CHAPTER), exercises_of(COMPANION)
    for check, answer in (
        (nb04.check_direction, chapter.solutions["my_direction"]),
        (nb04.check_best_baseline, chapter.solutions["my_best_baseline"]),
        (nb04.check_objective, companion.solutions["my_objective"]),
        (nb04.check_reused, companion.solutions["my_estimate"]),
    ):
        assert verdict(check, answer).startswith("✓")


def test_the_sample_answers_table_is_what_its_code_gives():
    """The row at which the verdict turns, one seed; the others are as long again."""
    exercises = exercise_cells.read_exercises(exercise_cells.read_notebook(COMPANION))
    (sample,) = (one.folded["A sample answer"] for one in exercises if one.kind == "investigation")
    row = re.search(r"^\| 0\.5 \| (.*) \|$", sample, re.MULTILINE)
    said = [[float(x) for x in re.findall(r"\.\d+", cell)] for cell in row[1].split("|")]  # type: ignore[index]
    tools = next(
        cell for cell in exercise_cells.read_notebook(COMPANION)["cells"] if "def noisy" in exercise_cells.source(cell)
    )
    world = three_words.three_words()
    names: dict[str, Any] = {"torch": torch, "advantages": advantages, "losses": losses, "world": world}
    names["learn"] = three_words.learn
    exec(exercise_cells.source(tools), names)
    found = []
    ways = (("plain", 1, 1), ("plain", 1, 20), ("plain", 20, 1), ("plain", 20, 1 / 20), ("clip", 20, 1))
    for gain, passes, rate in ways:
        noisy = names["noisy"](0.5)
        last = three_words.learn(world, noisy, names[gain], rounds=60, passes=passes, rate=rate)[-1] @ world.rewards
        found.append([last.mean().item(), last.quantile(0.05).item()])
    assert found == [pytest.approx(cell, abs=0.03) for cell in said]
