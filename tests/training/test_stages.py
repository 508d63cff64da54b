"""The trainers on a tiny random model: what a step does, and that a run can be stopped and resumed."""

import dataclasses
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from datasets import DatasetDict

from rrec_lib.core import hardware
from rrec_lib.core.profiles import load_profile
from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import pack, packed_forward
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.model.prompts import encode_users, marker_ids
from rrec_lib.recpo.advantages import grpo_advantages
from rrec_lib.recpo.step_items import choose_items, step_seed
from rrec_lib.training import configuration
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.checkpoints import COMPLETE, last_checkpoint
from rrec_lib.training.packed_histories import as_seen_from_the_end, successive_targets
from rrec_lib.training.recpo_trainer import RecPOConfig, RecPOTrainer, recpo_config
from rrec_lib.training.stages import load_stage, make_adapters, train_recpo, warm_up
from rrec_lib.training.warmup_trainer import history_sentence


def trained_hash(policy: Policy) -> str:
    return weights_hash(policy.model, only_trainable=True)


def losses(trainer: RecPOTrainer) -> list[dict[str, float]]:
    timed = {"step_time", "rollout_seconds", "sampled_tokens_per_second"}
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


def test_a_resumed_run_ends_with_the_same_weights_and_log(smoke_profile, smoke_dataset, tmp_path):
    whole = load_policy(smoke_profile.model)
    first = train_recpo(whole, smoke_dataset, smoke_profile, tmp_path / "whole", callbacks=[])
    half = smoke_profile.training.steps // 2
    stopped = load_policy(smoke_profile.model)
    train_recpo(stopped, smoke_dataset, smoke_profile, tmp_path / "parts", callbacks=[], max_steps=half)
    assert trained_hash(stopped) != trained_hash(whole)  # half a run is not the whole one
    again = load_policy(smoke_profile.model)
    torch.manual_seed(99)  # the state of the random generator at the start must not matter
    second = train_recpo(again, smoke_dataset, smoke_profile, tmp_path / "parts", callbacks=[])
    assert losses(second) == losses(first)
    assert trained_hash(again) == trained_hash(whole)


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


def test_an_incomplete_checkpoint_is_never_taken(tmp_path):
    for step, complete in ((2, True), (10, True), (20, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert last_checkpoint(tmp_path / "nothing here") is None


def test_old_logprobs_are_those_of_the_sampling_policy(smoke_profile, smoke_dataset, tmp_path):
    """With two updates per batch the second is off policy; a large step makes its ratios leave the clip range."""
    policy = load_policy(smoke_profile.model)
    trainer = train_recpo(
        policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], num_iterations=2, learning_rate=0.05
    )
    clipped = [row["token_clip_fraction"] + row["item_clip_fraction"] for row in losses_of_every_step(trainer)]
    assert clipped[0] == 0
    assert clipped[1] > 0


def losses_of_every_step(trainer):
    return [row for row in trainer.state.log_history if "token_clip_fraction" in row]


def test_groups_with_equal_rewards_give_no_gradient(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    policy = load_policy(smoke_profile.model)
    before = trained_hash(policy)
    monkeypatch.setattr(
        "rrec_lib.training.recpo_trainer.fused_reward", lambda ranking, similarity, beta: torch.ones_like(ranking)
    )
    trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], max_steps=1)
    assert trained_hash(policy) == before
    assert losses(trainer)[0]["equal_reward_fraction"] == 1


def test_without_its_token_term_recpo_trains_the_recommendation_alone(smoke_profile, smoke_dataset, tmp_path):
    def after_a_step(weight, normalization):
        policy, folder = load_policy(smoke_profile.model), tmp_path / f"{weight} {normalization}"
        train_recpo(
            policy, smoke_dataset, smoke_profile, folder, callbacks=[], max_steps=1, token_weight=weight,
            token_normalization=normalization,
        )  # fmt: skip
        return trained_hash(policy)

    assert after_a_step(1.0, "trajectory") != after_a_step(1.0, "constant")
    assert (
        after_a_step(0.0, "trajectory")
        == after_a_step(0.0, "constant")
        != trained_hash(load_policy(smoke_profile.model))
    )


