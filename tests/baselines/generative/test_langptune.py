"""LangPTune on the smoke profile: rewards and regression by hand, who learns in which turn, runs that go on."""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch

from rrec_lib.baselines.generative import langptune, profile_encoder, profile_writer, title_runs
from rrec_lib.baselines.generative.langptune import LangPTune, regression, whitened
from rrec_lib.baselines.generative.profile_encoder import EncoderTrainer, profile_ids, profile_rewards
from rrec_lib.baselines.generative.profile_writer import (
    PROFILE_INSTRUCTION,
    profile_prompts,
    round_profiles,
    sampled_profiles,
    write_profiles,
)
from rrec_lib.baselines.generative.title_trainer import Answers, TitleTrainer
from rrec_lib.baselines.generative.titles import Written, write
from rrec_lib.baselines.registry import Means, Splits
from rrec_lib.core.profiles import override
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.training import callbacks
from rrec_lib.training.configuration import warmup_arguments
from rrec_lib.training.loop import run_in

STEPS = 2 / 3600  # hours of a turn, where a step takes a second


@pytest.fixture
def splits(smoke_profile, smoke_dataset, tmp_path):
    splits = Splits.of(smoke_dataset, Means(smoke_profile, tmp_path, 4 * STEPS, every=2))
    return replace(splits, train=splits.train[:8], valid=splits.valid[:3])


def shaken(profile, seed=0):
    """A policy whose LoRA is not the identity."""
    policy, generator = load_policy(profile.model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return policy


def trained(policy: Policy) -> str:
    return weights_hash(policy.model, only_trainable=True)


def test_a_profile_earns_the_ndcg_of_the_next_item_among_the_unseen(monkeypatch):
    nobody, items = cast(Any, None), cast(Any, [{}] * 4)
    encoded = torch.tensor([[1.0, 0], [2, 2], [2, 2], [0, 1]])
    states = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 1]])
    monkeypatch.setattr(profile_encoder, "profile_states", lambda *_: states)
    examples: Any = [{"target": 0, "seen": []}, {"target": 1, "seen": [3]}]
    profiles = Answers(examples, [["a", "b"], ["c", "d"]])
    second, fourth = 1 / torch.tensor(3.0).log2().item(), 1 / torch.tensor(5.0).log2().item()
    shared = (second + 0.5) / 2  # 1 and 2 are one: places 2 and 3 behind 0, or 1 and 2
    expected = torch.tensor([[1, fourth], [shared, (1 + second) / 2]])
    torch.testing.assert_close(profile_rewards(nobody, profiles, items, encoded), expected)


def test_the_regression_by_hand_and_its_gradient():
    logprobs = torch.tensor([[-1.0, -3], [-2, -2]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-2.0, -3], [-2, -1]], dtype=torch.float64)
    rewards = torch.tensor([[0.5, 1.0], [2.0, 0.0]], dtype=torch.float64)
    loss = regression(logprobs, reference, rewards, 0.5)  # (1/0.5 + 0.5)² and (1/0.5 − 2)²
    assert loss.item() == pytest.approx((2.5**2 + 0) / 2)
    loss.backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[5.0, -5], [0, 0]], dtype=torch.float64))


def test_rewards_are_divided_by_the_spread_of_training():
    learned, judged = whitened(torch.tensor([[1.0, 3], [3, 1]]), torch.tensor([[0.5, 0]]))
    assert learned == [pytest.approx([1, 3]), pytest.approx([3, 1])]
    assert judged == [pytest.approx([0.5, 0])]
    assert whitened(torch.zeros(2, 2), torch.zeros(1, 2)) == ([[0, 0]] * 2, [[0, 0]])  # all alike: nothing to learn


def test_greedy_profiles_are_those_of_generate_and_samples_follow_their_seed(splits):
    policy = shaken(splits.means.profile)
    prompts = profile_prompts(policy, splits.valid, splits.items)
    alone = write_profiles(policy, prompts, 8, 2)
    assert [one for (one,) in alone] == write(policy, prompts, 8)
    pairs = write_profiles(policy, prompts, 8, 4, count=2, temperature=1.0, top_k=9, seed=1)
    assert pairs == write_profiles(policy, prompts, 8, 4, count=2, temperature=1.0, top_k=9, seed=1)
    assert pairs != write_profiles(policy, prompts, 8, 4, count=2, temperature=1.0, top_k=9, seed=2)
    assert all(len(pair) == 2 for pair in pairs)
    assert any(first != second for first, second in pairs)


