"""Checks for the exercises of notebook 04, policy gradients."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from rrec_lib.book.three_words import best_baseline, climb, three_words
from rrec_lib.exercises.base import draws, near, report

STEPS = 60  # exercise 04.4: how long the exact gradient is followed before the question


def policies() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and rewards (W,): the three words, then random ones of other sizes."""
    world, generator = three_words(), draws()
    yield world.logits, world.rewards
    for words in (2, 4, 6):
        yield (
            torch.randn(words, generator=generator, dtype=torch.float64),
            torch.rand(words, generator=generator, dtype=torch.float64),
        )


@report
def check_direction(answer: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    """Right: the word's own logit rises by 1, and all fall by their chances.

    Args:
        answer: takes logits (W,) and the index of a word; returns ∇log π(word), (W,).
    """
    for logits, _ in policies():
        chances = logits.softmax(0)
        for word, own in enumerate(torch.eye(len(logits), dtype=torch.float64)):
            given = answer(logits.clone(), word)
            shape = tuple(given.shape) if isinstance(given, torch.Tensor) else None
            assert shape == (len(logits),), f"return one number per logit, a tensor of shape ({len(logits)},)"
            expected = own - chances
            mistakes = {
                "that makes the word *less* likely: turn the sign": -expected,
                "that is the gradient of the chance itself; its logarithm's has no chance in front": chances[word]
                * expected,
                "the second part is missing, the logarithm of the sum: it takes each word's chance away": own,
                "the first part is missing: 1 at the word's own place": -chances,
                "that is the gradient with respect to the chances; here it is the logits": own / chances[word],
                "that is log π of every word, not its gradient": chances.log(),
            }
            _compare(given, expected, mistakes, f"logits {_list(logits)}, word {word}")


@report
def check_best_baseline(answer: Callable[[torch.Tensor, torch.Tensor], float]) -> None:
    """Right: rewards are averaged with the chance of their word times the squared length of its direction.

    Args:
        answer: takes logits (W,) and rewards (W,); returns b*.
    """
    for logits, rewards in policies():
        chances = logits.softmax(0)
        squared = (torch.eye(len(logits), dtype=torch.float64) - chances).square().sum(1)
        given = torch.as_tensor(answer(logits.clone(), rewards.clone()), dtype=torch.float64)
        assert given.numel() == 1, f"one number is asked for, not {tuple(given.shape)}"
        mistakes = {
            "that is the expected reward J: the lengths of the directions are missing": chances @ rewards,
            "that is the plain mean of the rewards: likely words count more, and so do long directions": rewards.mean(),
            "the chances are missing from your weights": squared @ rewards / squared.sum(),
            "the length of a direction goes in squared": _weighted(chances * squared.sqrt(), rewards),
            "the weights don't sum to 1: divide by their sum": (chances * squared) @ rewards,
        }
        expected = torch.tensor(best_baseline(logits, rewards), dtype=torch.float64)
        _compare(given.reshape(()), expected, mistakes, f"logits {_list(logits)}, rewards {_list(rewards)}")


@report
def check_objective(answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """Right: the ratio is 1 and still has a gradient, and advantages are constants.

    Args:
        answer: takes log-probabilities (n,) of sampled words and advantages (n,); returns the objective, a scalar.
    """
    generator = draws()
    for count in (4, 7):
        logprobs = -torch.rand(count, generator=generator, dtype=torch.float64)
        advantages = torch.randn(count, generator=generator, dtype=torch.float64)
        logprobs.requires_grad_()
        advantages.requires_grad_()
        value = answer(logprobs, advantages)
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        assert shape == (), "return one number that autograd can go back from: a tensor without axes"
        assert value.requires_grad, "nothing is left to differentiate: only one side of the ratio may be detached"
        mine, theirs = torch.autograd.grad(value, (logprobs, advantages), allow_unused=True)
        assert mine is not None, "nothing reaches the log-probabilities: only one side of the ratio may be detached"
        expected = advantages.detach() / count
        mistakes = {
            "both sides of the ratio move together; detach the old one": 0 * expected,
            "the sign is turned: that is a loss, or old − new in the exponent": -expected,
            "you summed over the words; take the mean": expected * count,
        }
        _compare(mine, expected, mistakes, "the gradient of each log-probability")
        assert near(value.item(), advantages.mean().item()), (
            f"the gradient is right; the value should be the mean advantage, {advantages.mean().item():.4f}, since "
            f"every ratio is 1, and is {value.item():.4f}"
        )
        assert theirs is None or not theirs.any(), "a gradient flows into the advantages: they are constants"


@report
def check_reused(answer: Callable[..., float]) -> None:
    """Right: each old word counts as often as it is likelier now.

    Args:
        answer: takes old logits (W,), new logits (W,), words drawn from the old policy (n,), and their rewards (n,);
            returns the estimate of the new policy's expected reward.
    """
    generator = draws()
    for old, rewards in policies():
        new = old + torch.randn(len(old), generator=generator, dtype=torch.float64)
        drawn = torch.multinomial(old.softmax(0), 12, replacement=True, generator=generator)
        drawn[:2] = torch.tensor([0, 1])  # never one word alone
        earned = rewards[drawn]
        value = answer(old.clone(), new.clone(), drawn.clone(), earned.clone())
        given = torch.as_tensor(value, dtype=torch.float64)
        assert given.numel() == 1, f"one number is asked for, not {tuple(given.shape)}"
        before, now = old.softmax(0)[drawn], new.softmax(0)[drawn]
        ratio = now / before
        mistakes = {
            "that is the plain mean: an estimate for the *old* policy": earned.mean(),
            "your ratio is upside down: new over old": (before / now * earned).mean(),
            "the ratio is one of chances; exp of the logits' difference leaves out both normalisations": (
                (new - old).exp()[drawn] * earned
            ).mean(),
            "a difference of logarithms is the logarithm of the ratio: take exp": (ratio.log() * earned).mean(),
            "dividing by the sum of the ratios bends the estimate; divide by the number of words": _weighted(
                ratio, earned
            ),
            "you weighed with the new chance alone; the words came from the old policy": (now * earned).mean(),
            "you summed; take the mean": (ratio * earned).sum(),
        }
        _compare(given.reshape(()), (ratio * earned).mean(), mistakes, f"rewards of the words {_list(earned)}")


@report
def check_prediction(answer: tuple[float, str]) -> None:
    """Right: the noise comes from the rare words, so they decide what is best subtracted.

    Args:
        answer: the predicted b* of the trained policy, and the letter of the reason.
    """
    parts: list[Any] = list(answer) if isinstance(answer, (tuple, list)) else []
    assert len(parts) == 2, "two things: a number and a letter"
    number, letter = float(parts[0]), str(parts[1]).strip().lower()
    world = three_words()
    late = climb(world, STEPS)[-1]
    best, expected = best_baseline(late, world.rewards), (late.softmax(0) @ world.rewards).item()
    high, low = f"{number:g} is too high", f"{number:g} is too low"
    assert number < 0.8, f"{high}: near J = {expected:.2f}, which the common word decides; does that word make noise?"
    assert number < best + 0.1, f"{high}: robots count for next to nothing, and of the other two one earns nothing"
    assert number > best - 0.1, f"{low}: law isn't the only rare word, crime is likelier and earns 1/2"
    reasons = {
        "a": "robots do come up most often, but their direction has almost no length: they make no noise",
        "c": "b* is no plain mean; with these three rewards that would be 0.5",
        "d": "J did rise, to almost 1, and b* fell",
    }
    assert letter in {*reasons, "b"}, f"the number is right; the reason is one letter from a to d, not {parts[1]!r}"
    assert letter == "b", f"the number is right, the reason isn't: {reasons[letter]}"


def _weighted(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return weights @ values / weights.sum()


def _compare(given: torch.Tensor, expected: torch.Tensor, mistakes: dict[str, torch.Tensor], case: str) -> None:
    """Assert equality; say which known mistake a wrong answer looks like."""
    given = given.detach().double()
    if torch.allclose(given, expected, atol=1e-6):
        return
    looks_like = [what for what, value in mistakes.items() if torch.allclose(given, value, atol=1e-6)]
    raise AssertionError("; ".join([f"{case}: expected {_list(expected)}, got {_list(given)}", *looks_like[:1]]))


def _list(values: torch.Tensor) -> list[float] | float:
    return [round(value, 3) for value in values.tolist()] if values.dim() else round(values.item(), 3)
