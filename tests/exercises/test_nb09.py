"""Notebook 09's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import re
from pathlib import Path

import exercise_cells
import numpy as np
import pytest
import torch

from rrec_lib.evaluation.compare import compare
from rrec_lib.evaluation.metrics import hit_rate_at_k
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.exercises import nb09
from rrec_lib.lab import make_world

EXERCISES = {"my_tallies": nb09.check_tallies, "my_clip_knobs": nb09.check_clip_knobs}
COMPANION = "09_ablations_exercises"
RESULTS = Path(__file__).parents[2] / "results" / "lab"


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("09_ablations")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb09.{EXERCISES[name].__name__}({name});"


@pytest.mark.parametrize("seed", ["1", "20240229"])
def test_solutions_pass_with_hidden_seeds(seed, exercises_of, verdict, monkeypatch):
    monkeypatch.setenv("RREC_CHECK_SEED", seed)
    for stem in ("09_ablations", COMPANION):
        book = exercises_of(stem)
        for name, check in book.checks.items():
            if name not in ("my_clip_knobs", "my_memory"):  # these draw nothing
                found = verdict(getattr(nb09, re.findall(r"check_\w+", check)[0]), book.solutions[name])
                assert found.startswith("✓")


def test_what_the_dial_leaves_open(holds):
    wrong = {
        "no luck": (lambda p: (1, p), "a guess still hits"),
        "luck for all": (lambda p: (1, p + 1 / 64), "only sum users"),
        "the other way round": (lambda p: (1, 1 - p + p / 64), "not of sum users"),
        "worth left out": (lambda p: (1 - p, p + (1 - p) / 64), "always right"),
        "one figure": (lambda p: (1,), "two figures"),
    }
    holds(COMPANION, "my_ceilings", nb09.check_ceilings, wrong, lambda p: [1, 1 - (1 - p) * 63 / 64])


def test_the_ceiling_is_what_counts_of_pairs_reach():
    world, pairs = make_world(0, 20_000, 1, 4000, habits=0.5), torch.zeros(64, 64)
    pairs.index_put_((world.train.histories[:, -1], world.train.targets), torch.ones(()), accumulate=True)
    hit = hit_rate_at_k(pairs[world.test.histories[:, -1]], world.test.targets, 1).mean().item()
    assert hit == pytest.approx(0.5 + 0.5 / 64, abs=0.03)


def test_remembering_instead_of_adding(holds):
    wrong = {
        "more is better": ((1 / 64, 0.33, 0.6, "b"), "no history of four"),
        "three are always known": ((1 / 64, 1, 1 / 64, "b"), "262,144"),
        "two help": ((0.3, 0.33, 1 / 64, "b"), "the third item decides"),
        "noise": ((1 / 64, 0.33, 1 / 64, "a"), "no noise"),
        "order": ((1 / 64, 0.33, 1 / 64, "c"), "order is kept"),
        "luck": ((1 / 64, 0.33, 1 / 64, "d"), "any table"),
        "no letter": ((1 / 64, 0.33, 1 / 64, ""), "one letter from a to d"),
        "too few": ((1 / 64, 0.33, "b"), "four things"),
    }
    holds(COMPANION, "my_memory", nb09.check_memory, wrong, [[0.02, 0.38, 0.0, "B"]])


def interval_of(mean_of, low=0.025):
    def answer(values, samples, rng):
        return np.quantile([mean_of(values, *values.shape, rng) for _ in range(samples)], [low, 1 - low])

    return answer


def test_runs_and_users(holds):
    def both(v, runs, users, rng):
        return v[np.ix_(rng.integers(0, runs, runs), rng.integers(0, users, users))].mean()

    def apart(v, runs, users, rng):
        return np.mean([v[run][rng.integers(0, users, users)].mean() for run in rng.integers(0, runs, runs)])

    def wald(values, samples, rng):
        half = 1.96 * values.std() / values.size**0.5
        return values.mean() - half, values.mean() + half

    wrong = {
        "users": (interval_of(lambda v, runs, users, rng: v[:, rng.integers(0, users, users)].mean()), "users alone"),
        "runs": (interval_of(lambda v, runs, users, rng: v[rng.integers(0, runs, runs)].mean()), "runs alone"),
        "single values": (
            interval_of(lambda v, runs, users, rng: rng.choice(v.ravel(), v.size).mean()),
            "hang together",
        ),
        "a formula for single values": (wald, "hang together"),
        "users drawn for each run": (interval_of(apart), "once for all runs"),
        "90 %": (interval_of(both, 0.05), "2.5 and 97.5"),
        "of one run": (lambda v, samples, rng: interval_of(both)(v[:1], samples, rng), "isn't in"),
    }
    holds(COMPANION, "my_interval", nb09.check_interval, wrong, interval_of(both))


def test_the_sample_answer_finds_what_it_says(capsys):
    exercises = {one.id: one for one in exercise_cells.read_exercises(exercise_cells.read_notebook(COMPANION))}
    code = exercises["09.7"].folded["A sample answer"].split("```python\n")[1].split("```")[0]
    runs = [{report.name: report for report in load_reports(RESULTS / f"seed-{seed}.json")} for seed in range(5)]
    exec(code, {"runs": runs, "compare": compare})
    found = re.findall(r"(.*): one run each: (.*);\n  (.*)", capsys.readouterr().out)
    said = {line: (set(single.split(", ")), five) for line, single, five in found}
    for line in ("temperature 0.7", "G = 8"):
        assert {"better", "worse"} <= said[line][0]
        assert said[line][1].startswith("no difference can be shown")
    for line in ("mean state", "every reasoning trains the item"):
        assert said[line][0] == {"worse"}


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


def test_wrong_verdicts_on_published_rows(holds):
    wrong = {
        "above Hit alone": (above_hit, "can't fall"),
        "no least": (between(least=False), "at least 1/log2(6)"),
        "no most": (between(most=False), "an NDCG"),
        "the first step left out": (between(first_too=False), "above the Hit"),
        "the last step left out": (between(last=2), "at most 1/log2(12)"),
        "no room for rounding": (between(slack=0), "rounded"),
        "too much room": (between(slack=5), "at least 1/log2(21)"),
        "all refused": (lambda row: True, "every hit may stand at rank 1"),
        "one row known by heart": (lambda row: row[0] == 400 and row[1] != 400, "made up"),
        "a little too much room": (between(slack=4), "earn"),
    }
    holds(COMPANION, "my_impossible", nb09.check_impossible, wrong, between())
