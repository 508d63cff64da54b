"""Notebook 08's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import pytest

from rrec_lib.exercises import nb08

EXERCISES = {"my_tallies": nb08.check_tallies, "my_clip_knobs": nb08.check_clip_knobs}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("08_ablations")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb08.{EXERCISES[name].__name__}({name});"


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
    said = verdict(nb08.check_tallies, answer)
    assert said.startswith("✗")
    assert hint in said


@pytest.mark.parametrize(
    ("knobs", "hint"),
    [({"clip_eps": 0.01}, "still 1"), ({"learning_rate": 0.05}, "still 1"), ({"group_size": 8}, "still 1"),
     ({"steps": 10_000}, "knobs of RecPO only"), ({"updates_per_batch": 10**6}, "takes long"),
     ({"estimator": "ppo"}, "raised ValueError")],
)  # fmt: skip
def test_wrong_clip_knobs(knobs, hint, verdict):
    said = verdict(nb08.check_clip_knobs, lambda: knobs)
    assert said.startswith("✗")
    assert hint in said
