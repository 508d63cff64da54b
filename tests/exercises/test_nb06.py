"""Notebook 06's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import json
from functools import partial
from statistics import mean

import pytest
import torch

from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import load_profile
from rrec_lib.exercises import nb06
from rrec_lib.plan.estimate import make_plan, model_configuration

CHAPTER, COMPANION = "06_gpu_training", "06_gpu_training_exercises"


def test_loss_mask(holds):
    def rows(total, sampled, width):
        return torch.tensor([[1] * n + [0] * (width - n) for n in sampled.tolist()])

    holds(
        CHAPTER,
        "my_loss_mask",
        nb06.check_loss_mask,
        {
            "the appended marker too": (lambda t, s, width: torch.arange(width) < t[:, None], "appended marker"),
            "one too many": (lambda t, s, width: torch.arange(width) <= s[:, None], "expected"),
            "from the right": (lambda t, s, width: torch.arange(width) >= width - s[:, None], "first ones"),
            "transposed": (lambda t, s, width: (torch.arange(width) < s[:, None]).T, "shape"),
        },
        rows,
    )


def removed(logprobs, old, advantages, eps, upper=True, lower=True, signs=True):
    ratio, a = (logprobs - old).exp(), advantages[:, None]
    above, below = (ratio > 1 + eps) & upper, (ratio < 1 - eps) & lower
    return (above & ((a > 0) | (not signs))) | (below & ((a < 0) | (not signs)))


def share(mask_too=True, **mistake):
    """The reader's clip fraction, with a mistake or none."""

    def answer(logprobs, old, advantages, mask, eps):
        found = removed(logprobs, old, advantages, eps, **mistake)
        return float((found & mask).sum() / mask.sum()) if mask_too else found.double().mean().item()

    return answer


def by_autograd(logprobs, old, advantages, mask, eps):
    """Of the sampled tokens that have an advantage, those whose gain has no gradient."""
    new = logprobs.clone().requires_grad_()
    ratio = (new - old).exp()
    a = advantages[:, None]
    gain = torch.minimum(ratio * a, ratio.clamp(1 - eps, 1 + eps) * a)
    (gradient,) = torch.autograd.grad(gain.sum(), new)
    return float(((gradient == 0) & (a != 0) & mask).sum() / mask.sum())


def test_clip_fraction(holds):
    holds(
        CHAPTER,
        "my_clip_fraction",
        nb06.check_clip_fraction,
        {
            "either side": (share(signs=False), "pushed back"),
            "with padding": (share(mask_too=False), "padding"),
            "upper only": (share(lower=False), "below 1 − ε"),
            "never": (lambda *_: 0.0, "expected"),
        },
        [by_autograd, share()],
    )


def test_tokens_read(holds):
    def counted(P, G, T):
        return sum(P + t for t in range(T + 1)) * G, sum([P, *[1] * T]) * G, P + sum([1] * T * G)

    holds(
        COMPANION,
        "my_tokens_read",
        nb06.check_tokens_read,
        {
            "the last pass": (
                lambda P, G, T: (G * sum(P + t for t in range(T)), G * (P + T), P + G * T),
                "one more pass",
            ),
            "no square": (lambda P, G, T: (G * (P + T), G * (P + T), P + G * T), "every pass reads all"),
            "one reasoning": (
                lambda P, G, T: (sum(P + t for t in range(T + 1)), G * (P + T), P + G * T),
                "there are G",
            ),
            "the last token": (lambda P, G, T: (counted(P, G, T)[0], G * (P + T - 1), P + G * T), "last token is read"),
            "nothing shared": (lambda P, G, T: (counted(P, G, T)[0], G * (P + T), G * (P + T)), "once for the whole"),
            "two numbers": (lambda P, G, T: counted(P, G, T)[:2], "three numbers"),
        },
        counted,
    )


def accumulated(weigh):
    """The reader's accumulation with a weight for each piece's mean."""

    def answer(weights, rows, loss, size):
        pieces = rows.split(size)
        for piece in pieces:
            (loss(weights, piece) * weigh(piece, rows, pieces)).backward()
        return weights.grad

    return answer


def last_piece(weights, rows, loss, size):
    for piece in rows.split(size):
        weights.grad = None
        loss(weights, piece).backward()
    return weights.grad


def one_row_at_a_time(weights, rows, loss, size):
    return sum(torch.autograd.grad(loss(weights, row[None]), weights)[0] for row in rows) / len(rows)


def only_whole_pieces(weights, rows, loss, size):
    pieces = [piece for piece in rows.split(size) if len(piece) == size]
    for piece in pieces:
        (loss(weights, piece) / len(pieces)).backward()
    return weights.grad


def test_accumulated(holds):
    holds(
        COMPANION,
        "my_accumulated",
        nb06.check_accumulated,
        {
            "means added up": (accumulated(lambda piece, rows, pieces: 1), "means are added up"),
            "equal pieces": (accumulated(lambda piece, rows, pieces: 1 / len(pieces)), "smaller last piece"),
            "sums": (accumulated(lambda piece, rows, pieces: len(piece)), "not divided by their number"),
            "the last piece": (last_piece, "only the last piece"),
            "all at once": (lambda w, rows, loss, size: torch.autograd.grad(loss(w, rows), w)[0], "rows at once"),
            "some rows": (only_whole_pieces, "should, once"),
            "a number": (lambda w, rows, loss, size: one_row_at_a_time(w, rows, loss, size).sum(), "shape (3,)"),
        },
        one_row_at_a_time,
    )


