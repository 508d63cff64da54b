"""Checks for the exercises of notebook 08, the official code beside the paper."""

from collections.abc import Callable, Sequence

import torch

from rrec_lib.book import official
from rrec_lib.exercises.base import draws, near, report
from rrec_lib.recpo.advantages import grpo_advantages, rloo_advantages
from rrec_lib.recpo.losses import recpo_loss

Rule = Callable[[torch.Tensor], torch.Tensor]
Shape = tuple[int, ...]
GAP = 1e-6  # exercise 08.5: how far one of four rewards lies above the others


@report
def check_token_loss(
    answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor],
) -> None:
    """Right: every token has its own trajectory's advantage, and the clip binds once the policy has moved.

    Args:
        answer: takes log-probabilities (R, T), old ones (R, T), a mask (R, T), advantages (R,) and ε; returns the loss.
    """
    for generator in (torch.Generator().manual_seed(7), draws()):
        old = -torch.rand(4, 3, generator=generator, dtype=torch.float64) - 1
        moved = old + 0.4 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
        mask = torch.arange(3) < torch.tensor([3, 1, 2, 3])[:, None]
        advantages = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
        for what, new in (("on policy", old), ("after the policy has moved", moved)):
            given, found = _loss_and_gradient(answer, new, old, mask, advantages)
            wanted, expected = _loss_and_gradient(_paper, new, old, mask, advantages)
            assert not found[~mask].any(), f"{what}, padding gets a gradient: use the mask"
            spread = found[mask].max() - found[mask].min()
            assert spread > 1e-9, (
                f"{what}, every token gets the same gradient: an advantage should meet its own row only"
            )
            assert torch.allclose(found, expected), (
                f"{what}, the gradient on the first row should be {_list(expected[0])}, yours is {_list(found[0])}"
                + _why(found, expected)
            )
            assert near(given, wanted), f"{what}, the gradient is right, but the loss should be {wanted:.4f}"


@report
def check_advantage_test(answer: Callable[[Rule], bool]) -> None:
    """Right: your test passes sound advantages and stops the broken ones.

    Args:
        answer: takes a function from rewards (B, G) to advantages (B, G); returns whether it can be trusted.
    """
    sound: dict[str, Rule] = {
        "RLOO": rloo_advantages,
        "GRPO": grpo_advantages,
        "rewards minus their group's mean": lambda r: r - _mean(r),
    }
    broken: dict[str, Rule] = {
        "the rewards themselves": lambda r: r,
        "the official leave-one-out": lambda r: r * (1 + 1 / r.shape[1]) - _mean(r),
        "rewards minus the mean of the whole batch": lambda r: r - r.mean(),
        "rewards minus the best of their group": lambda r: r - r.amax(1, keepdim=True),
        "places in the group, ties broken by order": lambda r: (
            (places := r.argsort(1).argsort(1).to(r)) - _mean(places)
        ),
    }
    for name, rule in sound.items():
        assert answer(rule), f"your test refuses {name}, which is sound; did you leave room for rounding?"
    for name, rule in broken.items():
        assert not answer(rule), (
            f"your test lets through {name}; look at each group's sum, with groups of different means, and at a group "
            "of equal rewards"
        )


@report
def check_broadcast(answer: Callable[[Shape, Shape], Sequence[int]]) -> None:
    """Right: shapes meet from the right, and only a size of 1 or an axis that isn't there is stretched.

    Args:
        answer: takes two shapes; returns the shape of the product, or raises ``ValueError`` where they don't fit.
    """
    cases: list[tuple[Shape, Shape]] = [
        ((6, 1, 1), (6, 4)), ((6, 1), (6, 4)), ((6,), (6, 4)), ((4,), (4, 4)), ((2, 3), (4, 3)), ((), (3,)),
    ]  # fmt: skip
    generator = draws()
    for _ in range(20):
        full = torch.randint(2, 5, (3,), generator=generator).tolist()
        cases.append((_thinned(full, generator), _thinned(full, generator)))
    for left, right in cases:
        expected = _product_shape(left, right)
        try:
            given = tuple(answer(left, right))
        except ValueError:
            assert expected is None, f"{left} and {right} fit: a 1, or an axis that isn't there, is stretched"
            continue
        assert expected is not None, (
            f"{left} times {right} is an error in PyTorch, you said {given}: lined up from the right, two sizes differ "
            "and neither is 1"
        )
        assert given == expected, f"{left} times {right} is {expected}, you said {given}" + _misread(left, right, given)


