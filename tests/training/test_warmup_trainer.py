"""The warm-up on a tiny random model: what a step teaches, worked out by hand."""

import dataclasses

import pytest
import torch
from datasets import DatasetDict

from rrec_lib.core.profiles import override
from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.model import frozen_states
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table
from rrec_lib.model.packing import pack, packed_forward
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.model.prompts import MARKER, encode_users, marker_ids
from rrec_lib.model.ragged import ragged_forward, ragged_rows
from rrec_lib.recpo.step_items import choose_items
from rrec_lib.training.callbacks import SAVED, TARGETS
from rrec_lib.training.packed_sequences import successive_targets, with_common_start
from rrec_lib.training.skills import parse
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


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_targets_that_share_a_row_teach_what_they_teach_apart(smoke_profile, smoke_dataset, tmp_path, share):
    """A row of four targets and a shorter one give the states and log-probabilities of their prompts one by one."""
    settings = dataclasses.replace(smoke_profile.warmup, token_share=share, targets_per_user=4)
    profile = dataclasses.replace(smoke_profile, warmup=settings)
    trainer = warmed(profile, smoke_dataset, tmp_path, max_steps=1)
    train, tokenizer = list(smoke_dataset["train"]), trainer.policy.tokenizer
    packed = successive_targets(train, 4)
    batch = [[train[i] for i in next(rows for rows in packed if len(rows) == size)] for size in (4, 2)]
    rows = [trainer.row(successive) for successive in batch]
    with torch.no_grad(), ragged_rows(trainer.model):
        together = ragged_forward(trainer.model, rows)
    predicted = torch.cat([row.predicted for row in rows])
    apart, learned = [], []
    for successive in batch:
        aligned = zip(with_common_start(successive), trainer.endings(successive), strict=True)
        for example, ending in aligned:
            ids, ending = encode_users(tokenizer, [example], trainer.items), tokenizer(ending)["input_ids"]
            groups = pack(ids, [ending], [len(ending)], 0, torch.device("cpu"))
            with torch.no_grad():
                apart.append(packed_forward(trainer.model, groups))
            learned.append(len(ending))
    torch.testing.assert_close(together.states, torch.cat([one.states for one in apart]), atol=1e-4, rtol=1e-4)
    if share == 1:
        logprobs = together.logits.log_softmax(-1)[torch.arange(len(predicted)), predicted]
        torch.testing.assert_close(logprobs, torch.cat([one.logprobs[0] for one in apart]), atol=1e-4, rtol=1e-4)
    every = {0.0: 0, 0.5: 2, 1.0: 1}[share]
    assert len(predicted) == (sum(learned[::every]) if every else 0)


def test_skills_take_turns_over_targets_and_epochs(smoke_profile, smoke_dataset, tmp_path):
    trainer = warmed(smoke_profile, smoke_dataset, tmp_path, max_steps=1)
    train = list(smoke_dataset["train"])
    successive = [train[i] for i in max(successive_targets(train, 6), key=len)]

    def skills():
        found = [parse(ending.removesuffix(f"\n{MARKER}")) for ending in trainer.endings(successive)]
        assert None not in found
        return [pair[0] for pair in found if pair]

    first = skills()
    assert len(set(first)) > 1
    trainer.state.epoch = 1.5
    assert skills() != first
    trainer.state.epoch = 3.0  # three skills: the turn comes again
    assert skills() == first
    trainer.texts = []
    assert trainer.endings(successive) == [MARKER] * len(successive)