def test_rebel_makes_the_better_rewarded_profile_likelier(splits, tmp_path):
    policy, seen = load_policy(splits.means.profile.model), []
    end, rows = policy.tokenizer.eos_token, splits.train[:4]
    texts = [[f"Likes drama.{end}", "Hates war films and"] for _ in rows]
    rewards = [[1.0, 0.0] if number % 2 else [0.0, 2.0] for number in range(4)]
    answers = Answers(rows, texts, rewards, PROFILE_INSTRUCTION)

    def kept(logprobs, reference, rewards):
        seen.append((logprobs - reference).detach())
        return regression(logprobs, reference, rewards, 1.0)

    arguments = warmup_arguments(splits.means.profile, tmp_path / "run", max_steps=16, learning_rate=1e-2)
    trainer = TitleTrainer(policy, arguments, splits.means.profile, splits.items, answers, answers, kept)
    assert -trainer.valid_score() == pytest.approx((1 + 4) / 2)  # nothing has moved
    assert seen[0].abs().max() < 1e-5
    run_in(tmp_path / "run", trainer, None, {"run": "test"})
    assert -trainer.valid_score() < 2
    seen.clear()
    trainer.loss_of(policy.model, answers, [[row] for row in range(4)])
    gained = seen[0][:, 0] - seen[0][:, 1]
    assert gained[1::2].mean() > gained[::2].mean()


def encoder_trainer(policy, splits, folder, profile=None, **overrides):
    profile = profile or splits.means.profile
    texts = [[f"Likes film {row['target']}.", f"{row['target']}"] for row in splits.train]
    train, valid = Answers(splits.train, texts), Answers(splits.valid, [["Likes all."]] * len(splits.valid))
    arguments = warmup_arguments(profile, folder, **{"max_steps": 16, "learning_rate": 1e-2, **overrides})
    return EncoderTrainer(policy, arguments, profile, splits.items, train, valid)


def test_the_encoder_reads_profiles_alone_and_learns(splits, tmp_path, alone):
    profile = override(splits.means.profile, "warmup.targets_per_user", 3)
    policy = load_policy(profile.model)
    trainer = encoder_trainer(policy, splits, tmp_path, profile)
    assert len(trainer.train_dataset) >= 2 * len(splits.train) / 3
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    found = [trainer.frozen.states(policy, trainer.row(successive)) for successive in batch["successive"]]
    profiles = [row["profile"] for successive in batch["successive"] for row in successive]
    with torch.no_grad():
        expected = alone(policy.model, profile_ids(policy.tokenizer, profiles, splits.items))
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-4, rtol=1e-4)
    run_in(tmp_path, trainer, None, {"run": "test"})
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    assert 0 < trainer.valid_score() <= 1


def test_equal_items_and_equal_profiles_tie_and_targets_are_not_looked_at(splits):
    items = [splits.items[0], *splits.items]
    model = LangPTune(shaken(splits.means.profile), shaken(splits.means.profile, 1), items, 8)
    scores = model.scores(splits.valid)
    assert scores.shape == (len(splits.valid), len(items))
    assert torch.equal(scores[:, 0], scores[:, 1])
    assert len(scores[0].unique()) > len(items) // 2
    moved = [{**row, "target": (row["target"] + 1) % len(items)} for row in splits.valid]
    assert torch.equal(model.scores(moved), scores)


@pytest.fixture
def by_steps(monkeypatch):
    """A step takes a second, and writing no time, so that budgets end runs at fixed steps."""

    def write_fast(policy, prompts, *how):
        return [[Written(f"Likes {sum(prompt) % number}.", number == 7) for number in (7, 9)] for prompt in prompts]

    now = iter(range(10**6))
    monkeypatch.setattr(profile_writer, "write_profiles", write_fast)
    monkeypatch.setattr(callbacks, "spent", lambda: next(now) / 2)
    monkeypatch.setattr(langptune, "hours_left", lambda hours, *_: hours)


