"""The warm-up on a tiny random model: what a step teaches, worked out by hand."""

import dataclasses

import pytest
import torch
from datasets import DatasetDict

from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table
from rrec_lib.model.packing import pack, packed_forward
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.model.prompts import encode_users, marker_ids
from rrec_lib.recpo.step_items import choose_items, step_seed
from rrec_lib.training.packed_sequences import successive_targets, with_common_start
from rrec_lib.training.stages import warm_up


def trained_hash(policy: Policy) -> str:
    return weights_hash(policy.model, only_trainable=True)


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
    groups, real = trainer.pack_targets([long, short])
    assert real.tolist() == [True] * 6 + [False] * 2
    together = packed_forward(trainer.model, groups)
    for block, first in ((long, 0), (short, 4)):
        for number, example in enumerate(with_common_start(block)):
            ids = encode_users(trainer.policy.tokenizer, [example], trainer.items)[0]
            ending = trainer.policy.tokenizer(trainer.endings(block)[number], add_special_tokens=False)["input_ids"]
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
    examples = [e for block in next(iter(trainer.get_train_dataloader()))["successive"] for e in block]
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
    blocks = next(iter(trainer.get_train_dataloader()))["successive"]
    aligned = [e for block in blocks for e in with_common_start(block)]
    marker = marker_ids(policy.tokenizer)
    users = encode(policy, [prompt + marker for prompt in encode_users(policy.tokenizer, aligned, items)])
    targets = torch.tensor([e["target"] for e in aligned])
    ids, log_q = choose_items(targets, trainer.target_share, 5, step_seed(0, 0))
    logits = score_items(users, item_table(policy, items)[ids], profile.reward.temperature) - log_q

    def loss(excluded):
        kept = mask_items(torch.zeros(len(aligned), len(items)), excluded, targets)[:, ids]
        return torch.nn.functional.cross_entropy(logits + kept, torch.searchsorted(ids, targets)).item()

    seen = [e["seen"] for e in aligned]
    mates = [[e["target"] for e in block] for block in blocks for _ in block]
    assert found == pytest.approx(loss([a + b for a, b in zip(seen, mates, strict=True)]), rel=1e-4)
    assert abs(found - loss(seen)) > 1e-3
    assert abs(loss(seen) - loss([[]] * len(aligned))) > 1e-3
