"""Training on titles: the losses against TRL's and by hand, what is learned, and runs that go on."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from rrec_lib.baselines.generative.sdpo import preference
from rrec_lib.baselines.generative.title_runs import true_titles, with_negatives
from rrec_lib.baselines.generative.title_trainer import Answers, TitleTrainer
from rrec_lib.baselines.generative.titles import TITLE_INSTRUCTION, title_prompts
from rrec_lib.core.profiles import override
from rrec_lib.model import frozen_states
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.model.prompts import item_name, render, user_messages
from rrec_lib.training.configuration import warmup_arguments
from rrec_lib.training.loop import run_in

LOSS = partial(preference, beta=0.5)
QUIET: dict[str, Any] = {
    "bf16": False, "use_cpu": True, "report_to": "none", "gradient_checkpointing": False, "max_length": None,
}  # fmt: skip


def trainer_of(policy, profile, items, answers, folder, loss=None, **overrides):
    arguments = warmup_arguments(profile, folder, **{"max_steps": 4, "save_steps": 2, **overrides})
    return TitleTrainer(policy, arguments, profile, items, answers, answers, loss)


def shaken(profile):
    """A policy whose LoRA is not the identity."""
    policy = load_policy(profile.model)
    return shake(policy)


def shake(policy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return policy


@pytest.mark.parametrize("targets", [1, 4])
def test_the_supervised_loss_is_the_mean_over_the_titles_tokens(
    of_family, smoke_profile, train, items, tmp_path, targets
):
    """Of each family, of several targets in a row, against prompts and titles one by one."""
    profile = override(smoke_profile, "warmup.targets_per_user", targets)
    answers = true_titles(of_family, train[:6], items)
    trainer = trainer_of(of_family, profile, items, answers, tmp_path)
    packed = [[row] for row in range(6)]
    with torch.no_grad():
        found = trainer.loss_of(trainer.model, answers, packed)
    losses = []
    for prompt, (title,) in zip(title_prompts(of_family.tokenizer, train[:6], items), answers.titles, strict=True):
        ids = of_family.tokenizer(title, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = of_family.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        losses += torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="none").tolist()
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-4)


def texts(policy, examples, items):
    """Prompts as text, for TRL."""
    messages = [user_messages(example, items, instruction=TITLE_INSTRUCTION) for example in examples]
    return [render(policy.tokenizer, one) for one in messages]


def test_the_supervised_loss_is_that_of_trl(smoke_profile, train, items, tmp_path):
    examples = train[:4]
    answers = true_titles(load_policy(smoke_profile.model), examples, items)
    ours = trainer_of(shaken(smoke_profile), smoke_profile, items, answers, tmp_path / "ours")
    policy = shaken(smoke_profile)
    completions = [title for (title,) in answers.titles]
    data = Dataset.from_dict({"prompt": texts(policy, examples, items), "completion": completions})
    arguments = SFTConfig(str(tmp_path / "trl"), max_steps=1, per_device_train_batch_size=4, logging_steps=1, **QUIET)
    theirs = SFTTrainer(policy.model, arguments, train_dataset=data, processing_class=policy.tokenizer)
    theirs.train()
    loss = ours.loss_of(ours.model, answers, [[0], [1], [2], [3]])
    assert loss.item() == pytest.approx(theirs.state.log_history[0]["loss"], rel=1e-3)


def test_the_preference_loss_of_one_rejected_title_is_trls_dpo(smoke_profile, train, items, tmp_path):
    examples, beta = train[:4], 0.5
    answers = with_negatives(load_policy(smoke_profile.model), examples, items, 1, seed=0)
    ours = trainer_of(shaken(smoke_profile), smoke_profile, items, answers, tmp_path / "ours", LOSS)
    policy = shaken(smoke_profile)
    chosen, rejected = zip(*answers.titles, strict=True)
    columns = {"prompt": texts(policy, examples, items), "chosen": list(chosen), "rejected": list(rejected)}
    arguments = DPOConfig(str(tmp_path / "trl"), beta=beta, per_device_train_batch_size=4, **QUIET)
    theirs = DPOTrainer(
        policy.model, args=arguments, train_dataset=Dataset.from_dict(columns), processing_class=policy.tokenizer
    )
    with torch.no_grad():  # away from the reference, both by the same
        for (_, own), (_, other) in zip(
            [pair for pair in ours.model.named_parameters() if pair[1].requires_grad],
            [pair for pair in policy.model.named_parameters() if ".default." in pair[0]], strict=True,
        ):  # fmt: skip
            own += 0.05 * torch.sin(torch.arange(own.numel())).view_as(own)
            other += 0.05 * torch.sin(torch.arange(own.numel())).view_as(own)
    prepared: Any = theirs.train_dataset
    batch = theirs.data_collator([prepared[row] for row in range(4)])
    expected = theirs.compute_loss(policy.model, batch).item()
    found = ours.loss_of(ours.model, answers, [[0], [1], [2], [3]]).item()
    assert found == pytest.approx(expected, rel=1e-3)
    assert abs(found - np.log(2)) > 1e-3  # which it would be at the reference


def test_titles_that_share_a_row_have_their_own_losses(smoke_profile, train, items, tmp_path):
    """Three rejected titles behind one prompt, against the titles one at a time."""
    policy, count = shaken(smoke_profile), 3
    answers = with_negatives(policy, train[:5], items, count, seed=0)
    sums = []

    def keep(logprobs, reference):
        sums.append(logprobs)
        return logprobs.sum()

    trainer = trainer_of(policy, smoke_profile, items, answers, tmp_path, keep)
    packed = [[row] for row in range(5)]
    trainer.loss_of(trainer.model, answers, packed)
    assert sums[0].shape == (5, 1 + count)
    for place in range(1 + count):
        alone = Answers(answers.examples, [[titles[place]] for titles in answers.titles])
        trainer.loss_of(trainer.model, alone, packed)
        torch.testing.assert_close(sums[-1][:, 0], sums[0][:, place], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("loss", [None, LOSS])
def test_training_lowers_the_loss_and_valid_says_so(smoke_profile, train, items, tmp_path, loss):
    policy = load_policy(smoke_profile.model)
    few = train[:4]
    answers = with_negatives(policy, few, items, 2, seed=0) if loss else true_titles(policy, few, items)
    trainer = trainer_of(policy, smoke_profile, items, answers, tmp_path, loss, max_steps=24, learning_rate=1e-2)
    before = trainer.valid_score()
    run_in(tmp_path, trainer, None, {"run": "test"})
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[0] == pytest.approx(-before, rel=1e-3)
    assert losses[-1] < 0.98 * losses[0]
    assert -trainer.valid_score() < losses[0]
    if loss:
        assert losses[0] == pytest.approx(np.log(3), rel=1e-4)  # −log σ(−log 2): at the reference, two rejected titles


def test_what_frozen_layers_make_of_valid_is_computed_once(smoke_profile, train, items, tmp_path, monkeypatch):
    profile = override(smoke_profile, "model.lora_layers", 1)
    policy = shaken(profile)
    one, other = (true_titles(policy, rows, items) for rows in (train[:4], train[4:8]))
    arguments = warmup_arguments(profile, tmp_path / "run", per_device_train_batch_size=4)
    trainer: Any = TitleTrainer(policy, arguments, profile, items, one, other)
    value = trainer.valid_score()
    with torch.no_grad():
        assert trainer.loss_of(trainer.model, other, [[0], [1], [2], [3]]).item() == pytest.approx(-value, rel=1e-5)
    monkeypatch.setattr(frozen_states, "ragged_hidden", None)
    assert trainer.valid_score() == value
    with pytest.raises(TypeError):
        trainer.loss_of(trainer.model, one, [[0]])


@pytest.mark.parametrize("loss", [None, LOSS])
def test_a_run_that_was_broken_off_ends_as_if_nothing_had_happened(smoke_profile, train, items, tmp_path, loss):
    def run(folder, dies_at=None):
        policy = load_policy(smoke_profile.model)
        answers = with_negatives(policy, train, items, 2, seed=0) if loss else true_titles(policy, train, items)
        trainer = trainer_of(policy, smoke_profile, items, answers, folder, loss)
        compute = trainer.compute_loss

        def dying(*args, **kwargs):
            if trainer.state.global_step == dies_at:
                raise KeyboardInterrupt
            return compute(*args, **kwargs)

        trainer.compute_loss = dying
        run_in(folder, trainer, None, {"run": "test"})
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        return weights_hash(policy.model, only_trainable=True), losses

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", dies_at=3)
    assert run(tmp_path / "broken") == whole
    assert len(whole[1]) == 4
    assert len(set(whole[1])) >= 3  # the first step's rate is 0


def test_rejected_titles_are_unseen_and_others_than_the_target(smoke_profile, train, items):
    policy, liked = load_policy(smoke_profile.model), items[train[0]["target"]]
    twin = [*items[:-1], {**items[-1], "title": liked["title"], "year": liked["year"]}]
    answers = with_negatives(policy, train, twin, 5, seed=0)
    rows_of: dict[str, set[int]] = {}
    for row, item in enumerate(twin):
        rows_of.setdefault(f"{item_name(item)}{policy.tokenizer.eos_token}", set()).add(row)
    assert len(answers.examples) == len(answers.titles) > 0.9 * len(train)
    for example, (true, *rejected) in zip(answers.examples, answers.titles, strict=True):
        assert true == f"{item_name(twin[example['target']])}{policy.tokenizer.eos_token}"
        assert len(rejected) == 5
        assert true not in rejected
        assert all(rows_of[title] - set(example["seen"]) for title in rejected)
    assert with_negatives(policy, train, twin, 5, seed=0) == answers
    assert with_negatives(policy, train, twin, 5, seed=1) != answers
    all_seen = [{**train[0], "seen": list(range(len(twin)))}, {**train[0], "seen": list(range(2, len(twin)))}]
    few = with_negatives(policy, all_seen, twin, 5, seed=0)
    assert few.examples == all_seen[1:]
    assert len(few.titles[0]) == 6
    assert len(set(few.titles[0][1:])) <= 2
