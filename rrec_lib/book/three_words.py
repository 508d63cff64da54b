"""The smallest policy: three words, one of which user 1 of the toy world hears before the films are ranked."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Rule = Callable[[torch.Tensor], torch.Tensor]
Gain = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ThreeWords:
    """A policy whose every average can be written out.

    Attributes:
        words: the three reasonings, one word each.
        states: (3, d) where each leaves user 1 of the toy world, d = 2; lengths 1, 25 and 1.
        rewards: (3,) what each earns: the discount of the target's rank, 0 beyond the third place.
        logits: (3,) where training starts; chances 1/6, 1/3 and 1/2, so that the worst word is the favourite.
    """

    words: tuple[str, str, str]
    states: torch.Tensor
    rewards: torch.Tensor
    logits: torch.Tensor


def three_words() -> ThreeWords:
    """Build the policy in float64."""
    return ThreeWords(
        words=("robots", "crime", "law"),
        states=torch.tensor([[1, 0], [7, 24], [0, 1]], dtype=torch.float64),
        rewards=torch.tensor([1, 0.5, 0], dtype=torch.float64),
        logits=torch.tensor([1, 2, 3], dtype=torch.float64).log(),
    )


def climb(world: ThreeWords, steps: int) -> torch.Tensor:
    """Follow the exact gradient of the expected reward.

    Args:
        steps: of size 1.

    Returns:
        (steps + 1, 3) logits before the first step and after each.
    """
    logits = [world.logits]
    for _ in range(steps):
        chances = logits[-1].softmax(0)
        logits.append(logits[-1] + chances * (world.rewards - chances @ world.rewards))
    return torch.stack(logits)


def best_baseline(logits: torch.Tensor, rewards: torch.Tensor) -> float:
    """The constant that leaves the gradient's estimate the least variance: E[R·|∇log π|²] / E[|∇log π|²].

    Args:
        logits: (W,) of the policy.
        rewards: (W,) of its words.
    """
    chances = logits.softmax(0)
    lengths = 1 - 2 * chances + chances.square().sum()  # of each word's ∇log π, squared
    return ((chances * lengths) @ rewards / (chances @ lengths)).item()


def learn(
    world: ThreeWords,
    advantages: Rule,
    gain: Gain,
    *,
    rounds: int,
    passes: int = 1,
    group_size: int = 4,
    runs: int = 500,
    rate: float = 1.0,
    seed: int = 0,
) -> torch.Tensor:
    """Train many policies side by side: each round draws a group of words and takes a few steps on it.

    Args:
        advantages: takes rewards (runs, G), returns advantages of that shape.
        gain: takes ratios and advantages, both (runs, G), returns what each word adds to the objective.
        rounds: groups that are drawn, one after the other.
        passes: gradient steps on each.
        group_size: G, words in a group.
        runs: policies; they differ in what is drawn.
        rate: size of a step.
        seed: of all draws.

    Returns:
        (rounds + 1, runs, 3) chances of the words before the first round and after each.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = world.logits.repeat(runs, 1)
    chances = [logits.softmax(1)]
    for _ in range(rounds):
        drawn = torch.multinomial(chances[-1], group_size, replacement=True, generator=generator)
        worth = advantages(world.rewards[drawn])
        old = logits.log_softmax(1).gather(1, drawn)
        for _ in range(passes):
            logits.requires_grad_()
            ratio = (logits.log_softmax(1).gather(1, drawn) - old).exp()
            (step,) = torch.autograd.grad(gain(ratio, worth).mean(1).sum(), logits)
            logits = (logits + rate * step).detach()
        chances.append(logits.softmax(1))
    return torch.stack(chances)