def test_configuration_refuses_what_would_be_wrong(smoke_profile, tmp_path):
    with pytest.raises(ValueError, match="unknown advantage 'ppo'"):
        recpo_config(smoke_profile, tmp_path, advantage="ppo")
    with pytest.raises(ValueError, match="unknown token_normalization"):
        recpo_config(smoke_profile, tmp_path, token_normalization="mean")
    with pytest.raises(ValueError, match="steps_per_generation must equal"):
        recpo_config(smoke_profile, tmp_path, steps_per_generation=2)
    with pytest.raises(ValueError, match="6, and must be a multiple of num_generations, 4"):
        recpo_config(smoke_profile, tmp_path, per_device_train_batch_size=6, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="save_steps 2 must be a multiple of logging_steps 3"):
        recpo_config(smoke_profile, tmp_path, logging_steps=3)
    with pytest.raises(ValueError, match="extra_negatives must be 0"):
        recpo_config(smoke_profile, tmp_path, extra_negatives=-1)
    config = recpo_config(smoke_profile, tmp_path)
    assert isinstance(config, RecPOConfig)
    assert config.num_generations == smoke_profile.rollouts.group_size


@pytest.mark.parametrize("stage", [train_recpo, warm_up])
def test_layers_are_never_run_again_in_the_backward_pass(smoke_dataset, tmp_path, stage):
    """Asked of the model: which setting says so depends on the version of Transformers, and TRL's default is on."""
    profile = load_profile("smoke", {"model.lora_layers": 1})  # the item encoder feeds this layer itself
    policy = load_policy(profile.model)

    def checkpointed():
        return sum(getattr(module, "gradient_checkpointing", False) for module in policy.model.modules())

    def train(**settings):
        return stage(policy, smoke_dataset, profile, tmp_path, max_steps=1, **settings)

    assert train().state.global_step == 1
    assert checkpointed() == 0
    with pytest.raises(ValueError, match=r"activation checkpointing .* leave it off"):
        train(gradient_checkpointing=True)
    language_model(policy.model).gradient_checkpointing_enable()
    assert checkpointed() > 0
    with pytest.raises(ValueError, match=r"activation checkpointing .* leave it off"):
        train()


def test_logq_correction_changes_the_recommendation_alone(smoke_profile, smoke_dataset, tmp_path):
    def first_step(correct):
        policy = load_policy(smoke_profile.model)
        trainer = train_recpo(
            policy, smoke_dataset, smoke_profile, tmp_path / str(correct), callbacks=[], max_steps=1,
            logq_correction=correct,
        )  # fmt: skip
        return losses(trainer)[0], trained_hash(policy)

    (plain, plain_hash), (corrected, corrected_hash) = first_step(False), first_step(True)
    assert plain["reward"] == corrected["reward"]
    assert plain["token_loss"] == corrected["token_loss"]
    assert plain_hash != corrected_hash


def test_a_profiles_batch_is_that_of_all_processes_together(tmp_path, monkeypatch):
    shared = partial(hardware.users_of_a_process, processes=4)
    monkeypatch.setattr(configuration, "users_of_a_process", shared)
    paper = load_profile("paper", {"training.optimizer": "sgd"})
    config = recpo_config(paper, tmp_path)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (4, 6)  # 4 x 6 users of G = 4
    assert config.optim == "sgd"


def test_accumulated_micro_batches_keep_groups_whole(smoke_dataset, tmp_path):
    profile = load_profile("smoke", {"training.users_at_once": 1})
    policy, size = load_policy(profile.model), profile.rollouts.group_size
    trainer = train_recpo(policy, smoke_dataset, profile, tmp_path, callbacks=[], max_steps=1)
    batches: Any = trainer._buffered_inputs
    assert len(batches) == profile.training.users_per_step == 4
    for batch in batches:
        assert batch["completion_ids"].shape[:2] == (1, size)
        # A whole group's advantages sum to zero, a part's would not.
        assert batch["advantages"].sum().abs() < 1e-4
    assert grpo_advantages(torch.tensor([[1.0, 2.0, 4.0, 5.0]]))[:, :2].sum().abs() > 1e-4


def warmed(profile, dataset, folder, **overrides):
    policy = load_policy(profile.model)
    return warm_up(policy, dataset, profile, folder, save_steps=3, **overrides)


