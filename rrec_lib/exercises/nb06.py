"""Checks for the exercises of notebook 06, training."""

from collections.abc import Callable

import torch
from torch import Tensor

from rrec_lib.exercises.base import draws, hint, near, report, require_reason
from rrec_lib.recpo.losses import clipped_gain

Loss = Callable[[Tensor, Tensor], Tensor]


@report
def check_loss_mask(answer: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> None:
    """Right: only the tokens that the policy sampled train it.

    Args:
        answer: takes lengths (R,) with and without the appended marker, and the width; returns the mask (R, width).
    """
    fixed, drawn = torch.tensor([5, 1, 4, 0]), torch.randint(0, 6, (4,), generator=draws())
    appended = torch.tensor([0, 3, 3, 3])
    for sampled, width in ((fixed, 7), (fixed, 9), (drawn, 9)):
        total = sampled + appended
        mask = answer(total.clone(), sampled.clone(), width)
        mask = torch.as_tensor(mask)
        assert mask.shape == (4, width), f"expected shape (4, {width}), got {tuple(mask.shape)}"
        counts = mask.bool().sum(1)
        assert not torch.equal(counts, total), "your mask also trains the appended marker, which nobody sampled"
        assert torch.equal(counts, sampled), f"expected {sampled.tolist()} tokens per row, got {counts.tolist()}"
        assert bool((mask.bool() == (torch.arange(width) < counts[:, None])).all()), (
            "the right number of tokens, but not the first ones of each row"
        )


@report
def check_clip_fraction(
    answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], float],
) -> None:
    """Right: the clip binds only where the update would push further the way it already went.

    Args:
        answer: takes log-probabilities (R, T), old ones (R, T), advantages (R,), a mask (R, T) and ε; returns a share.
    """
    generator = draws()
    old = -torch.rand(6, 5, generator=generator, dtype=torch.float64) - 1
    logprobs = old + 0.5 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 2.0], dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 2, 5, 1])[:, None]
    for eps in (0.2, 0.05):
        value = answer(logprobs.clone(), old.clone(), advantages.clone(), mask.clone(), eps)
        ratio = (logprobs - old).exp()
        removed = clipped_gain(ratio, advantages[:, None], eps, eps)[1]
        expected = ((removed & mask).sum() / mask.sum()).item()
        outside = (((ratio - 1).abs() > eps) & mask).sum().item() / mask.sum().item()
        given = float(value)
        assert near(given, expected), f"for ε = {eps} expected {expected:.4f}, got {given:.4f}" + hint(
            {
                "you counted every ratio outside 1 ± ε; a token pushed back towards 1 keeps its gradient": near(
                    given, outside
                ),
                "you counted padding: use the mask": near(given, removed.double().mean().item()),
                "a bad token below 1 − ε is held back too": near(
                    given, ((removed & mask & (ratio > 1)).sum() / mask.sum()).item()
                ),
            }
        )


@report
def check_tokens_read(answer: Callable[[int, int, int], tuple[int, int, int]]) -> None:
    """Right: a cache turns a square into a line, and a shared one reads the prompt once for all.

    Args:
        answer: takes P, G and T; returns the tokens that go through the model without a cache, with one for each
            reasoning, and with the prompt's shared.
    """
    drawn = torch.randint(2, 60, (4, 3), generator=draws()).tolist()
    for prompt, group, length in [(10, 4, 2), (160, 4, 40), *drawn]:
        given = [int(value) for value in answer(prompt, group, length)]
        assert len(given) == 3, f"three numbers are asked for, you gave {len(given)}"
        plain = group * sum(prompt + t for t in range(length + 1))
        one_less = group * sum(prompt + t for t in range(length))
        expected = [plain, group * (prompt + length), prompt + group * length]
        names = ("without a cache", "with a cache each", "with the prompt's shared")
        for value, right, name in zip(given, expected, names, strict=True):
            assert value == right, (
                f"P = {prompt}, G = {group}, T = {length}, {name}: expected {right:,}, got {value:,}"
                + hint(
                    {
                        "the marker's state needs one more pass, over all of it": value == one_less,
                        "without a cache every pass reads all that stands before": right == plain
                        and value == expected[1],
                        "that is one reasoning; there are G": value == right / group,
                        "the last token is read too, for its state": value
                        in (expected[1] - group, expected[2] - group),
                        "the prompt is read once for the whole group": right == expected[2] and value == expected[1],
                    }
                )
            )


@report
def check_accumulated(answer: Callable[[Tensor, Tensor, Loss, int], Tensor]) -> None:
    """Right: pieces weigh as much as they have rows, and the step is that of the whole batch.

    Args:
        answer: takes weights (d,), rows (n, d), a function that gives the mean loss of some rows, and how many rows
            fit at once; returns the gradient (d,) of the mean loss over all rows.
    """
    generator = draws()
    sizes = [(6, 3), (7, 3), (5, 8), *torch.randint(2, 9, (3, 2), generator=generator).tolist()]
    for n, size in sizes:
        weights, rows = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3,), (n, 3)))
        read: list[int] = []

        def loss(w: Tensor, some: Tensor, read: list[int] = read) -> Tensor:
            read.append(len(some))
            return ((some @ w).sin() ** 2 + some @ w).mean()

        def gradient(part: Tensor, w: Tensor = weights) -> Tensor:
            w = w.clone().requires_grad_()
            return torch.autograd.grad(loss(w, part, []), w)[0]

        parts = [gradient(part) for part in rows.split(size)]
        given = answer(weights.clone().requires_grad_(), rows.clone(), loss, size)
        assert given.shape == weights.shape, f"the gradient has shape (3,), not {tuple(given.shape)}"
        where = f"{n} rows, {size} at once"
        assert max(read, default=0) <= size, f"{where}: you passed {max(read)} rows at once; the memory is full"
        assert sum(read) == n, f"{where}: {sum(read)} rows went through the loss; each of the {n} should, once"
        signs = {
            "the pieces' means are added up; each should weigh its share of the rows": _same(given, sum(parts)),
            "a smaller last piece weighs as much as the others": _same(given, sum(parts) / len(parts)),
            "only the last piece is in it: gradients add up until they are set to zero": _same(given, parts[-1]),
            "the sum over rows is not divided by their number": _same(given, n * gradient(rows)),
        }
        assert _same(given, gradient(rows)), f"{where}: expected {_short(gradient(rows))}, got {_short(given)}" + hint(
            signs
        )


