"""Notebook 10's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import re

import exercise_cells
import pytest
import torch
from torch.nn.functional import logsigmoid

from rrec_lib.baselines import BASELINES
from rrec_lib.baselines.tuning import best_of, recorded_trials
from rrec_lib.core import paths
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.exercises import nb10
from rrec_lib.experiments import reference

CHAPTER, COMPANION = "10_six_ways", "10_six_ways_exercises"


@pytest.mark.parametrize("seed", ["1", "20240229"])
def test_solutions_pass_with_hidden_seeds(seed, exercises_of, verdict, monkeypatch):
    monkeypatch.setenv("RREC_CHECK_SEED", seed)
    for stem in (CHAPTER, COMPANION):
        book = exercises_of(stem)
        for name, check in book.checks.items():
            if name != "my_sharing":  # it draws nothing
                found = verdict(getattr(nb10, re.findall(r"check_\w+", check)[0]), book.solutions[name])
                assert found.startswith("✓")


def behind(titles, prefix):
    return [title for title in titles if title[: len(prefix)] == prefix and len(title) > len(prefix)]


def test_what_may_be_written_next(holds):
    def at_this_place(titles, prefix):
        return sorted({title[len(prefix)] for title in titles if len(title) > len(prefix)})

    def all_that_is_left(titles, prefix):
        return sorted({token for title in behind(titles, prefix) for token in title[len(prefix) :]})

    def twice(titles, prefix):
        return sorted(title[len(prefix)] for title in behind(titles, prefix))

    def no_end(titles, prefix):
        return sorted({title[len(prefix)] for title in behind(titles, prefix)} - {0})

    def too_short(titles, prefix):
        return [title[len(prefix)] for title in titles if title[: len(prefix)] == prefix]

    def otherwise(titles, prefix):
        tokens = []
        for title in titles:
            if list(title[: len(prefix)]) == list(prefix) and title[len(prefix) :]:
                tokens.append(title[len(prefix)])
        return sorted(dict.fromkeys(tokens))

    wrong = {
        "any title's place": (at_this_place, "must begin with what was written"),
        "the rest": (all_that_is_left, "not its next token alone"),
        "twins": (twice, "each token once"),
        "no end": (no_end, "the end is a token, too"),
        "whole titles": (too_short, "raised IndexError"),
    }
    holds(CHAPTER, "my_allowed", nb10.check_allowed, wrong, otherwise)


def test_a_loss_that_does_not_overflow(holds):
    def worse(chosen, rejected, beta):
        return beta * (rejected - chosen[:, None])

    wrong = {
        "exponentials first": (lambda *a: -logsigmoid(-worse(*a).exp().sum(1).log()).mean(), "logsumexp"),
        "a mean": (lambda *a: (1 + worse(*a).exp().mean(1)).log().mean(), "became a mean"),
        "no beta": (lambda c, r, b: (1 + worse(c, r, 1).exp().sum(1)).log().mean(), "β is left out"),
        "swapped": (lambda *a: (1 + (-worse(*a)).exp().sum(1)).log().mean(), "changed places"),
        "DPO": (lambda *a: -logsigmoid(-worse(*a)).mean(), "of each rejected title"),
        "added": (lambda *a: (1 + worse(*a).exp().sum(1)).log().sum(), "take their mean"),
        "a row each": (lambda *a: (1 + worse(*a).exp().sum(1)).log().repeat(2), "one number"),
        "clamped": (lambda *a: (1 + worse(*a).clamp(max=80).exp().sum(1)).log().mean(), "expected 200, got 80"),
    }
    holds(CHAPTER, "my_sdpo", nb10.check_sdpo, wrong, lambda *a: -logsigmoid(-worse(*a).logsumexp(1)).mean())


def test_one_title_three_scores(holds):
    def scores(third, second=None):
        def answer(logprobs, forced):
            free = [p for p, one in zip(logprobs, forced, strict=True) if not one]
            total = sum(logprobs)
            return total, second(total, free) if second else total / len(logprobs), third(total, free)

        return answer

    wrong = {
        "a mean of the free": (scores(lambda total, free: sum(free) / len(free)), "isn't divided"),
        "the forced ones": (scores(lambda total, free: total - sum(free)), "not* forced"),
        "free ones as the length": (scores(lambda t, free: sum(free), lambda t, free: t / len(free)), "all of a title"),
        "two scores": (lambda logprobs, forced: (1.0, 2.0), "three scores"),
    }

    def otherwise(logprobs, forced):
        p, f = torch.tensor(logprobs, dtype=torch.float64), torch.tensor(forced)
        return p.sum(), p.mean(), p[~f].sum()

    holds(COMPANION, "my_three_scores", nb10.check_three_scores, wrong, otherwise)


def test_how_many_share_a_code(holds):
    wrong = {
        "none": ((0.0, 0.015, "b"), "only if none were drawn twice"),
        "one other film": ((1 / 64, 0.015, "b"), "there are 63"),
        "codes that nobody has": ((0.37, 0.015, "b"), "codes that nobody has"),
        "too few": ((0.63, 0.2, "b"), "4,096 codes"),
        "per cent": ((63, 1.5, "b"), "between 0 and 1"),
        "uneven": ((0.63, 0.015, "a"), "no code is favoured"),
        "levels": ((0.63, 0.015, "c"), "third level"),
        "clusters": ((0.63, 0.015, "d"), "the codes are drawn"),
        "no letter": ((0.63, 0.015, ""), "one letter"),
        "two things": ((0.63, "b"), "three things"),
    }
    holds(COMPANION, "my_sharing", nb10.check_sharing, wrong, [[0.65, 0.02, "B"]])


def test_what_is_counted_as_sharing_is_what_the_formula_says():
    for codes in (64, 4096):
        assert nb10.sharing(codes) == pytest.approx(1 - (1 - 1 / codes) ** 63, abs=0.005)


def test_what_a_sequence_model_thinks_of_a_token(holds):
    def under(titles, chances, start):
        return [c for title, c in zip(titles, chances, strict=True) if title[: len(start)] == start]

    def largest(titles, chances, prefix):
        tokens = {title[len(prefix) - 1] for title in behind(titles, prefix[:-1])}
        rivals = [max(under(titles, chances, [*prefix[:-1], token])) for token in tokens]
        return max(under(titles, chances, prefix)) / sum(rivals)

    wrong = {
        "the whole prefix": (lambda t, c, p: sum(under(t, c, p)), "divide by"),
        "counts": (lambda t, c, p: len(under(t, c, p)) / len(under(t, c, p[:-1])), "items are counted"),
        "the largest": (largest, "likeliest alone"),
        "always one": (lambda t, c, p: 1.0, "expected"),
    }

    def otherwise(titles, chances, prefix):
        n = len(prefix)
        pairs = [(title[n - 1 : n] == prefix[-1:], chance)
                 for title, chance in zip(titles, chances, strict=True) if title[: n - 1] == prefix[:-1]]  # fmt: skip
        return torch.tensor([c for own, c in pairs if own]).double().sum() / sum(c for _, c in pairs)

    holds(COMPANION, "my_prefix", nb10.check_prefix, wrong, otherwise)


def test_beams_that_hold_everything_miss_nothing_and_evenness_makes_them_miss():
    assert nb10.beams_miss(64) == nb10.beams_miss(1, ways=64, depth=1) == 0
    assert nb10.beams_miss(64, peaked=0) == nb10.beams_miss(1, peaked=0) == 0  # all are the likeliest
    missed = [nb10.beams_miss(width) for width in (1, 2, 4, 8)]
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > 0.2
    assert nb10.beams_miss(1, peaked=0.3) > nb10.beams_miss(1) > nb10.beams_miss(1, peaked=3)


def test_the_sample_answer_finds_what_it_says(capsys):
    exercises = {one.id: one for one in exercise_cells.read_exercises(exercise_cells.read_notebook(COMPANION))}
    code = exercises["10.6"].folded["A sample answer"].split("```python\n")[1].split("```")[0]
    exec(code, {"nb10": nb10})
    said = {line.split(":")[0]: [float(x) for x in line.split(":")[1].split()]
            for line in capsys.readouterr().out.splitlines()}  # fmt: skip
    assert said["peaked 0.3"][0] > said["peaked 1"][0] > said["peaked 3"][0]
    assert said["64 ways, 1 tokens"] == [0, 0, 0]
    others = [said[name][0] for name in said if "ways" in name and not name.startswith("64")]
    assert max(others) - min(others) < 0.15  # "matters less than whether more than one is left to choose"
    assert min(others) > 0.15
    assert said["peaked 1"][2] < 0.01
    assert said["peaked 1"][0] > 0.2


def test_what_the_chapter_says_of_writers_on_real_data_is_so():
    prose = " ".join(
        " ".join(exercise_cells.source(one) for one in exercise_cells.read_notebook(CHAPTER)["cells"]).split()
    )
    assert "trained for half an hour of a processor, R²ec without reasoning for 1.7 hours, with it for 4.2;" in prose
    made = load_reports(paths.resource("results/baselines/movielens-cpu/reports.json"))[0].run["made"]
    written = {name for name in made if name in BASELINES and BASELINES[name].trains_language_model}
    assert written
    assert {made[name]["hours"] for name in written} == {0.5}
    assert "left a tenth to the language model" in prose
    assert best_of(recorded_trials(paths.resource("results/baselines/movielens-cpu"), "D3"))["parameters"] == {
        "guidance": 0.1
    }
    trial = reference.reference_arms("movielens-cpu", trial=reference.SECOND_TRIAL)
    hours = {name: {round(one.run["cpu_seconds"] / 3600, 1) for one in arm} for name, arm in trial.items()}
    assert hours == {reference.WITH: {4.2}, reference.WITHOUT: {1.7}}
    assert {len(arm) for arm in trial.values()} == {1}
    assert "Of S-DPO, SPRec, LLaRA and LangPTune one point was tried" in prose
    tried = {name: len(recorded_trials(paths.resource("results/baselines/movielens-cpu"), name)) for name in written}
    assert {name for name, trials in tried.items() if trials == 1} - {"BigRec"} == {
        "S-DPO",
        "SPRec",
        "LLaRA",
        "LangPTune",
    }
