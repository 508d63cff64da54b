"""The lab's arms: each runs, repeats, turns with its knobs, and learns from labels only where it may."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rrec_lib.lab import CONDITIONS, LAB_ABLATIONS, LAB_ARMS, LabConfig, phases, run_arm, taught_model, train

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
        ({"teach_right": 1.1}, "at most 1"),
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
