"""RecPO on a tiny random model: what a step does and what its log says."""

import time
from unittest import mock

import pytest
import torch

from rrec_lib.core import hardware
from rrec_lib.core.private_names import micro_batches
from rrec_lib.core.profiles import load_profile
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.recpo.advantages import grpo_advantages
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.recpo_trainer import RecPOTrainer
from rrec_lib.training.skills import SKILLS
from rrec_lib.training.stages import train_recpo


def trained_hash(policy: Policy) -> str:
    return weights_hash(policy.model, only_trainable=True)


def losses(trainer: RecPOTrainer) -> list[dict[str, float]]:
    timed = {"step_time", "rollout_seconds", "sampled_tokens_per_second", "cpu_seconds"}
    return [{k: v for k, v in row.items() if k not in timed} for row in trainer.state.log_history if row.get("reward")]


def test_recpo_changes_the_weights_and_logs_its_parts(smoke_profile, smoke_dataset, tmp_path):
    policy = load_policy(smoke_profile.model)
    before = trained_hash(policy)
    trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[])
    rows = losses(trainer)
    assert trained_hash(policy) != before
    assert len(rows) == smoke_profile.training.steps
    beta = smoke_profile.reward.beta
    for row in rows:
        fused = beta * row["similarity_reward"] + (1 - beta) * row["ranking_reward"]
        assert row["reward"] == pytest.approx(fused, rel=1e-5)
        assert row["token_clip_fraction"] == row["item_clip_fraction"] == 0  # on policy
        assert 0 <= row["unfinished_fraction"] <= 1
        assert row["item_table_age"] < smoke_profile.training.item_refresh_steps
        kinds = (*SKILLS, "none")
        assert sum(row[f"{kind}_share"] for kind in kinds) == pytest.approx(1)
        assert sum(row[f"{kind}_reward_part"] for kind in kinds) == pytest.approx(row["reward"], rel=1e-4)


def test_a_step_s_clock_waits_for_the_gpu(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    """A GPU is still busy for a while after a call has returned."""
    policy, busy = load_policy(smoke_profile.model), 0.0
    monkeypatch.setattr(hardware, "synchronize", lambda: time.sleep(busy))

    def seconds(folder):
        trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path / folder, callbacks=[], max_steps=2)
        row = trainer.state.log_history[1]
        return row["rollout_seconds"], row["step_time"] - row["rollout_seconds"]

    idle, busy = seconds("idle"), 0.5
    waited = seconds("busy")
    assert waited[0] > idle[0] + 0.3
    assert waited[1] > idle[1] + 0.3


def test_old_logprobs_are_those_of_the_sampling_policy(smoke_profile, smoke_dataset, tmp_path):
    """With two updates per batch the second is off policy; a large step makes its ratios leave the clip range."""
    policy = load_policy(smoke_profile.model)
    trainer = train_recpo(
        policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], num_iterations=2, learning_rate=0.05
    )
    clipped = [row["token_clip_fraction"] + row["item_clip_fraction"] for row in trainer.state.log_history[:-1]]
    assert clipped[0] == 0
    assert clipped[1] > 0


def test_groups_with_equal_rewards_give_no_gradient(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    policy = load_policy(smoke_profile.model)
    before = trained_hash(policy)
    monkeypatch.setattr(
        "rrec_lib.training.recpo_trainer.fused_reward", lambda ranking, similarity, beta: torch.ones_like(ranking)
    )
    trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], max_steps=1)
    assert trained_hash(policy) == before
    assert losses(trainer)[0]["equal_reward_fraction"] == 1


def test_without_its_token_term_recpo_trains_the_recommendation_alone(recpo, fresh):
    def after_a_step(weight, normalization):
        knobs = {"training.token_weight": weight, "training.token_normalization": normalization}
        return trained_hash(recpo(knobs, f"{weight} {normalization}", max_steps=1).policy)

    assert after_a_step(1.0, "trajectory") != after_a_step(1.0, "constant")
    assert after_a_step(0.0, "trajectory") == after_a_step(0.0, "constant") != fresh


def test_logq_correction_changes_the_recommendation_alone(recpo):
    def first_step(correct):
        trainer = recpo({"training.logq_correction": correct}, str(correct), max_steps=1)
        return losses(trainer)[0], trained_hash(trainer.policy)

    (plain, plain_hash), (corrected, corrected_hash) = first_step(False), first_step(True)
    assert plain["reward"] == corrected["reward"]
    assert plain["token_loss"] == corrected["token_loss"]
    assert plain_hash != corrected_hash


def test_accumulated_micro_batches_keep_groups_whole(smoke_dataset, tmp_path):
    profile = load_profile("smoke", {"training.users_at_once": 1})
    policy, size = load_policy(profile.model), profile.rollouts.group_size
    trainer = train_recpo(policy, smoke_dataset, profile, tmp_path, callbacks=[], max_steps=1)
    assert len(micro_batches(trainer)) == profile.training.users_per_step == 4
    for batch in micro_batches(trainer):
        assert batch["completion_ids"].shape[:2] == (1, size)
        # A whole group's advantages sum to zero, a part's would not.
        assert batch["advantages"].sum().abs() < 1e-4
    assert grpo_advantages(torch.tensor([[1.0, 2.0, 4.0, 5.0]]))[:, :2].sum().abs() > 1e-4


def test_recpo_takes_the_softmax_over_the_catalogue(recpo):
    def first_step(softmax, folder=None):
        knobs = {"training.item_softmax": softmax, "training.item_negatives": 8 if softmax == "catalogue" else 0}
        trainer = recpo(knobs, folder or softmax, max_steps=1)
        return losses(trainer)[0], trained_hash(trainer.policy)

    (batch, batch_hash), (whole, whole_hash) = first_step("batch"), first_step("catalogue")
    assert batch["reward"] == whole["reward"]
    assert batch["token_loss"] == whole["token_loss"]
    assert batch_hash != whole_hash
    assert whole["item_accuracy"] <= batch["item_accuracy"]  # more to be mistaken for
    with mock.patch.object(trainer_module, "seen_items", lambda seen, targets, n: torch.zeros(len(seen), n) > 0):
        _, unmasked_hash = first_step("catalogue", "unmasked")
    assert unmasked_hash != whole_hash  # what a user has seen is no negative
    with pytest.raises(ValueError, match=r"training.item_softmax takes batch or catalogue, got 'all'"):
        first_step("all")
    with pytest.raises(ValueError, match="set item_negatives of the stage's section"):
        recpo({"training.item_softmax": "catalogue"}, "none")


def test_a_closed_reasoning_trains_only_its_sampled_tokens(smoke_profile, smoke_dataset, tmp_path):
    policy = load_policy(smoke_profile.model)
    trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], max_steps=1)
    batch = micro_batches(trainer)[0]
    sampled, whole = batch["loss_mask"].sum(-1), batch["completion_mask"].sum(-1)
    assert (sampled < whole).any()  # the random model never closes its marker, so one was appended
    assert (sampled <= smoke_profile.rollouts.max_new_tokens).all()
