"""LLaRA: vectors among the words, the curriculum, what learns, runs that go on, and ranking with both."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.llara import (
    HybridTrainer,
    add_item_vectors,
    hybrid_share,
    shows_vectors,
    with_vectors,
)
from rrec_lib.baselines.generative.title_runs import title_recommender, true_titles
from rrec_lib.baselines.generative.titles import title_prompts
from rrec_lib.baselines.registry import Means, Splits
from rrec_lib.core.profiles import override
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training.callbacks import StopOnValid
from rrec_lib.training.configuration import warmup_arguments
from rrec_lib.training.loop import run_in
from rrec_lib.training.packed_sequences import with_common_start

SIZE = 6  # of the sequence model's vectors


def sequence_vectors(items):
    return torch.randn(len(items), SIZE, generator=torch.Generator().manual_seed(7))


def embedding_of(policy) -> Any:
    return language_model(policy.model).get_input_embeddings()


def add(policy, items):
    return add_item_vectors(policy, sequence_vectors(items), seed=0)


def trainer_of(policy, profile, items, examples, folder, curriculum_steps, **overrides):
    arguments = warmup_arguments(profile, folder, **{"max_steps": 4, "save_steps": 2, **overrides})
    answers = true_titles(policy, examples, items)
    vectors = embedding_of(policy).items
    return HybridTrainer(
        policy, arguments, profile, items, answers, answers, None, vectors=vectors, curriculum_steps=curriculum_steps
    )


def shake(policy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return policy


def hybrid_policy(profile, items):
    """With vectors, and LoRA that is not the identity."""
    policy = load_policy(profile.model)
    add(policy, items)
    return shake(policy)


def test_words_stay_and_items_are_projected(of_family, items, train):
    (prompt,) = title_prompts(of_family.tokenizer, train[:1], items)
    embedding = of_family.model.get_input_embeddings()
    before = embedding(torch.tensor([prompt]))
    added = add(of_family, items)
    assert torch.equal(embedding(torch.tensor([prompt])), before)
    (both,) = title_prompts(of_family.tokenizer, train[:1], with_vectors(items))
    ids = torch.tensor(both)
    found, is_item = embedding(ids), ids >= added.first
    assert (ids[is_item] - added.first).tolist() == train[0]["history"]
    torch.testing.assert_close(found[is_item], added.projector(sequence_vectors(items)[train[0]["history"]]))
    assert torch.equal(found[~is_item], embedding(ids[~is_item]))
    assert embedding.weight.shape[0] == of_family.model.get_output_embeddings().weight.shape[0]  # no item is written


def test_a_title_is_followed_by_its_items_vector(of_family, items, train):
    added = add(of_family, items)
    ids = title_prompts(of_family.tokenizer, train[:3], with_vectors(items))
    for example, row in zip(train, ids, strict=False):
        text = of_family.tokenizer.decode(row)
        for item in example["history"]:
            assert f"{items[item]['title']} ({items[item]['year']})<|item-{item}|>, " in text
    assert all(max(row) < added.first for row in title_prompts(of_family.tokenizer, train[:3], items))


@pytest.mark.parametrize("targets", [1, 4])
def test_the_loss_of_packed_rows_is_that_of_prompts_one_by_one(
    of_family, smoke_profile, train, items, tmp_path, targets
):
    """Several rows in a pass against input embeddings one at a time, with nothing packed or padded."""
    add(of_family, items)
    profile = override(smoke_profile, "warmup.targets_per_user", targets)
    trainer = trainer_of(of_family, profile, items, train[:6], tmp_path, 0)
    packed = list(trainer.train_dataset)
    assert any(len(rows) > 1 for rows in packed) == (targets > 1)
    with torch.no_grad():
        found = trainer.loss_of(trainer.model, trainer.train_answers, packed)
    losses, tokenizer, embedding = [], of_family.tokenizer, of_family.model.get_input_embeddings()
    for rows in packed:
        aligned = with_common_start([train[row] for row in rows])
        for row, prompt in zip(rows, title_prompts(tokenizer, aligned, with_vectors(items)), strict=True):
            ids = tokenizer(trainer.train_answers.titles[row][0], add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                embedded = embedding(torch.tensor([[*prompt, *ids]]))
                logits = of_family.model(inputs_embeds=embedded).logits[0, len(prompt) - 1 : -1]
            losses += torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="none").tolist()
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_projector_learns_through_frozen_layers_and_the_vectors_do_not(smoke_profile, train, items, tmp_path):
    profile = override(smoke_profile, "model.lora_layers", 1)  # of two
    policy = hybrid_policy(profile, items)
    trainer = trainer_of(policy, profile, items, train[:4], tmp_path, 0)
    model, rows, added = trainer.model, [[0], [1], [2], [3]], trainer.vectors
    trainer.loss_of(model, trainer.train_answers, rows).backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(parameter.grad.abs().max() > 0 for parameter in added.projector.parameters())
    assert learning == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if "lora" not in name} == {
        f"base_model.model.model.embed_tokens.items.projector.{layer}.{kind}"
        for layer in (0, 2) for kind in ("weight", "bias")
    }  # fmt: skip
    assert not added.vectors.requires_grad
    assert torch.equal(added.vectors, sequence_vectors(items))
    model.zero_grad()
    trainer.items = items  # titles alone
    trainer.loss_of(model, trainer.train_answers, rows).backward()
    assert all(parameter.grad is None for parameter in added.projector.parameters())


def test_the_share_of_steps_with_vectors_grows_to_one():
    assert [hybrid_share(step, 4) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert hybrid_share(0, 0) == 1
    drawn = np.array([[shows_vectors(seed, step, 40) for step in range(60)] for seed in range(300)])
    assert not drawn[:, 0].any()
    assert drawn[:, 40:].all()
    share = np.array([hybrid_share(step, 40) for step in range(60)])
    assert np.abs(drawn.mean(0) - share).max() < 4 * 0.5 / np.sqrt(300)
    assert (drawn[0] == [shows_vectors(0, step, 40) for step in range(60)]).all()
    assert (drawn[0] != drawn[1]).any()


def run(profile, train, items, folder, curriculum_steps, dies_at=None, stop=False):
    """Train for four steps; the weights, losses, what each step showed, and the trainer."""
    policy = load_policy(profile.model)
    add(policy, items)
    trainer = trainer_of(policy, profile, items, train, folder, curriculum_steps)
    compute, showed = trainer.loss_of, {}

    def dying(model, answers, rows):
        if model.training:
            if trainer.state.global_step == dies_at:
                raise KeyboardInterrupt
            showed[trainer.state.global_step] = trainer.items is not trainer.plain
        return compute(model, answers, rows)

    trainer.loss_of = dying
    judge = StopOnValid(trainer.valid_score, 2, 1e6, name="minus_valid_loss") if stop else None
    run_in(folder, trainer, judge, {"run": "test"})
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return weights_hash(policy.model, only_trainable=True), losses, showed, trainer


@pytest.mark.parametrize("rank", [4, pytest.param(0, marks=pytest.mark.slow)])
def test_a_run_that_was_broken_off_ends_as_if_nothing_had_happened(smoke_profile, train, items, tmp_path, rank):
    """With LoRA and with all weights trained; behind the break a step with vectors, then one without."""
    profile, steps = override(smoke_profile, "model.lora_rank", rank), 4
    whole, losses, showed, _ = run(profile, train, items, tmp_path / "whole", steps)
    assert showed == {0: False, 1: False, 2: True, 3: False}
    with pytest.raises(KeyboardInterrupt):
        run(profile, train, items, tmp_path / "broken", steps, dies_at=3)
    again, *rest, trainer = run(profile, train, items, tmp_path / "broken", steps)
    assert (again, rest) == (whole, [losses, {2: True, 3: False}])
    assert trainer.items is not trainer.plain
    assert run(profile, train, items, tmp_path / "broken", steps)[0] == whole  # over, and only loaded
    assert run(profile, train, items, tmp_path / "other", 0)[0] != whole


def test_the_best_weights_have_the_projector(smoke_profile, train, items, tmp_path):
    few = train[:4]
    _, _, _, trainer = run(smoke_profile, few, items, tmp_path, 0, stop=True)
    best = load_file(tmp_path / "best.safetensors")
    projector = {name.rpartition("projector.")[2]: value for name, value in best.items() if "projector" in name}
    assert len(projector) == 4
    for name, value in trainer.vectors.projector.state_dict().items():
        assert torch.equal(value, projector[name])


@pytest.fixture
def splits(smoke_profile, smoke_dataset, tmp_path):
    return Splits.of(smoke_dataset, Means(smoke_profile, tmp_path, beams=None))


def test_ranking_takes_vectors_exactly_or_by_beams(splits, items):
    policy = hybrid_policy(splits.means.profile, items)
    recommender = title_recommender(policy, splits, told=with_vectors(items))
    rows = splits.valid[:4]
    scores = recommender.scores(rows)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(4), atol=1e-4, rtol=0)
    wide = replace(recommender, width=len(items), batch_tokens=1)  # a prompt at a time
    torch.testing.assert_close(wide.scores(rows), scores, atol=1e-4, rtol=1e-4)
    embedding = embedding_of(policy)
    with policy.inference():
        embedded = [embedding(torch.tensor(prompt)) for prompt in recommender.prompts(rows)]
        alone = catalogue_scores(policy.model, recommender.trie, embedded)
    torch.testing.assert_close(alone, scores, atol=1e-4, rtol=1e-4)
    titles_alone = title_recommender(policy, splits)
    before = titles_alone.scores(rows)
    embedding.items.vectors.neg_()
    assert (recommender.scores(rows) - scores).abs().max() > 1e-3
    assert torch.equal(titles_alone.scores(rows), before)
