"""The policy of three words: numbers that a pencil gives, and training that goes where its pieces send it."""

import itertools

import pytest
import torch

from rrec_lib.book.three_words import best_baseline, climb, learn, three_words
from rrec_lib.book.toy import toy_world
from rrec_lib.evaluation import scoring
from rrec_lib.recpo.advantages import rloo_advantages
from rrec_lib.recpo.losses import clipped_gain
from rrec_lib.recpo.rewards import ranking_reward


def plain(ratio, advantages):
    return ratio * advantages


def test_rewards_are_those_of_the_toy_world_and_chances_are_sixths():
    world, toy = three_words(), toy_world()
    scores = scoring.score_items(world.states[None], toy.item_states, toy.temperature)
    scores = scoring.mask_items(scores, toy.histories[:1], toy.targets[:1])
    torch.testing.assert_close(ranking_reward(scores, toy.targets[:1], k=3)[0], world.rewards)
    assert world.states.norm(dim=1).tolist() == [1, 25, 1]
    torch.testing.assert_close(world.logits.softmax(0) * 6, torch.tensor([1, 2, 3], dtype=torch.float64))


def test_the_climb_follows_the_gradient_of_the_expected_reward():
    world = three_words()
    path = climb(world, 2)
    for here, there in itertools.pairwise(path):
        gradient = torch.autograd.functional.jacobian(lambda x: x.softmax(0) @ world.rewards, here)
        torch.testing.assert_close(there - here, gradient)
    assert (path[1] - path[0]).tolist() == pytest.approx([1 / 9, 1 / 18, -1 / 6])


def test_no_other_constant_leaves_less_variance():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, generator=generator, dtype=torch.float64)
    rewards = torch.rand(5, generator=generator, dtype=torch.float64)
    chances = logits.softmax(0)

    def second_moment(b):
        directions = torch.eye(5, dtype=torch.float64) - chances
        return chances @ ((rewards - b)[:, None] * directions).square().sum(1)

    best = best_baseline(logits, rewards)
    assert second_moment(best) < min(second_moment(best - 0.01), second_moment(best + 0.01))
    assert best_baseline(three_words().logits, three_words().rewards) == pytest.approx(16 / 33)


def test_one_step_is_the_mean_of_advantage_times_direction():
    world = three_words()
    drawn = []

    def rule(rewards):
        drawn.append(rewards)
        return rloo_advantages(rewards)

    chances = learn(world, rule, plain, rounds=1, runs=50, rate=0.5)
    assert chances.shape == (2, 50, 3)
    words = (1 - drawn[0]).mul(2).long()  # rewards 1, 1/2, 0 are words 0, 1, 2
    directions = torch.eye(3, dtype=torch.float64) - world.logits.softmax(0)
    step = (rloo_advantages(drawn[0])[:, :, None] * directions[words]).mean(1)
    torch.testing.assert_close(chances[1], (world.logits + 0.5 * step).softmax(1))


def test_the_clip_stops_what_further_passes_would_do():
    world = three_words()

    def after(gain, passes):
        return learn(world, rloo_advantages, gain, rounds=1, passes=passes, runs=50)[-1]

    def clipped(ratio, advantages):
        return clipped_gain(ratio, advantages, 0.2, 0.2)[0]

    torch.testing.assert_close(after(clipped, 1), after(plain, 1))  # every ratio is 1
    assert (after(plain, 20) - after(plain, 5)).abs().max() > 0.3
    assert (after(clipped, 20) - after(clipped, 5)).abs().max() < 0.3
    assert (after(clipped, 20) @ world.rewards).std() < (after(plain, 20) @ world.rewards).std()


def test_draws_are_the_seeds():
    world = three_words()
    first, again, other = (learn(world, rloo_advantages, plain, rounds=3, runs=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