def test_in_each_turn_one_of_the_two_learns(splits, by_steps, monkeypatch):
    policies, turns = list[Policy](), list[tuple[str, list[bool], bool]]()

    def loaded(*args):
        policies.append(load_policy(*args))
        return policies[-1]

    def watched(name, train):
        def turn(policy, *args, **kwargs):
            before = [trained(one) for one in policies]
            result = train(policy, *args, **kwargs)
            changed = [trained(one) != was for one, was in zip(policies, before, strict=True)]
            other = next(one for one in policies if one is not policy)
            turns.append((name, changed, any(p.grad is not None for p in other.model.parameters())))
            return result

        return turn

    monkeypatch.setattr(langptune, "load_policy", loaded)
    for name in ("train_encoder", "train_titles"):
        monkeypatch.setattr(langptune, name, watched(name, getattr(langptune, name)))
    better = iter(range(100))
    for trainer in (TitleTrainer, EncoderTrainer):
        monkeypatch.setattr(trainer, "valid_score", lambda self: float(next(better)))
    model = langptune.fit(splits, 0, rounds=2)
    assert policies == [model.writer, model.encoder]
    encoder, writer = ("train_encoder", [False, True], False), ("train_titles", [True, False], False)
    assert turns == [encoder, writer, encoder, writer]


def test_a_run_that_was_broken_off_in_either_turn_ends_as_if_nothing_had_happened(splits, by_steps, monkeypatch):
    def run(folder, dies=None):
        with monkeypatch.context() as patch:
            if dies:
                compute = dies.compute_loss

                def dying(self, *args, **kwargs):
                    if self.state.global_step == 3:
                        raise KeyboardInterrupt
                    return compute(self, *args, **kwargs)

                patch.setattr(dies, "compute_loss", dying)
            means = replace(splits.means, folder=splits.means.folder / folder, hours=8 / 3600)
            model = langptune.fit(replace(splits, means=means), 0, rounds=1)
        return trained(model.writer), trained(model.encoder)

    whole = run("whole")
    for trainer in (EncoderTrainer, TitleTrainer):
        with pytest.raises(KeyboardInterrupt):
            run("broken", trainer)
    assert run("broken") == whole


def test_profiles_are_written_part_by_part_until_their_time_is_spent(splits, monkeypatch):
    writer, asked = load_policy(splits.means.profile.model), []

    def sampled(policy, splits, examples, seed):
        asked.append([row["target"] for row in examples])
        return [[Written(str(row["target"]), True)] * 2 for row in examples], 1.0

    monkeypatch.setattr(profile_writer, "sampled_profiles", sampled)
    monkeypatch.setattr(title_runs, "PART", 3)
    rows, judging = splits.train[:8], splits.valid
    for seconds, parts in ((0.5, 1), (2.5, 2), (9.0, 3)):
        asked.clear()
        chosen, profiles, judged, spent = round_profiles(writer, splits, rows, judging, 0, seconds)
        assert (
            asked
            == [[row["target"] for row in part] for part in (judging, rows[::3], rows[1::3], rows[2::3])][: 1 + parts]
        )
        assert [pair[0].text for pair in profiles] == [str(row["target"]) for row in chosen]
        assert (len(judged), spent) == (len(judging), 1.0 + parts)
    assert sorted(row["target"] for row in chosen) == sorted(row["target"] for row in rows)


def test_what_was_written_is_read_back_and_a_budget_below_it_is_refused(splits, monkeypatch):
    policy = load_policy(splits.means.profile.model)
    first = sampled_profiles(policy, splits, splits.valid, 0)
    monkeypatch.setattr(profile_writer, "write_profiles", partial(pytest.fail, "written again"))
    assert sampled_profiles(policy, splits, splits.valid, 0) == first
    assert first[1] > 0
    monkeypatch.undo()
    monkeypatch.setattr(title_runs, "PART", 4)
    with pytest.raises(ValueError, match=r"writing 10 profiles took .* give more hours or fewer rounds"):
        langptune.fit(replace(splits, means=replace(splits.means, hours=1e-9)), 0)