def _same(value: Tensor, other: Tensor | int | float) -> bool:
    return torch.allclose(value.double(), torch.as_tensor(other, dtype=torch.float64), atol=1e-6)


def _short(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


@report
def check_memory(answer: Callable[[int, int, int, int, int, int, int], tuple[int, int, int, int]]) -> None:
    """Right: what is frozen costs two bytes a number, what is trained costs sixteen.

    Args:
        answer: takes all parameters, how many of them are trained, layers, key-value heads, a head's width, sequences
            and tokens of each; returns the bytes of weights, gradients, AdamW's moments, and keys and values.
    """
    generator = draws()
    cases = [(134_515_008, 2_442_240, 30, 3, 64, 16, 200)]
    for _ in range(3):
        total, *rest = torch.randint(2, 50, (6,), generator=generator).tolist()
        cases.append((total * 1_000_000, total * 7_000 + 1, *rest))
    for case in cases:
        total, trained, layers, heads, width, sequences, tokens = case
        given = [float(value) for value in answer(*case)]
        assert len(given) == 4, f"four numbers are asked for, you gave {len(given)}"
        expected = [2 * (total - trained) + 4 * trained, 4 * trained, 8 * trained,
                    4 * layers * heads * width * sequences * tokens]  # fmt: skip
        known: list[dict[str, float]] = [
            {
                "the trained weights are float32: 4 bytes": 2 * total,
                "frozen weights are kept in bfloat16: 2 bytes": 4 * total,
                "the frozen weights are in memory too": 4 * trained,
            },
            {
                "only what is trained has a gradient": 4 * total,
                "gradients are float32: 4 bytes": 2 * trained,
                "a frozen weight has no gradient": 2 * total,
            },
            {
                "AdamW keeps two moments, of the gradient and of its square": 4 * trained,
                "only what is trained has moments": 8 * total,
                "the moments are float32: 4 bytes each": 4 * trained,
            },
            {
                "keys and values are two, and a number takes two bytes": expected[3] / 2,
                "they are kept in bfloat16: 2 bytes": expected[3] * 2,
                "every layer has keys and values of its own": expected[3] / layers,
                "every sequence has its own": expected[3] / sequences,
            },
        ]
        for name, value, right, readings in zip(
            ("weights", "gradients", "moments", "keys and values"), given, expected, known, strict=True
        ):
            assert near(value / right, 1), f"{name} of {case}: expected {right:,} bytes, got {value:,.0f}" + hint(
                {"those are numbers, not bytes": near(value, right / 4) or near(value, right / 8)}
                | {sentence: near(value, reading) for sentence, reading in readings.items()}
            )


def stale_updates(
    count: int, rate: float = 0.1, clip_eps: float = 0.2, clips: bool = True, probability: float = 0.5
) -> list[float]:
    """The probability of the first of two words, sampled once with advantage 1, over updates on that one sample.

    Args:
        count: updates by gradient ascent on the clipped gain, on the two words' logits.
        rate: of the updates.
        clip_eps: ε.
        clips: whether the gain is clipped.
        probability: at the start, when the word was sampled.

    Returns:
        The probability before the first update and after each.
    """
    logits = torch.tensor([probability, 1 - probability], dtype=torch.float64).log().requires_grad_()
    path = [probability]
    for _ in range(count):
        ratio = logits.softmax(0)[0] / probability
        gain = clipped_gain(ratio, torch.ones_like(ratio), clip_eps, clip_eps)[0] if clips else ratio
        (slope,) = torch.autograd.grad(gain, logits)
        logits = (logits + rate * slope).detach().requires_grad_()
        path.append(logits.softmax(0)[0].item())
    return path


@report
def check_stale(answer: tuple[float, str]) -> None:
    """Right: behind 1 + ε there is no gradient, so it stays where the last step left it.

    Args:
        answer: the probability after the updates, and the letter of the reason.
    """
    probability, letter = float(answer[0]), answer[1]
    end = stale_updates(12)[-1]
    assert 0 <= probability <= 1, f"a probability lies between 0 and 1, you said {probability:g}"
    assert abs(probability - end) < 0.02, f"{probability:g} is not near it" + hint(
        {
            "the ratio may reach 1.2, not the probability 0.7: 1.2 times what?": abs(probability - 0.7) < 0.03,
            "it moves: at the first update the ratio is 1, and its gradient is not 0": abs(probability - 0.5) < 0.03,
            "so far it would go without a clip": probability > 0.72,
            "its advantage is positive: it becomes likelier": probability < 0.47,
            "the clip leaves it alone up to a ratio of 1.2": 0.5 < probability < end,
        }
    )
    require_reason(
        letter,
        "b",
        {
            "a": "nothing pulls it back: what is clipped has no gradient, in either direction",
            "c": "the steps shrink a little, from .025 to .023, but the fifth still goes past 0.6",
            "d": "the ratio's old probability is that of sampling, and is never renewed",
        },
    )