@report
def check_weights(answer: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    """Right: a row's words are weighed with the mean advantage of whoever shares its mini-batch.

    Args:
        answer: takes advantages (R,) and the number of consecutive rows in a mini-batch, whose last may be shorter;
            returns (R,) weights.
    """
    generator = draws()
    for size, rows in ((6, 3), (6, 6), (6, 2), (7, 3), (5, 1)):
        advantages = torch.randn(size, generator=generator, dtype=torch.float64)
        given = answer(advantages.clone(), rows)
        assert isinstance(given, torch.Tensor), "return a tensor"
        assert given.shape == (size,), f"{size} rows need {size} weights, got {tuple(given.shape)}"
        parts = advantages.split(rows)
        expected = torch.cat([part.mean().expand(len(part)) for part in parts])
        assert torch.allclose(given.double(), expected), (
            f"advantages {_list(advantages)} in mini-batches of {rows}: the weights are {_list(expected)}, yours are "
            f"{_list(given)}" + _why_weights(given.double(), advantages, parts)
        )


@report
def check_near_tie(answer: tuple[float, float, str]) -> None:
    """Right: where a group's spread is far below the constant, the constant decides what a difference is worth.

    Args:
        answer: the largest advantage in the official code, the largest in the library, and the letter of the reason.
    """
    assert len(answer) == 3, f"three things, two numbers and a letter, not {len(answer)}"
    *numbers, letter = answer
    rewards = torch.tensor([[0.7, 0.7, 0.7, 0.7 + GAP]], dtype=torch.float64)
    rules = {"the official code": official.gaussian_advantages, "the library": grpo_advantages}
    for (name, rule), given in zip(rules.items(), numbers, strict=True):
        expected = rule(rewards).max().item()
        assert not 0.5 * GAP <= given <= 2 * GAP, (
            f"{name}: {given:g} is the size of the difference in reward; GRPO divides it by the group's spread"
        )
        assert 0.5 * expected <= given <= 2 * expected, (
            f"{name}: {given:g} is off by more than a factor of two; the spread of this group is {rewards.std():.1g}, "
            "what is added to it?"
        )
    reasons = {
        "a": "rounding plays no part: these rewards are float64, and the difference in them is real",
        "c": "the baseline is the group's mean in both, and it only shifts",
        "d": "the clip looks at the ratio, which is 1 here",
    }
    said = str(letter).strip().lower()
    assert said in {*reasons, "b"}, f"the numbers are right; the reason is one letter from a to d, not {letter!r}"
    assert said == "b", f"the numbers are right, the reason isn't: {reasons[said]}"


@report
def check_positions(answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Right: the last real token is found whichever side the padding is on.

    Args:
        answer: takes an attention mask (M, L) of zeros and ones; returns (M,) positions.
    """
    generator = draws()
    length = 7
    lengths = torch.randint(1, length + 1, (12,), generator=generator)
    starts = (torch.rand(12, generator=generator) * (length - lengths + 1)).long()
    starts[:4], starts[4:8] = 0, (length - lengths)[4:8]  # padded on the right, then on the left, then anywhere
    lengths[0], lengths[4] = length, 3
    starts[4] = length - 3
    places = torch.arange(length)
    mask = ((places >= starts[:, None]) & (places < (starts + lengths)[:, None])).long()
    given = answer(mask.clone())
    assert isinstance(given, torch.Tensor), "return a tensor"
    assert given.shape == (12,), f"return one position a row, shape (M,), not {tuple(given.shape)}"
    expected = starts + lengths - 1
    hints = (
        (lengths - 1, "that counts from the row's first real token: right where padding is on the right alone"),
        (expected - 1, "that is one token early, as in difference 4"),
        (starts, "that is the first real token"),
        (torch.full_like(expected, length - 1), "that is the last column, which is padding in some rows"),
    )
    hint = next((hint for wrong, hint in hints if torch.equal(given.long(), wrong)), "")
    row = next((row for row in range(12) if given[row] != expected[row]), 0)
    assert torch.equal(given.long(), expected), (
        f"mask {mask[row].tolist()}: the last real token is at {int(expected[row])}, you said {int(given[row])}"
        + (f"; {hint}" if hint else "")
    )


def _thinned(full: list[int], generator: torch.Generator) -> Shape:
    """A shape made from a full one: some sizes 1, some off by one, some leading axes gone."""
    kinds = torch.randint(0, 8, (len(full),), generator=generator).tolist()
    sizes = [1 if kind < 3 else size + (kind == 7) for size, kind in zip(full, kinds, strict=True)]
    return tuple(sizes[int(torch.randint(0, len(full) + 1, (), generator=generator)) :])


def _product_shape(left: Shape, right: Shape) -> Shape | None:
    """What PyTorch makes of two shapes; None where it refuses them."""
    try:
        return tuple(torch.broadcast_shapes(left, right))
    except RuntimeError:
        return None


def _misread(left: Shape, right: Shape, given: Shape) -> str:
    """What a wrong shape looks like it came from."""
    from_left = _product_shape(left[::-1], right[::-1])
    if from_left is not None and given == from_left[::-1]:
        return "; line the shapes up from the right, not from the left"
    return "; line them up from the right, and fill the shorter one with ones on its left"


def _why_weights(given: torch.Tensor, advantages: torch.Tensor, parts: tuple[torch.Tensor, ...]) -> str:
    """What wrong weights look like they came from."""
    known = {
        "; that is each row's own advantage, which is the paper's": advantages,
        "; that is the mean of all rows, but a mini-batch sees its own rows alone": advantages.mean().expand_as(given),
        "; the loss divides by the rows of the mini-batch": torch.cat([part.sum().expand(len(part)) for part in parts]),
        "; the last mini-batch is shorter, so divide by the rows it has": torch.cat(
            [(part.sum() / len(parts[0])).expand(len(part)) for part in parts]
        ),
    }
    return next((hint for hint, wrong in known.items() if torch.allclose(given, wrong)), "")


def _paper(
    logprobs: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, advantages: torch.Tensor, eps: float
) -> torch.Tensor:
    rows = len(logprobs)
    states = torch.ones(rows, 2, dtype=torch.float64)
    index = torch.zeros(rows, dtype=torch.long)
    return recpo_loss(
        logprobs, old, mask, states, states[:1], index, advantages, rows, clip_eps=eps, token_normalization="batch"
    ).token


def _loss_and_gradient(
    loss_of: Callable[..., torch.Tensor],
    new: torch.Tensor,
    old: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
) -> tuple[float, torch.Tensor]:
    leaf = new.clone().requires_grad_()
    loss = loss_of(leaf, old.clone(), mask.clone(), advantages.clone(), 0.2)
    assert isinstance(loss, torch.Tensor), "return the loss as a tensor"
    assert loss.shape == (), f"return the loss as one number, a tensor without axes, not {tuple(loss.shape)}"
    assert loss.requires_grad, "your loss doesn't depend on logprobs, so nothing would be learned from it"
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def _why(found: torch.Tensor, expected: torch.Tensor) -> str:
    """What a wrong gradient looks like it came from."""
    if torch.allclose(found, -expected):
        return "; the sign is turned round: a loss is minus what you want more of"
    clipped = (expected == 0) & (found != 0)
    if clipped.any():
        return "; a token past the clip should have no gradient left"
    if ((expected != 0) & (found == 0)).any():
        return "; a token pushed back towards ratio 1 should keep its gradient: take the smaller of the two products"
    scale = found / expected.where(expected != 0, torch.ones(()).to(expected))
    if torch.allclose(scale[expected != 0], scale[expected != 0][0]):
        return f"; yours is {scale[expected != 0][0]:.3g} times that everywhere: divide by the completion tokens alone"
    return "; every completion token of the batch counts the same, whatever its row's length"


def _mean(rows: torch.Tensor) -> torch.Tensor:
    return rows.mean(dim=1, keepdim=True)


def _list(row: torch.Tensor) -> list[float]:
    return [round(number, 3) for number in row.tolist()]
