"""Notebook 09's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import numpy as np
import pytest

from rrec_lib.exercises import nb09

EXERCISES = {
    "my_tallies": nb09.check_tallies,
    "my_clip_knobs": nb09.check_clip_knobs,
    "my_impossible": nb09.check_impossible,
}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("09_ablations")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb09.{EXERCISES[name].__name__}({name});"


def running(numbers, start=0):
    sums = []
    for number in numbers:
        start = (start + number) % 8
        sums.append(start)
    return sums


def interleaved(history, classes, slots):
    pairs = zip(running([classes[i] for i in history]), running([slots[i] for i in history]), strict=True)
    return [number for pair in pairs for number in pair]


def without_modulo(history, classes, slots):
    return [sum(kind[i] for i in history[: n + 1]) for kind in (classes, slots) for n in range(4)]


def not_running(history, classes, slots):
    return [kind[i] for kind in (classes, slots) for i in history]


def slots_first(history, classes, slots):
    return running([slots[i] for i in history]) + running([classes[i] for i in history])


def totals(history, classes, slots):
    return [sum(classes[i] for i in history) % 8, sum(slots[i] for i in history) % 8]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [(interleaved, "come first"), (without_modulo, "modulo 8"), (not_running, "expected"), (slots_first, "expected"),
     (totals, "make 8 numbers")],
)  # fmt: skip
def test_wrong_tallies(answer, hint, verdict):
    said = verdict(nb09.check_tallies, answer)
    assert said.startswith("✗")
    assert hint in said


@pytest.mark.parametrize(
    ("knobs", "hint"),
    [({"clip_eps": 0.01}, "still 1"), ({"learning_rate": 0.05}, "still 1"), ({"group_size": 8}, "still 1"),
     ({"steps": 10_000}, "knobs of RecPO only"), ({"updates_per_batch": 10**6}, "takes long"),
     ({"estimator": "ppo"}, "raised ValueError")],
)  # fmt: skip
def test_wrong_clip_knobs(knobs, hint, verdict):
    said = verdict(nb09.check_clip_knobs, lambda: knobs)
    assert said.startswith("✗")
    assert hint in said


def between(first_too=True, least=True, most=True, last=3, slack=1.0):
    """A reader's answer with a part left out."""

    def answer(row):
        k0 = hit0 = ndcg0 = 0
        for step, (k, hit, ndcg) in enumerate(zip((5, 10, 20), row[::2], row[1::2], strict=True)):
            new, earned = hit - hit0, ndcg - ndcg0
            low, high = new / np.log2(1 + k), new / np.log2(2 + k0)
            outside = (least and earned < low - slack) or (most and earned > high + slack)
            if new < 0 or ((step or first_too) and step < last and outside):
                return True
            k0, hit0, ndcg0 = k, hit, ndcg
        return False

    return answer


def above_hit(row):
    return any(ndcg > hit for hit, ndcg in zip(row[::2], row[1::2], strict=True))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [(above_hit, "can't fall"), (between(least=False), "at least 1/log2(6)"),
     (between(most=False), "an NDCG"),
     (between(first_too=False), "above the Hit"), (between(last=2), "at most 1/log2(12)"),
     (between(slack=0), "rounded"), (between(slack=5), "at least 1/log2(21)"),
     (lambda row: True, "every hit may stand at rank 1"),
     (lambda row: row[0] == 400 and row[1] != 400, "Table 1, Instruments, Caser"),
     (between(slack=4), "Table 2, Instruments, without reasoning")],
)  # fmt: skip
def test_wrong_verdicts_on_published_rows(answer, hint, verdict):
    said = verdict(nb09.check_impossible, answer)
    assert said.startswith("✗")
    assert hint in said