def memory(total, trained, layers, heads, width, sequences, tokens, frozen=2, gradient=4, moments=8, cache=4):
    """The reader's bytes, from bytes a number."""
    numbers = layers * heads * width * sequences * tokens
    return frozen * (total - trained) + 4 * trained, gradient * trained, moments * trained, cache * numbers


def change(place, value):
    """Right in all parts but one, which ``value`` makes of the whole question."""

    def answer(*case):
        parts = list(memory(*case))
        parts[place] = value(*case)
        return tuple(parts)

    return answer


def test_memory(holds):
    holds(
        COMPANION,
        "my_memory",
        nb06.check_memory,
        {
            "all in half": (change(0, lambda total, *_: 2 * total), "trained weights are float32"),
            "all in full": (change(0, lambda total, *_: 4 * total), "frozen weights are kept in bfloat16"),
            "the adapter alone": (change(0, lambda total, trained, *_: 4 * trained), "frozen weights are in memory"),
            "all gradients": (change(1, lambda total, *_: 4 * total), "only what is trained has a gradient"),
            "half a gradient": (partial(memory, gradient=2), "gradients are float32"),
            "one moment": (partial(memory, moments=4), "two moments"),
            "all moments": (change(2, lambda total, *_: 8 * total), "only what is trained has moments"),
            "keys alone": (partial(memory, cache=2), "keys and values are two"),
            "a wide cache": (partial(memory, cache=8), "they are kept in bfloat16"),
            "one layer": (change(3, lambda *case: memory(*case)[3] // case[2]), "every layer"),
            "one sequence": (change(3, lambda *case: memory(*case)[3] // case[5]), "every sequence"),
            "numbers": (partial(memory, gradient=1), "numbers, not bytes"),
            "three": (lambda *case: memory(*case)[:3], "four numbers"),
        },
        memory,
    )


@pytest.mark.parametrize("name", ["t4", "cpu"])
def test_memory_by_hand_is_the_plans(name):
    profile = load_profile(name, {"model.dtype": "bfloat16"})
    config, plan = model_configuration(profile.model.name), make_plan(profile, zero=0)
    users, shape = plan.shape.users * plan.passes, plan.shape  # a step's are sampled at once; a prompt is kept once
    head = config.hidden_size // config.num_attention_heads
    cache = config.num_hidden_layers, config.num_key_value_heads, head, users
    by_hand = memory(plan.parameters, plan.trained, *cache, shape.prompt_tokens + shape.group_size * shape.new_tokens)
    exact = [plan.exact["parameters"], plan.exact["gradients"], plan.exact["optimiser state"], plan.rollout]
    assert list(by_hand) == pytest.approx(exact, rel=1e-4)  # AdamW's counters, 4 bytes a tensor, are left out
    activations = sum(size for part, size in plan.estimated.items() if part.startswith("activations"))
    assert activations > max(by_hand) or name == "cpu"  # as the solution says of t4


def test_stale(holds):
    holds(
        COMPANION,
        "my_stop",
        nb06.check_stale,
        {
            "added to the probability": ((0.7, "b"), "1.2 times what"),
            "no move": ((0.5, "b"), "the ratio is 1"),
            "no clip": ((0.75, "b"), "without a clip"),
            "certain": ((1.0, "b"), "without a clip"),
            "less likely": ((0.4, "b"), "becomes likelier"),
            "too early": ((0.55, "b"), "up to a ratio of 1.2"),
            "no probability": ((1.2, "b"), "between 0 and 1"),
            "pulled back": ((0.61, "a"), "nothing pulls it back"),
            "ever smaller": ((0.62, "c"), "the reason isn't: the step"),
            "always near 1": ((0.62, "d"), "never renewed"),
        },
        [(0.61, "b"), (0.63, "B")],
    )


def test_a_stale_sample_stops_behind_the_clip_and_goes_on_without_it():
    path = nb06.stale_updates(12)
    assert [p < 0.6 for p in path[:6]] == [True] * 5 + [False]  # the fifth update goes past
    assert path[5] == path[-1] == pytest.approx(0.6207, abs=1e-4)
    assert nb06.stale_updates(12, clips=False)[-1] > 0.72


def test_what_the_sample_answer_says_of_the_recorded_runs():
    def log(name):
        path = resource(f"results/trials/movielens-cpu-{name}.jsonl")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if "reward" in row]

    fast, slow = log("recpo-rate-5e-4"), log("token-weight-0.1-recpo")
    assert fast[0]["reward"] == slow[0]["reward"]  # the same warm-up and the same first samples
    assert [round(fast[step - 1]["reasoning_tokens"]) for step in (1, 5, 11)] == [27, 13, 4]
    assert round(mean(row["reasoning_tokens"] for row in slow[:5])) == 25
    assert round(mean(row["reasoning_tokens"] for row in slow[-10:])) == 28
    first, later = slice(0, 10), slice(35, 45)
    for rows, said in ((fast, (0.195, 0.212)), (slow, (0.191, 0.217))):
        assert tuple(round(mean(row["reward"] for row in rows[part]), 3) for part in (first, later)) == said
    assert [round(mean(row["reward_std_in_group"] for row in fast[part]), 3) for part in (first, later)] == [
        0.016,
        0.007,
    ]
    assert [fast[step - 1]["equal_reward_fraction"] for step in (20, 45)] == [1, 1]
    assert fast[9]["entropy"] < 0.3 < 1.1 < min(row["entropy"] for row in slow)
