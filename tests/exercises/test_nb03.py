"""Notebook 03's checks: the stub and plausible wrong answers fail, the printed solution passes."""

from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from rrec_lib.exercises import nb03
from rrec_lib.model.packing import attention_mask
from rrec_lib.plan.estimate import model_configuration

CHAPTER, COMPANION = "03_model_architecture", "03_model_architecture_exercises"


def test_last_states(holds):
    def rows(pick):
        return lambda h, m: torch.stack([pick(h[i], int(m[i].sum())) for i in range(len(h))])

    holds(
        CHAPTER,
        "my_last_states",
        nb03.check_last_states,
        {
            "last column": (lambda h, m: h[:, -1], "padding"),
            "one too early": (rows(lambda row, n: row[max(n - 2, 0)]), "one token early"),
            "mean": (lambda h, m: (h * m[..., None]).sum(1) / m.sum(1, keepdim=True), "mean over tokens"),
            "one axis left in": (lambda h, m: h[torch.arange(len(h)), m.sum(1) - 1][:, None], "expected shape"),
        },
        rows(lambda row, n: row[:n][-1]),
    )


def test_rec_head(holds):
    holds(
        CHAPTER,
        "my_rec_head",
        nb03.check_rec_head,
        {
            "inner product": (lambda u, f, tau: u @ f.T / tau, "inner product"),
            "multiplied": (lambda u, f, tau: normalize(u, dim=1) @ normalize(f, dim=1).T * tau, "divide by τ"),
            "one side": (lambda u, f, tau: u @ normalize(f, dim=1).T / tau, "expected"),
            "wrong axis": (lambda u, f, tau: normalize(u, dim=0) @ normalize(f, dim=0).T / tau, "expected"),
        },
        lambda u, f, tau: torch.nn.functional.cosine_similarity(u[:, None], f[None], dim=2) / tau,
    )


def test_lora_count(holds):
    holds(
        COMPANION,
        "my_lora_count",
        nb03.check_lora_count,
        {
            "A alone": (lambda shapes, r: sum(r * i for i, _ in shapes), "B is trained too"),
            "B alone": (lambda shapes, r: sum(r * o for _, o in shapes), "A is trained too"),
            "the frozen weights": (lambda shapes, r: sum(i * o for i, o in shapes), "frozen weights"),
            "square": (lambda shapes, r: sum(2 * r * i for i, _ in shapes), "needs not be square"),
            "both in one": (lambda shapes, r: sum(r * i * o for i, o in shapes), "two matrices"),
        },
        lambda shapes, r: sum(torch.zeros(r, i).numel() + torch.zeros(o, r).numel() for i, o in shapes),
    )


def test_the_layer_is_smollm2s():
    config = model_configuration("smollm2-135m-instruct")
    wide, deep, short = config.hidden_size, config.intermediate_size, config.num_key_value_heads * 64
    layer = [(wide, wide), (wide, short), (wide, short), (wide, wide), (wide, deep), (wide, deep), (deep, wide)]
    assert list(nb03.SMOLLM2_LAYER) == layer
    assert 10 * 8 * sum(i + o for i, o in layer) == 814_080  # as the solution says


def test_marker_end(holds):
    def first_token(pieces):
        places = [i for i in range(len(pieces)) if "<answer>" in "".join(pieces[: i + 1])]
        return places[0] - 2 if places else -1

    def canonical(pieces):
        runs = [i + 2 for i in range(len(pieces) - 2) if pieces[i : i + 3] == ["<", "answer", ">"]]
        return runs[0] if runs else -1

    def last(pieces):
        text = "".join(pieces)
        end = text.rfind("<answer>")
        return next(i for i in range(len(pieces)) if len("".join(pieces[: i + 1])) >= end + 8) if end >= 0 else -1

    def exact_end(pieces):
        return next((i for i in range(len(pieces)) if "".join(pieces[: i + 1]).endswith("<answer>")), -1)

    def otherwise(pieces):
        end, length = "".join(pieces).find("<answer>") + 8, 0
        for i, piece in enumerate(pieces):
            length += len(piece)
            if length >= end > 7:
                return i
        return -1

    holds(
        COMPANION,
        "my_marker_end",
        nb03.check_marker_end,
        {
            "its first token": (first_token, "complete with its last token"),
            "three tokens alone": (canonical, "make up the same text"),
            "the last one": (last, "not the last"),
            "a text that ends there": (exact_end, "more than it"),
            "one token": (lambda pieces: pieces.index(">") if ">" in pieces else -1, "parts of a marker"),
        },
        otherwise,
    )


