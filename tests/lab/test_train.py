"""The lab's arms: each runs, repeats, turns with its knobs, and learns from labels only where it may."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rrec_lib.lab import (
    CONDITIONS,
    LAB_ABLATIONS,
    LAB_ARMS,
    LAB_WAYS,
    LabConfig,
    phases,
    run_arm,
    run_silent,
    taught_model,
    train,
)  # fmt: skip
from rrec_lib.lab.world import KINDS

TINY = LabConfig(
    steps=4, users=6, group_size=2, warmup_hits=1.0, warmup_steps=2, warmup_last_steps=2, warmup_rows=12,
    teach_steps=2, teach_mixed_steps=1, teach_rows=8, steps_without=2, width=16, layers=1, heads=2, train_users=200,
    valid_users=40, test_users=64, evaluate_every=2,
)  # fmt: skip


@pytest.mark.parametrize("arm", LAB_ARMS)
def test_every_arm_runs_and_reports(arm):
    points = []
    run = run_arm(TINY, arm, 0, on_step=lambda step, figures: points.append((step, figures["hit@1"])))
    reasons = arm != "without reasoning"
    assert list(run.final) == (list(CONDITIONS) if reasons else ["own"])
    assert all(report.metric("hit@1").shape == (64,) for report in run.final.values())
    assert ("tallies" in run.curves) == reasons
    assert len({len(curve) for curve in run.curves.values()}) == 1
    first = -4 if arm in ("full", "another user's reasoning", "contrastive only") else 0
    last = {"without reasoning": 16, "without warm-up": 8}.get(arm, 4)
    every = 2 if reasons else 4
    assert run.curves["step"] == [float(step) for step in range(first, last + 1, every)]
    assert [step for step, _ in points] == list(range(0, last + 1, every))
    assert run.seconds["training"] > 0
    assert run.seconds["lessons"] > 0
    assert run.lessons["steps"] == 2
    assert (run.seconds["warm-up"] > 0) == (first < 0)


def ranks(run) -> np.ndarray:
    return run.final["own"].n_greater


@pytest.mark.parametrize("arm", ["full", "without reasoning"])
def test_same_seed_same_curve_and_another_seed_another(arm):
    first, again, other = (run_arm(TINY, arm, seed) for seed in (0, 0, 1))
    assert first.curves == again.curves
    assert np.array_equal(ranks(first), ranks(again))
    assert not np.array_equal(ranks(first), ranks(other))


def test_what_was_taught_and_warmed_up_is_not_changed_by_the_arms():
    before = taught_model(TINY, 0).tokens.weight.clone()
    run_arm(TINY, "without warm-up", 0)
    assert torch.equal(before, taught_model(TINY, 0).tokens.weight)


@pytest.mark.parametrize(
    "knob",
    [
        {"beta": 1.0}, {"reward_k": 1}, {"group_size": 3}, {"estimator": "rloo"}, {"updates_per_batch": 2},
        {"best_only": False}, {"temperature": 1.7}, {"item_temperature": 0.5}, {"token_normalization": "sum"},
        {"warmup_steps": 0}, {"learning_rate": 2e-3}, {"user_state": "mean"}, {"user_state": "last token"},
        {"item_rows": "classes"},
    ],
    ids=str,
)  # fmt: skip
def test_every_knob_of_recpo_turns_something(knob):
    assert not np.array_equal(ranks(run_arm(TINY, "full", 0)), ranks(run_arm(replace(TINY, **knob), "full", 0)))


@pytest.mark.parametrize("line", LAB_ABLATIONS)
def test_every_recorded_line_keeps_the_number_of_reasonings_it_trains_on(line):
    config = replace(LabConfig(), **LAB_ABLATIONS[line])
    assert config != LabConfig()
    seen = config.users * config.group_size * config.updates_per_batch * config.steps
    assert seen == 32 * 4 * 200


def test_clipping_binds_with_several_updates_and_never_with_one():
    def same(updates: int) -> bool:
        config = replace(TINY, updates_per_batch=updates, learning_rate=2e-2)
        tight, wide = (ranks(run_arm(replace(config, clip_eps=eps), "full", 0)) for eps in (0.01, 10.0))
        return np.array_equal(tight, wide)

    assert same(1)
    assert not same(4)


@pytest.mark.parametrize(("hits", "steps"), [([0.1, 0.2, 0.36], 6), ([0.36], 2), ([0.1], 8), ([0.1, 0.2, 0.3], 8)])
def test_the_warm_up_ends_some_steps_after_the_states_can_read(monkeypatch, hits, steps):
    """Looked at every other step, of six at most; then come the last two."""
    found = iter(hits)
    monkeypatch.setattr(phases, "hit_rate_at_k", lambda scores, targets, k: torch.tensor([next(found, hits[-1])]))
    config = train._only(replace(TINY, warmup_hits=0.35, warmup_steps=6), train._WARMUP)
    _, curves, _ = train._warmed.__wrapped__(config, 0)
    assert curves["step"] == [float(step) for step in range(-steps, 0, 2)]
    assert curves["hit@1"][0] == pytest.approx(hits[0])


def test_without_warm_up_is_full_with_the_warm_up_off_and_its_steps_kept():
    arm = run_arm(TINY, "without warm-up", 0)
    knobs = run_arm(replace(TINY, warmup_steps=0, steps=8), "full", 0)
    assert arm.curves == knobs.curves


def scrambled(world):
    return replace(world, train=replace(world.train, targets=world.train.targets.roll(1)))


def test_lessons_use_no_label_and_the_warm_up_does(monkeypatch):
    lessons, warm = taught_model(TINY, 0), train._warmed(train._only(TINY, train._WARMUP), 0)[0]
    original = train._world
    monkeypatch.setattr(train, "_world", lambda config: scrambled(original(config)))
    relearned, _ = train._taught.__wrapped__(train._only(TINY, train._LESSONS), 0)
    rewarmed = train._warmed.__wrapped__(train._only(TINY, train._WARMUP), 0)[0]
    assert torch.equal(lessons.tokens.weight, relearned.tokens.weight)
    assert not torch.equal(warm.tokens.weight, rewarmed.tokens.weight)


def test_the_other_users_reasoning_is_read_at_the_marker():
    own, other = (run_arm(TINY, arm, 0) for arm in ("full", "another user's reasoning"))
    for condition in ("another user's", "shuffled", "random text"):
        assert not np.array_equal(own.final[condition].n_greater, ranks(own))
    assert own.curves["hit@1"][0] == other.curves["hit@1"][0]  # one warm-up for both
    assert not np.array_equal(ranks(own), ranks(other))


@pytest.mark.parametrize(
    ("knob", "match"),
    [
        ({"estimator": "ppo"}, "estimator"), ({"group_size": 1}, "group_size >= 2"), ({"beta": 1.5}, "at most 1"),
        ({"beta": -0.1}, "beta"), ({"user_state": "first"}, "user_state"), ({"item_rows": "none"}, "item_rows"),
        ({"teach_right": 1.1}, "at most 1"), ({"habits": 1.1}, "at most 1"), ({"chain": 0}, "chain must be positive"),
        ({"warmup_hits": 1.1}, "at most 1"), ({"teach_steps": 0}, "teach_steps must be"),
        ({"users": 0}, "users must be positive"), ({"teach_rows": 7}, "even teach_rows"),
    ],
)  # fmt: skip
def test_bad_knobs_are_refused(knob, match):
    with pytest.raises(ValueError, match=match):
        replace(TINY, **knob)


def test_unknown_arms_are_refused():
    with pytest.raises(ValueError, match="choose one of full"):
        run_arm(TINY, "magic", 0)


SILENT = [way for way in LAB_WAYS if way != "text"]


def silent(way: str, seed: int = 0, config: LabConfig = TINY):
    return run_silent(config, way, seed, 6, run_arm(config, "full", seed) if way == "distilled" else None)


@pytest.mark.parametrize("way", SILENT)
def test_every_silent_way_runs_repeats_and_learns_from_labels(way, monkeypatch):
    first, again, other = silent(way), silent(way), silent(way, seed=1)
    assert first.curves == again.curves
    assert np.array_equal(ranks(first), ranks(again))
    assert not np.array_equal(ranks(first), ranks(other))
    assert set(first.curves) == {"step", "hit@1"}
    assert first.curves["step"] == [float(step) for step in range(7)]
    assert list(first.final) == ["own"]
    assert (first.seconds["text"] > 0) == (way == "distilled")
    original = train._world
    monkeypatch.setattr(train, "_world", lambda config: scrambled(original(config)))
    text = run_arm(TINY, "full", 0) if way == "distilled" else None
    assert not torch.equal(run_silent(TINY, way, 0, 6, text).model.tokens.weight, first.model.tokens.weight)


def test_the_ways_differ_from_each_other_and_none_is_the_arm_without_reasoning():
    found = {way: silent(way) for way in SILENT}
    for one in SILENT:
        assert all(not np.array_equal(ranks(found[one]), ranks(found[other])) for other in SILENT if other != one)
    arm = run_arm(replace(TINY, steps=2, warmup_steps=0, steps_without=3), "without reasoning", 0)
    assert torch.equal(arm.model.tokens.weight, found["none"].model.tokens.weight)


def test_no_thought_steps_leave_the_run_without_reasoning(monkeypatch):
    none = silent("none").model.tokens.weight
    assert not torch.equal(silent("latent").model.tokens.weight, none)
    original = phases.read_silent
    monkeypatch.setattr(phases, "read_silent", lambda model, histories, way, steps: original(model, histories, way, 0))
    for way in ("latent", "pause"):
        assert torch.equal(silent(way).model.tokens.weight, none)


def test_what_is_distilled_starts_from_text_and_is_drawn_to_its_states(monkeypatch):
    text = run_arm(TINY, "full", 0)
    drawn = run_silent(TINY, "distilled", 0, 6, text)
    assert drawn.curves["hit@1"][0] == pytest.approx(at_once(text), abs=1e-6)
    monkeypatch.setattr(phases, "cosine_similarity", lambda states, shown: states.sum(-1) * 0)
    assert not torch.equal(run_silent(TINY, "distilled", 0, 6, text).model.tokens.weight, drawn.model.tokens.weight)


def at_once(run) -> float:
    """Hit@1 on valid of a trained model that is read behind the bare history."""
    world = train._world(train._only(TINY, train._WORLD))
    lab = phases.LabTrainer(TINY, world, run.model, torch.Generator(), way="none")
    lab.point(0)
    return lab.curves["hit@1"][0]


def test_habits_split_the_curves_by_kind_and_end_the_warm_up_for_both(monkeypatch):
    run = run_arm(replace(TINY, habits=0.5), "full", 0)
    split = {f"{curve}, {kind}" for curve in ("hit@1", "tallies", "right") for kind in KINDS}
    assert set(run.curves) == {"step", "hit@1", "tallies", "right"} | split
    assert len({len(curve) for curve in run.curves.values()}) == 1
    everyone = run_arm(replace(TINY, habits=1.0), "full", 0)
    assert {name for name in everyone.curves if ", " in name} == {name for name in split if "habit" in name}
    lab = phases.LabTrainer(replace(TINY, habits=0.5), train._world(TINY), run.model, torch.Generator())
    for habit, sums, reached in ((1.0, 0.1, 0.1), (0.4, 0.5, 0.2), (1.0, 0.45, 0.45)):
        lab.curves = {"hit@1": [0.9], "hit@1, habit": [0.0, habit], "hit@1, sum": [0.9, sums]}
        assert lab.reached() == pytest.approx(reached)
    lab.curves = {"hit@1": [0.9], "hit@1, habit": [0.9]}
    assert lab.reached() == pytest.approx(0.45)


def test_lessons_are_the_same_whatever_the_habits():
    assert torch.equal(taught_model(TINY, 0).tokens.weight, taught_model(replace(TINY, habits=0.5), 0).tokens.weight)


@pytest.mark.parametrize(("way", "text"), [("text", None), ("magic", None), ("distilled", None), ("none", "a run")])
def test_unknown_ways_and_texts_without_need_are_refused(way, text):
    with pytest.raises(ValueError, match="must be latent, pause or none"):
        run_silent(TINY, way, 0, 1, text)