@pytest.mark.parametrize(("part", "token_weight", "falls_to"), [("token_loss", 1000.0, 0.99), ("item_loss", 0.0, 0.9)])
def test_warm_up_learns_format_and_states(smoke_profile, smoke_dataset, tmp_path, part, token_weight, falls_to):
    settings = dataclasses.replace(smoke_profile.warmup, steps=24, learning_rate=1e-2, token_weight=token_weight)
    profile = dataclasses.replace(smoke_profile, warmup=settings)
    few = DatasetDict({**smoke_dataset, "train": smoke_dataset["train"].select(range(4))})
    rows = [row for row in warmed(profile, few, tmp_path).state.log_history if "loss" in row]
    assert rows[-1][part] < falls_to * rows[0][part]
    for row in rows:
        assert row["loss"] == pytest.approx(token_weight * row["token_loss"] + row["item_loss"], rel=1e-3)


@pytest.mark.parametrize("sentences", [True, False])
def test_targets_that_share_a_row_teach_what_they_teach_apart(smoke_profile, smoke_dataset, tmp_path, sentences):
    """One block of four, packed beside a shorter one, gives the losses of its four prompts computed one by one."""
    settings = dataclasses.replace(smoke_profile.warmup, sentence_every=int(sentences), targets_per_user=4)
    profile = dataclasses.replace(smoke_profile, warmup=settings)
    trainer = warmed(profile, smoke_dataset, tmp_path, max_steps=1)
    train = list(smoke_dataset["train"])
    rows = successive_targets(train, 4)
    long, short = ([train[i] for i in next(row for row in rows if len(row) == size)] for size in (4, 2))
    groups, real = trainer.pack_blocks([long, short])
    assert real.tolist() == [True] * 6 + [False] * 2
    together = packed_forward(trainer.model, groups)
    for block, first in ((long, 0), (short, 4)):
        for number, example in enumerate(as_seen_from_the_end(block)):
            ids = encode_users(trainer.policy.tokenizer, [example], trainer.items)[0]
            ending = trainer.policy.tokenizer(trainer._endings(block)[number], add_special_tokens=False)["input_ids"]
            apart = packed_forward(trainer.model, pack([ids], [ending], [len(ending)], 0, torch.device("cpu")))
            torch.testing.assert_close(together.states[first + number], apart.states[0], atol=1e-4, rtol=1e-4)
            mask = groups.loss_mask.flatten(0, 1)[first + number]
            assert mask.sum() == (len(ending) if sentences else 0)
            if sentences:
                learned = together.logprobs[first + number][mask.bool()]
                torch.testing.assert_close(learned, apart.logprobs[0], atol=1e-4, rtol=1e-4)
    assert groups.loss_mask.flatten(0, 1)[~real].sum() == 0


def test_a_sentence_stands_in_every_so_manieth_step(smoke_profile, smoke_dataset, tmp_path):
    settings = dataclasses.replace(smoke_profile.warmup, sentence_every=2)
    trainer = warmed(dataclasses.replace(smoke_profile, warmup=settings), smoke_dataset, tmp_path, max_steps=4)
    losses = [row["token_loss"] > 0 for row in trainer.state.log_history if "loss" in row]
    assert losses == [False, True, False, True]


@pytest.mark.parametrize("softmax", ["batch", "catalogue"])
def test_a_resumed_warm_up_ends_with_the_same_weights(smoke_profile, smoke_dataset, tmp_path, softmax):
    training = dataclasses.replace(smoke_profile.training, item_softmax=softmax)
    warmup = dataclasses.replace(smoke_profile.warmup, steps=6)
    profile = dataclasses.replace(smoke_profile, warmup=warmup, training=training)
    whole = warmed(profile, smoke_dataset, tmp_path / "a")
    shutil.copytree(tmp_path / "a" / "checkpoint-3", tmp_path / "b" / "checkpoint-3")
    shutil.copy(tmp_path / "a" / "settings.json", tmp_path / "b")
    again = warmed(profile, smoke_dataset, tmp_path / "b")
    assert trained_hash(again.policy) == trained_hash(whole.policy)
    assert last_checkpoint(tmp_path / "b") == tmp_path / "b" / "checkpoint-6"