def test_levels(holds):
    holds(
        COMPANION,
        "my_levels",
        nb03.check_levels,
        {
            "nothing ties": ((500, "a"), "if nothing tied"),
            "three digits": ((40, "b"), "halves, not in tenths"),
            "the steps above 1": ((6, "b"), "1/128 apart above 1"),
            "two digits": ((4, "b"), "two decimal digits"),
            "float16": ((83, "c"), "left in float16"),
            "some": ((20, "b"), "multiples of 1/256"),
            "the films' number": ((11, "d"), "the reason isn't: the films' number"),
            "16 bits": ((10, "a"), "sign and exponent"),
            "another letter": ((11, "e"), "one letter of a, b, c, d"),
        },
        (10, "B"),
    )


@pytest.mark.parametrize("films", [60, 500])
def test_bfloat16_leaves_eleven_scores(films):
    assert len(torch.linspace(0.95, 0.99, films).bfloat16().unique()) == 11


def sides(w, x, z, target, tau, keep=(True, True), sign=1, inner=False):
    """The reader's two gradients, with a mistake or none."""
    parts = []
    for through_person in (True, False):
        w = w.detach().requires_grad_()
        user, table = w @ x, z @ w.T
        if through_person and keep[0]:
            table = table.detach()
        if not through_person and keep[1]:
            user = user.detach()
        scores = table @ user if inner else normalize(table, dim=1) @ normalize(user, dim=0)
        parts.append(torch.autograd.grad(-sign * (scores / tau).log_softmax(0)[target], w)[0])
    return tuple(parts)


def test_sides(holds):
    holds(
        COMPANION,
        "my_sides",
        nb03.check_sides,
        {
            "the whole, twice": (partial(sides, keep=(False, False)), "detach the other side"),
            "the films' part whole": (partial(sides, keep=(True, False)), "films' side"),
            "the wrong way round": (lambda *given: sides(*given)[::-1], "wrong way round"),
            "the sign": (partial(sides, sign=-1), "sign"),
            "inner products": (partial(sides, inner=True), "inner products"),
            "one number": (lambda *given: tuple(part.sum() for part in sides(*given)), "weights' shape"),
            "one gradient": (lambda *given: sides(*given)[:1], "two gradients"),
        },
        sides,
    )


def packed(prompt, lengths, blind=False, open_end=False, running=False, no_prompt=False):
    """The reader's mask and positions, with a mistake or none."""
    size = prompt + sum(lengths)
    mask, positions, start = torch.zeros(size, size, dtype=torch.bool), list(range(prompt)), prompt
    mask[:prompt, :prompt] = torch.ones(prompt, prompt).tril().bool()
    for length in lengths:
        own = slice(start, start + length)
        mask[own, :prompt] = not no_prompt
        mask[own, own] = True if open_end else torch.ones(length, length).tril().bool()
        positions += range(prompt, prompt + length)
        start += length
    if blind:
        mask = torch.ones(size, size).tril().bool()
    return mask, torch.arange(size) if running else torch.tensor(positions)


def test_packed_mask(holds):
    holds(
        COMPANION,
        "my_packed_mask",
        nb03.check_packed_mask,
        {
            "the usual causal mask": (partial(packed, blind=True), "another reasoning"),
            "no order inside": (partial(packed, open_end=True), "stands later"),
            "without the prompt": (partial(packed, no_prompt=True), "if it stood alone"),
            "positions that run on": (partial(packed, running=True), "run on through the row"),
            "one row alone": (lambda p, lengths: (packed(p, lengths)[0][0], packed(p, lengths)[1]), "the mask of"),
        },
        packed,
    )


def test_packed_mask_is_the_librarys():
    mask, positions = packed(3, [2, 2])
    owner = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    layer = torch.nn.Module()
    layer.config = type("Config", (), {"_attn_implementation": "sdpa"})()  # type: ignore[assignment]
    assert torch.equal(attention_mask(layer, owner, positions[None], owner, positions[None])[0, 0], mask)