def test_what_frozen_layers_make_of_rows_is_kept_and_changes_nothing(
    smoke_profile, smoke_dataset, tmp_path, monkeypatch
):
    """Two epochs with files, without, and with a folder too small for any end in the same bits."""
    profile = override(override(smoke_profile, "model.lora_layers", 1), "warmup.skills", ["taste"])
    few = DatasetDict({**smoke_dataset, "train": smoke_dataset["train"].select(range(8))})
    computed: list[int] = []
    saved: list[float] = []

    def trained(folder, name):
        computed.clear()
        original = frozen_states.ragged_hidden
        monkeypatch.setattr(frozen_states, "ragged_hidden", lambda *a: computed.append(1) or original(*a))
        policy = load_policy(profile.model)
        trainer = warm_up(policy, few, profile, tmp_path / name, max_steps=6, frozen=folder)
        monkeypatch.setattr(frozen_states, "ragged_hidden", original)
        last = [row for row in trainer.state.log_history if TARGETS in row][-1]
        saved.append(last.get(SAVED, 0.0))
        return trained_hash(policy), len(computed)

    kept, first = trained(tmp_path / "frozen", "first")
    files = list((tmp_path / "frozen").rglob("*.safetensors"))
    assert len(files) == first
    assert trained(tmp_path / "frozen", "again") == (kept, 0)
    assert 0 < saved[0] < saved[1]  # the second run reads the first epoch's rows as well
    nowhere, each = trained(None, "nowhere")
    assert saved[2] == 0
    assert (nowhere, each > first) == (kept, True)
    monkeypatch.setattr(frozen_states, "LIMIT_GB", 1e-9)
    assert trained(tmp_path / "little", "full") == (kept, each)
    assert not list(tmp_path.glob("little/**/*.safetensors"))


def test_the_softmax_over_the_catalogue_has_every_ranked_item_as_a_negative(smoke_profile, smoke_dataset, tmp_path):
    """With a fresh table the first step's item loss is the cross-entropy over all items but what the user has seen."""

    def first_item_loss(softmax):
        training = dataclasses.replace(smoke_profile.training, item_softmax=softmax)
        settings = dataclasses.replace(smoke_profile.warmup, skills=(), item_negatives=5)
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
    settings = dataclasses.replace(smoke_profile.warmup, skills=(), item_negatives=5, targets_per_user=4)
    profile = dataclasses.replace(smoke_profile, warmup=settings)
    trainer = warm_up(load_policy(profile.model), smoke_dataset, profile, tmp_path, max_steps=1)
    found = next(row["item_loss"] for row in trainer.state.log_history if "item_loss" in row)
    policy, items = load_policy(profile.model), list(smoke_dataset["items"])
    blocks = next(iter(trainer.get_train_dataloader()))["successive"]
    aligned = [e for block in blocks for e in with_common_start(block)]
    marker = marker_ids(policy.tokenizer)
    users = encode(policy, [prompt + marker for prompt in encode_users(policy.tokenizer, aligned, items)])
    targets = torch.tensor([e["target"] for e in aligned])
    ids, log_q = choose_items(targets, trainer.target_share, 5, 0, 0)
    logits = score_items(users, item_table(policy, items)[ids], profile.reward.temperature) - log_q

    def loss(excluded):
        kept = mask_items(torch.zeros(len(aligned), len(items)), excluded, targets)[:, ids]
        return torch.nn.functional.cross_entropy(logits + kept, torch.searchsorted(ids, targets)).item()

    seen = [e["seen"] for e in aligned]
    mates = [[e["target"] for e in block] for block in blocks for _ in block]
    assert found == pytest.approx(loss([a + b for a, b in zip(seen, mates, strict=True)]), rel=1e-4)
    assert abs(found - loss(seen)) > 1e-3
    assert abs(loss(seen) - loss([[]] * len(aligned))) > 1e-3


def test_a_log_says_what_was_spent_on_how_many_targets(smoke_profile, smoke_dataset, tmp_path):
    settings = dataclasses.replace(smoke_profile.warmup, targets_per_user=4)
    trainer = warmed(dataclasses.replace(smoke_profile, warmup=settings), smoke_dataset, tmp_path, max_steps=3)
    rows = [row for row in trainer.state.log_history if "loss" in row]
    seconds, targets = ([row[name] for row in rows] for name in ("cpu_seconds", "targets"))
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    batches = [batch["successive"] for batch in trainer.get_train_dataloader()][:3]
    assert targets == [sum(len(row) for batch in batches[:n] for row in batch) for n in (1, 2, 3)]


def test_what_runs_share_is_deleted_once_all_have_ended_well(tmp_path):
    folder = tmp_path / "frozen"

    def run(ends):
        with frozen_states.kept_frozen(tmp_path) as shared:
            assert shared == folder
            folder.mkdir(exist_ok=True)
            ends()

    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(killed)
    assert folder.is_dir()  # what was computed is there for the run that goes on
    run(lambda: run(lambda: None) or folder.joinpath("row").touch())  # locks are of opened files, not of processes
    assert not folder.exists()