def test_the_softmax_over_the_catalogue_has_every_ranked_item_as_a_negative(smoke_profile, smoke_dataset, tmp_path):
    """With a fresh table the first step's item loss is the cross-entropy over all items but what the user has seen."""

    def first_item_loss(softmax):
        training = dataclasses.replace(smoke_profile.training, item_softmax=softmax)
        settings = dataclasses.replace(smoke_profile.warmup, sentence_every=0, item_negatives=5)
        profile = dataclasses.replace(smoke_profile, training=training, warmup=settings)
        policy = load_policy(profile.model)
        trainer = warm_up(policy, smoke_dataset, profile, tmp_path / softmax, max_steps=1)
        return next(row for row in trainer.state.log_history if "item_loss" in row), trainer

    whole, trainer = first_item_loss("catalogue")
    batch, _ = first_item_loss("batch")
    policy = load_policy(smoke_profile.model)  # as it was before the step
    examples = [e for block in next(iter(trainer.get_train_dataloader()))["blocks"] for e in block]
    marker, items = marker_ids(policy.tokenizer), list(smoke_dataset["items"])
    users = encode(policy, [prompt + marker for prompt in encode_users(policy.tokenizer, examples, items)])
    logits = score_items(users, item_table(policy, items), smoke_profile.reward.temperature)
    targets = torch.tensor([e["target"] for e in examples])
    expected = torch.nn.functional.cross_entropy(mask_items(logits, [e["seen"] for e in examples], targets), targets)
    assert whole["item_loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert expected < torch.nn.functional.cross_entropy(logits, targets) - 1e-3
    assert batch["item_loss"] < whole["item_loss"]  # fewer negatives
    assert whole["token_loss"] == 0
    assert whole["grad_norm"] > 0


def test_targets_of_a_block_are_no_negatives_of_each_other(smoke_profile, smoke_dataset, tmp_path):
    """With a fresh model the first step's item loss by hand, over the step's items alone."""
    settings = dataclasses.replace(smoke_profile.warmup, sentence_every=0, item_negatives=5, targets_per_user=4)
    profile = dataclasses.replace(smoke_profile, warmup=settings)
    trainer = warm_up(load_policy(profile.model), smoke_dataset, profile, tmp_path, max_steps=1)
    found = next(row["item_loss"] for row in trainer.state.log_history if "item_loss" in row)
    policy, items = load_policy(profile.model), list(smoke_dataset["items"])
    blocks = next(iter(trainer.get_train_dataloader()))["blocks"]
    told = [e for block in blocks for e in as_seen_from_the_end(block)]
    marker = marker_ids(policy.tokenizer)
    users = encode(policy, [prompt + marker for prompt in encode_users(policy.tokenizer, told, items)])
    targets = torch.tensor([e["target"] for e in told])
    ids, log_q = choose_items(targets, trainer.target_share, 5, step_seed(0, 0))
    logits = score_items(users, item_table(policy, items)[ids], profile.reward.temperature) - log_q

    def loss(excluded):
        kept = mask_items(torch.zeros(len(told), len(items)), excluded, targets)[:, ids]
        return torch.nn.functional.cross_entropy(logits + kept, torch.searchsorted(ids, targets)).item()

    seen = [e["seen"] for e in told]
    mates = [[e["target"] for e in block] for block in blocks for _ in block]
    assert found == pytest.approx(loss([a + b for a, b in zip(seen, mates, strict=True)]), rel=1e-4)
    assert abs(found - loss(seen)) > 1e-3
    assert abs(loss(seen) - loss([[]] * len(told))) > 1e-3


def test_recpo_takes_the_softmax_over_the_catalogue(smoke_profile, smoke_dataset, tmp_path):
    def first_step(softmax, folder=None):
        policy = load_policy(smoke_profile.model)
        output = tmp_path / (folder or softmax)
        trainer = train_recpo(
            policy, smoke_dataset, smoke_profile, output, callbacks=[], max_steps=1, item_softmax=softmax,
            extra_negatives=8 if softmax == "catalogue" else 0,
        )  # fmt: skip
        return losses(trainer)[0], trained_hash(policy)

    (batch, batch_hash), (whole, whole_hash) = first_step("batch"), first_step("catalogue")
    assert batch["reward"] == whole["reward"]
    assert batch["token_loss"] == whole["token_loss"]
    assert batch_hash != whole_hash
    assert whole["item_accuracy"] <= batch["item_accuracy"]  # more to be mistaken for
    with mock.patch.object(trainer_module, "seen_items", lambda seen, targets, n: torch.zeros(len(seen), n) > 0):
        _, unmasked_hash = first_step("catalogue", "unmasked")
    assert unmasked_hash != whole_hash  # what a user has seen is no negative
    with pytest.raises(ValueError, match="item_softmax is 'all', expected one of batch, catalogue"):
        first_step("all")
    with pytest.raises(ValueError, match="set extra_negatives"):
        RecPOConfig(str(tmp_path), num_generations=2, per_device_train_batch_size=2, use_cpu=True, bf16=False,
                    item_softmax="catalogue")  # fmt: skip


def test_chosen_items_and_how_often_they_are_expected():
    share = torch.tensor([0.5, 0.0, 0.2, 0.2, 0.1, 0.0])
    targets = torch.tensor([4, 2, 4])
    ids, log_q = choose_items(targets, share, 3, seed=1)
    assert torch.equal(ids, ids.unique())
    assert set(ids.tolist()) >= {2, 4}
    assert 3 <= len(ids) <= 5
    torch.testing.assert_close(log_q.exp(), 3 * share[ids] + 3 / 6)
    assert torch.equal(ids, choose_items(targets, share, 3, seed=1)[0])
    assert any(not torch.equal(ids, choose_items(targets, share, 3, seed=other)[0]) for other in range(2, 6))
    alone, log_q = choose_items(targets, share, 0, seed=1)
    assert alone.tolist() == [2, 4]
    torch.testing.assert_close(log_q.exp(), 3 * share[alone])
    assert choose_items(targets, share, 99, seed=1)[0].tolist() == list(range(6))  # never more than there are
    drawn = choose_items(targets, share, 2, seed=1, whole_catalogue=True)[0]
    assert torch.equal(drawn, choose_items(targets[:1], share, 2, seed=1, whole_catalogue=True)[0])  # whatever targets
    assert len(drawn) == 2


def test_history_sentences_come_from_the_history_alone():
    items = [
        {"title": "A", "year": 1994, "genres": ["Crime", "Drama"]},
        {"title": "B", "year": 1997, "genres": ["Crime"]},
        {"title": "C", "year": 1985, "genres": ["Comedy", "Horror", "Musical"]},
        {"title": "D", "year": 2010, "genres": ["Western"]},
    ]
    example = {"history": [0, 1, 2], "history_ratings": [5.0, 4.0, 1.0], "target": 3}
    sentences = [history_sentence(example, items, frame) for frame in range(3)]
    assert len(set(sentences)) == 3
    for sentence in sentences:
        assert "Crime" in sentence
        assert "1990s" in sentence
        assert "Western" not in sentence
        assert "2010" not in sentence
    assert sentences == [history_sentence({**example, "target": 0}, items, frame) for frame in range(3)]


def test_make_adapters_saves_both_stages_and_they_load(smoke_profile, smoke_dataset, tmp_path):
    make_adapters(smoke_profile, smoke_dataset, tmp_path)
    folders = {stage: str(tmp_path / f"{stage}-adapter") for stage in ("warmup", "recpo")}
    profile = dataclasses.replace(smoke_profile, adapters=folders)
    hashes = {stage: trained_hash(load_stage(profile, smoke_dataset, stage)) for stage in ("base", "warmup", "recpo")}
    assert len(set(hashes.values())) == 3
    assert (Path(folders["recpo"]) / "log.jsonl").read_text().count("\n") == profile.training.steps
    with pytest.raises(ValueError, match="unknown stage"):
        load_stage(profile, smoke_dataset, "final")


def test_a_closed_reasoning_trains_only_its_sampled_tokens(smoke_profile, smoke_dataset, tmp_path):
    policy = load_policy(smoke_profile.model)
    trainer = train_recpo(policy, smoke_dataset, smoke_profile, tmp_path, callbacks=[], max_steps=1)
    batches: Any = trainer._buffered_inputs
    batch = batches[0]
    sampled, whole = batch["loss_mask"].sum(-1), batch["completion_mask"].sum(-1)
    assert (sampled < whole).any()  # the random model never closes its marker, so one was appended
    assert (sampled <= smoke_profile.rollouts.max_new_tokens).all()
