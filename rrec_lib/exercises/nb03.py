"""Checks for the exercises of notebook 03, the two heads."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from rrec_lib.evaluation.scoring import score_items
from rrec_lib.exercises.base import draws, hint, report, require_reason
from rrec_lib.model.prompts import MARKER

# In and out widths of the seven linear maps of a layer of SmolLM2-135M.
SMOLLM2_LAYER = ((576, 576), (576, 192), (576, 192), (576, 576), (576, 1536), (576, 1536), (1536, 576))


@report
def check_last_states(answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """Right: each row is read at its own last real token.

    Args:
        answer: takes hidden states (n, T, d) and a mask (n, T), returns states (n, d).
    """
    generator = draws()
    for lengths in ([6, 1, 4, 2], torch.randint(1, 7, (5,), generator=generator).tolist()):
        hidden = torch.randn(len(lengths), 6, 3, generator=generator)
        mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
        value = answer(hidden.clone(), mask.clone())
        assert value.shape == (len(lengths), 3), f"expected shape ({len(lengths)}, 3), got {tuple(value.shape)}"
        for row, length in enumerate(lengths):
            right = torch.equal(value[row], hidden[row, length - 1])
            assert right, f"row {row} has {length} real tokens, so its state stands at index {length - 1}" + hint(
                {
                    "you read the last column, which is padding there": torch.equal(value[row], hidden[row, -1]),
                    "that is one token early": torch.equal(value[row], hidden[row, max(length - 2, 0)]),
                    "that is a mean over tokens": torch.allclose(value[row], hidden[row, :length].mean(0)),
                }
            )


@report
def check_rec_head(answer: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]) -> None:
    """Right: cosines over τ, whatever the lengths.

    Args:
        answer: takes users (B, d), films (N, d) and τ, returns scores (B, N).
    """
    generator = draws()
    users = torch.randn(3, 4, generator=generator, dtype=torch.float64) * torch.tensor([[0.1], [1.0], [9.0]])
    films = torch.randn(5, 4, generator=generator, dtype=torch.float64) * 3
    for tau in (1.0, 0.02):
        value = answer(users.clone(), films.clone(), tau).to(users)
        expected = score_items(users, films, tau)
        assert value.shape == (3, 5), f"expected shape (3, 5), got {tuple(value.shape)}"
        lengths = torch.allclose(value, users @ films.T / tau)
        assert not lengths, "that is the inner product: divide every state by its length first"
        multiplied = tau != 1 and torch.allclose(value, expected * tau * tau)
        assert not multiplied, "divide by τ, do not multiply"
        problem = f"for τ = {tau} expected {expected[0, 0]:.4f} first, got {value[0, 0]:.4f}"
        assert torch.allclose(value, expected, atol=1e-6), problem


@report
def check_lora_count(answer: Callable[[Sequence[tuple[int, int]], int], int]) -> None:
    """Right: a matrix in × rank and a matrix rank × out beside each map, and nothing else is trained.

    Args:
        answer: takes the (in, out) widths of the adapted maps and the rank; returns how many numbers are trained.
    """
    generator = draws()
    cases: list[tuple[list[tuple[int, int]], int]] = [([(7, 4)], 3), (10 * list(SMOLLM2_LAYER), 8)]
    for _ in range(4):
        widths = torch.randperm(90, generator=generator)[:6].view(3, 2) + 10
        cases.append(([(i, o) for i, o in widths.tolist()], int(torch.randint(1, 9, (), generator=generator))))
    for shapes, rank in cases:
        value = int(answer(list(shapes), rank))
        inside, outside = (rank * sum(shape[i] for shape in shapes) for i in (0, 1))
        full = sum(i * o for i, o in shapes)
        what = f"maps {shapes}" if len(shapes) < 5 else f"{len(shapes)} maps of SmolLM2"
        assert value == inside + outside, f"{what}, rank {rank}: expected {inside + outside:,}, got {value:,}" + hint(
            {
                "that is A alone; B is trained too": value == inside,
                "that is B alone; A is trained too": value == outside,
                "those are the frozen weights that LoRA stands beside": value == full,
                "a map needs not be square: A follows its input, B its output": value in (2 * inside, 2 * outside),
                "A and B are two matrices; their product is no weight of its own": value == rank * full,
            }
        )


@report
def check_marker_end(answer: Callable[[list[str]], int]) -> None:
    """Right: the marker is a text, and tokens may cut it anywhere.

    Args:
        answer: takes the texts of the tokens; returns the index of the first token with which the marker is complete,
            or -1.
    """
    cases = [
        (["Likes", " noir", ".", "<", "answer", ">"], "the marker is complete with its last token"),
        (["<", "answer", ">", "Alien", "<", "answer", ">"], "the first marker ends the reasoning, not the last"),
        (["Likes", " noir", "."], "no marker was written: -1"),
        (["answer", ">", "<", "answer"], "parts of a marker are none"),
        (["so ", "<answ", "er>"], "other tokens than the usual three can make up the same text"),
        (["so ", "<answer>\n", "x"], "one token may hold the whole marker, and more than it"),
    ]
    generator = draws()
    for _ in range(6):
        words = ["I <3 ", "noir", "> drama, ", "answer"]
        front = "".join(words[i] for i in torch.randint(0, 4, (5,), generator=generator).tolist())
        text = front + MARKER + "".join(words[:2])
        cuts = sorted({0, len(text), *torch.randint(1, len(text), (9,), generator=generator).tolist()})
        pieces = [text[start:end] for start, end in pairwise(cuts)]
        cases.append((pieces, "the text was cut at random"))
    for pieces, why in cases:
        value = int(answer(list(pieces)))
        ends = [i for i in range(len(pieces)) if MARKER in "".join(pieces[: i + 1])]
        expected = ends[0] if ends else -1
        assert value == expected, f"tokens {pieces}: expected {expected}, got {value}; {why}"


@report
def check_levels(answer: tuple[float, str]) -> None:
    """Right: the steps just below 1 are 1/256 wide, so a range of 0.04 holds about ten of them.

    Args:
        answer: how many different scores are left, and the letter of the reason.
    """
    number, letter = float(answer[0]), answer[1]
    assert 9 <= number <= 12, f"{number:g} is not near it" + hint(
        {
            "so many would be left in float16, of a few hundred films": 75 < number < 92,
            "so many would be left if nothing tied": number > 50,
            "three decimal digits would give 40, but bfloat16 counts in halves, not in tenths": 35 <= number <= 50,
            "its numbers are 1/128 apart above 1, and 1/256 just below": 4 < number < 7,
            "two decimal digits would give 5, but bfloat16 counts in halves, not in tenths": 3 <= number <= 4,
            "count the multiples of 1/256 from 0.95 to 0.99": 12 < number < 35,
        }
    )
    require_reason(
        letter,
        "b",
        {
            "a": "it has 16 bits, but sign and exponent take 9 of them",
            "c": "that is float16, which keeps three bits more and has a smaller range",
            "d": "the films' number matters only where it is below that of the steps",
        },
    )


@report
def check_sides(answer: Callable[[Tensor, Tensor, Tensor, int, float], tuple[Tensor, Tensor]]) -> None:
    """Right: the same weights are pulled from both sides, and the two pulls add up to the gradient.

    Args:
        answer: takes weights (d, e), a person (e,), films (N, e), the target's row and τ; returns the gradient of
            −log p(target) with respect to the weights through the person's state, and through the films' states.
    """
    generator = draws()
    for tau in (1.0, 0.1):
        weights, person, films = (
            torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((3, 4), (4,), (5, 4))
        )
        target = int(torch.randint(0, 5, (), generator=generator))
        given = answer(weights.clone(), person.clone(), films.clone(), target, tau)
        assert len(given) == 2, f"two gradients are asked for, you gave {len(given)}"
        for part in given:
            assert part.shape == weights.shape, f"a gradient has the weights' shape (3, 4), not {tuple(part.shape)}"
        through_person, through_films = _sides(weights, person, films, target, tau)
        total = through_person + through_films
        first, second = (part.double() for part in given)
        inner = _sides(weights, person, films, target, tau, cosine=False)
        for mine, right, other, side in (
            (first, through_person, through_films, "person's"),
            (second, through_films, through_person, "films'"),
        ):
            assert torch.allclose(mine, right, atol=1e-6), f"the part through the {side} side is not right yet" + hint(
                {
                    "that is the whole gradient: detach the other side": torch.allclose(mine, total, atol=1e-6),
                    "you have the two sides the wrong way round": torch.allclose(mine, other, atol=1e-6),
                    "the sign is that of log p, not of the loss −log p": torch.allclose(mine, -right, atol=1e-6),
                    "that is for inner products: divide states by their lengths": any(
                        torch.allclose(mine, part, atol=1e-6) for part in inner
                    ),
                    "this side is detached as well: nothing flows": not mine.any(),
                }
            )


def _sides(
    weights: Tensor, person: Tensor, films: Tensor, target: int, tau: float, cosine: bool = True
) -> tuple[Tensor, Tensor]:
    """The two gradients of :func:`check_sides`, with the weights copied so that each side has its own."""
    mine, theirs = (weights.clone().requires_grad_() for _ in range(2))
    user, table = (mine @ person)[None], films @ theirs.T
    scores = score_items(user, table, tau) if cosine else user @ table.T / tau
    gradients = torch.autograd.grad(-scores.log_softmax(1)[0, target], [mine, theirs])
    return gradients[0], gradients[1]


@report
def check_packed_mask(answer: Callable[[int, list[int]], tuple[Tensor, Tensor]]) -> None:
    """Right: in one row each reasoning lives as if it were alone behind the prompt.

    Args:
        answer: takes the prompt's length and those of the reasonings behind it; returns the mask (L, L), true where a
            row's token sees a column's, and the positions (L,).
    """
    generator = draws()
    cases = [(2, [2, 2]), (3, [1, 4, 2])]
    for _ in range(2):
        prompt, *lengths = torch.randint(1, 5, (4,), generator=generator).tolist()
        cases.append((prompt, lengths))
    for prompt, lengths in cases:
        mask, positions = (torch.as_tensor(part) for part in answer(prompt, list(lengths)))
        size = prompt + sum(lengths)
        assert mask.shape == (size, size), f"the mask of {size} tokens is ({size}, {size}), not {tuple(mask.shape)}"
        assert positions.shape == (size,), f"{size} tokens have {size} positions, not {tuple(positions.shape)}"
        owner = [0] * prompt + [i + 1 for i, length in enumerate(lengths) for _ in range(length)]
        place = [*range(prompt), *(prompt + t for length in lengths for t in range(length))]
        names = [f"prompt token {place[i] + 1}" if not owner[i] else f"token {place[i] - prompt + 1} of reasoning "
                 f"{owner[i]}" for i in range(size)]  # fmt: skip
        row = f"a prompt of {prompt} and reasonings of {lengths}"
        running = positions.tolist() == list(range(size))
        assert running is False or len(lengths) == 1, (
            f"{row}: your positions run on through the row; alone behind its prompt, each reasoning would begin at "
            f"position {prompt}"
        )
        assert positions.tolist() == place, f"{row}: expected positions {place}, got {positions.tolist()}"
        for i in range(size):
            for j in range(size):
                sees = owner[j] in (0, owner[i]) and place[j] <= place[i]
                if bool(mask[i, j]) == sees:
                    continue
                other = owner[j] not in (0, owner[i])
                if sees:
                    why = "it must see itself" if i == j else "it would, if it stood alone behind the prompt"
                else:
                    why = "that is another reasoning" if other else "that stands later"
                raise AssertionError(
                    f"{row}: {names[i]} {'does not see' if sees else 'sees'} {names[j]} in your mask; {why}"
                )
