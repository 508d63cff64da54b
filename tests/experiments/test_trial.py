"""The trial: arms with the same targets, the same time, and shared stages; a second call trains nothing."""

import json
import shutil
from dataclasses import replace

import pytest

from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments import trial
from rrec_lib.experiments.reference import WITH, WITHOUT
from rrec_lib.experiments.runner import Options
from rrec_lib.experiments.trial import EQUAL_TARGETS, EQUAL_TIME, run_trial
from rrec_lib.experiments.verdict import CPU_TIME, TARGETS, verdict_arms, verdict_lines

SMALL = {"model.lora_layers": 1, "warmup.targets_per_user": 4, "rollouts.max_new_tokens": 8, "data.window": 5}
STEPS = (3, 4)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    options = Options(0.0, 0, folder / "runs", folder / "results" / "verdict", "smoke", SMALL)
    run_trial(options, (WITH, WITHOUT, "distilled"), [0], steps=STEPS)
    return folder, options


def report(folder, budget, name):
    path = folder / "results" / "verdict" / budget / "movielens-smoke" / f"{name}-0.json"
    return load_reports(path)[0]


def test_arms_see_as_many_targets_and_say_what_they_took(ran):
    folder, _ = ran
    arms = {name: report(folder, EQUAL_TARGETS, name) for name in ("with-reasoning", "without-reasoning", "distilled")}
    seen = {name: arm.run["targets"] for name, arm in arms.items()}
    most = 4 * 4  # targets of a step
    assert abs(seen["with-reasoning"] - seen["without-reasoning"]) < most
    assert all(arm.run["cpu_seconds"] > 0 for arm in arms.values())
    assert arms["distilled"].run["trained_as"] == WITH
    assert arms["distilled"].run["cpu_seconds"] == arms["with-reasoning"].run["cpu_seconds"]  # trained once
    assert arms["distilled"].n_greater.tolist() != arms["with-reasoning"].n_greater.tolist()
    rows = [json.loads(line) for line in (folder / "results/verdict/equal-targets/movielens-smoke"
            / "without-reasoning-0-warmup.jsonl").read_text().splitlines()]  # fmt: skip
    assert not any(row.get("token_loss") for row in rows)


def test_at_equal_time_the_arm_without_reasoning_goes_on_for_longer(ran):
    folder, _ = ran
    longer, short = (report(folder, budget, "without-reasoning") for budget in (EQUAL_TIME, EQUAL_TARGETS))
    assert longer.run["targets"] > short.run["targets"]
    found = {line.name: line for line in verdict_lines(verdict_arms(folder, "movielens-smoke", TARGETS), TARGETS, 100)}
    assert found[WITHOUT].seeds == 1
    arms = verdict_arms(folder, "movielens-smoke", CPU_TIME)
    assert arms[WITHOUT][0].run["targets"] == longer.run["targets"]


def test_a_second_call_trains_nothing_and_other_steps_are_refused(ran, monkeypatch):
    _, options = ran
    monkeypatch.setattr(trial, "warm_up", None)
    monkeypatch.setattr(trial, "train_recpo", None)
    run_trial(options, (WITH, WITHOUT, "distilled"), [0], steps=STEPS)
    with pytest.raises(ValueError, match="steps"):
        run_trial(options, (WITHOUT,), [0], [EQUAL_TARGETS], steps=(4, 4))


def test_seconds_of_other_code_are_not_compared(ran, tmp_path):
    folder, options = ran
    shutil.copytree(folder / "results", tmp_path / "results")
    place = tmp_path / "results" / "verdict"
    path = place / EQUAL_TARGETS / "movielens-smoke" / "without-reasoning-0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "commit": "0123456"}))
    shutil.rmtree(place / EQUAL_TIME)
    with pytest.raises(ValueError, match=r"without reasoning by 0123456 on .*CPU"):
        run_trial(replace(options, out=place), (WITH, WITHOUT), [0], [EQUAL_TIME], steps=STEPS)


def test_weights_that_other_settings_trained_are_not_shared(ran, tmp_path):
    _, options = ran
    other = replace(options, out=tmp_path, overrides={**SMALL, "warmup.learning_rate": 0.5})
    with pytest.raises(ValueError, match=r"warmup\.learning_rate"):
        run_trial(other, (WITHOUT,), [0], [EQUAL_TARGETS], steps=STEPS)


def test_equal_time_needs_what_both_arms_took(tmp_path):
    options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", SMALL)
    with pytest.raises(FileNotFoundError, match="run both arms at equal targets first"):
        run_trial(options, (WITHOUT,), [0], [EQUAL_TIME], steps=STEPS)
