"""Rollouts: where a reasoning ends, what is dropped or appended, and that its state is that of a plain forward pass."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from rrec_lib.model.load import load_tokenizer
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import MARKER, marker_ids
from rrec_lib.recpo import rollouts as rollouts_module
from rrec_lib.recpo.rollouts import Closed, Rollouts, close, sample_groups
from rrec_lib.training.failures import explain


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-random")


def tokens(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


CASES = {
    # text as sampled: (kept text, finished, trimmed)
    "They like crime.\n<answer>": ("They like crime.\n", True, False),
    "They like crime.<answer> Fargo": ("They like crime.", True, False),  # `.<` is one token
    "crime <answer></answer>": ("crime ", True, True),  # `></` is one token, so the marker overshoots
    "crime.<answer>.": ("crime", True, True),  # `.<` begins it and `>.` ends it: the full stop is dropped with `.<`
    "They like": ("They like", False, False),
    "a < b and <answ": ("a < b and <answ", False, False),  # begun, not finished
    "": ("", False, False),
    "<answer>": ("", True, False),
    "one<answer>two<answer>": ("one", True, False),
}


def test_the_cases_have_the_tokens_they_are_about(tokenizer):
    def pieces(text):
        return [tokenizer.decode([i]) for i in tokens(tokenizer, text)]

    assert pieces(MARKER) == ["<", "answer", ">"]
    assert ".<" in pieces("They like crime.<answer> Fargo")
    assert "></" in pieces("crime <answer></answer>")
    assert {".<", ">."} <= set(pieces("crime.<answer>."))


@pytest.mark.parametrize("text", CASES)
def test_close(text, tokenizer):
    kept, finished, trimmed = CASES[text]
    sampled = tokens(tokenizer, text)
    closed = close(sampled, tokenizer)
    decoded = tokenizer.decode(closed.ids)
    assert decoded.endswith(MARKER)
    assert decoded.count(MARKER) == 1
    assert decoded.removesuffix(MARKER).strip() == kept.strip()
    assert (closed.finished, closed.trimmed) == (finished, trimmed)
    assert closed.ids[: closed.sampled] == sampled[: closed.sampled]  # as sampled, never re-tokenised
    if finished and not trimmed:
        assert closed.sampled == len(closed.ids)
    else:
        assert closed.ids[closed.sampled :] == marker_ids(tokenizer)  # appended, so masked out of the loss


def test_the_end_of_turn_ends_a_reasoning(tokenizer):
    ids = tokens(tokenizer, "fine")
    marker = marker_ids(tokenizer)
    closed = close([*ids, tokenizer.eos_token_id, *marker], tokenizer, {tokenizer.eos_token_id})
    assert closed == Closed(ids + marker, len(ids), finished=False, trimmed=False)
    assert close([*ids, tokenizer.eos_token_id, *marker], tokenizer).finished  # unless it is not told


def test_texts_and_fractions(tokenizer):
    texts = ["They like crime.<answer> Fargo", "crime <answer></answer>", "They like", "<answer>"]
    closed = [close(tokens(tokenizer, text), tokenizer) for text in texts]
    rollouts = Rollouts(closed, torch.zeros(4, 2))
    assert rollouts.texts(tokenizer) == ["They like crime.", "crime", "They like", ""]
    assert (rollouts.unfinished_fraction, rollouts.trimmed_fraction) == (0.25, 0.25)


def test_rollouts_refuse_nothing_to_do(tokenizer):
    for prompts, group_size, length in (([], 2, 4), ([[1]], 0, 4), ([[1]], 2, 0)):
        with pytest.raises(ValueError, match="at least one prompt"):
            sample_groups(torch.nn.Linear(1, 1), tokenizer, prompts, group_size, length)


@pytest.fixture(scope="module")
def policy(smoke_profile):
    return load_policy(smoke_profile.model)


PROMPTS = [[5, 6, 7, 8, 9], [10, 11]]  # the second is padded on the left
LENGTH = 9


def sample(policy, group_size, seed=0, temperature=1.0, top_k=50):
    torch.manual_seed(seed)
    with policy.inference():
        return sample_groups(
            language_model(policy.model), policy.tokenizer, PROMPTS, group_size, LENGTH, temperature, top_k
        )


def dictate(monkeypatch, scripts):
    """Let the real sampling loop run, with one script of tokens per member in place of the model's choice."""

    def only_the_script(writing, *_):
        return [scripts[(m.row, m.number)][len(m.ids)] for m in writing]

    monkeypatch.setattr(rollouts_module, "_choose", only_the_script)


# What each of two groups' three rows is made to write, and (finished, trimmed).
WRITTEN = [
    ("They like crime.<answer>", True, False),
    ("crime <answer></answer>", True, True),
    ("They like films about space and about the sea", False, False),  # cut off by the length
    ("<answer>", True, False),
    ("fine<|im_end|>", False, False),
    ("one two three four <answer>", True, False),
]


def test_every_way_to_end_gives_the_state_of_a_plain_forward_pass(policy, tokenizer, alone, monkeypatch):
    scripts = [tokens(tokenizer, text) for text, _, _ in WRITTEN]
    filled = [(script + [20] * LENGTH)[:LENGTH] for script in scripts]
    dictate(monkeypatch, {(row // 3, row % 3 + 1): script for row, script in enumerate(filled)})
    rollouts = sample(policy, 3, top_k=0)
    for row, (text, finished, trimmed) in enumerate(WRITTEN):
        closed, prompt, other = rollouts.closed[row], PROMPTS[row // 3], PROMPTS[1 - row // 3]
        assert (closed.finished, closed.trimmed) == (finished, trimmed), text
        assert closed.ids[: closed.sampled] == filled[row][: closed.sampled]  # group order: rows 0-2, then 3-5
        with policy.inference():
            states = alone(policy.model, [prompt + closed.ids, prompt + closed.ids[:-1], other + closed.ids])
        torch.testing.assert_close(rollouts.states[row], states[0], atol=1e-5, rtol=1e-5)
        # One token early is another state, and so is the other person's prompt.
        assert ((rollouts.states[row] - states[1:]).abs().amax(1) > 1e-2).all()


def test_what_is_written_can_be_heard_step_by_step_and_never_the_marker(policy, tokenizer, monkeypatch):
    scripts = [tokens(tokenizer, text) for text, _, _ in WRITTEN]
    filled = [(script + [20] * LENGTH)[:LENGTH] for script in scripts]
    dictate(monkeypatch, {(row // 3, row % 3 + 1): script for row, script in enumerate(filled)})
    heard: list[list[str]] = []
    with policy.inference():
        result = sample_groups(language_model(policy.model), tokenizer, PROMPTS, 3, LENGTH, hear=heard.append)
    assert heard[-1] == result.texts(tokenizer)
    assert len(heard) == LENGTH  # the third is cut off there
    assert heard[0] == ["They", "crime", "They", "", "fine", "one"]  # `<` of the fourth may begin the marker
    for earlier, later in pairwise(heard):
        assert not any(MARKER[:1] in text for text in later)
        assert all(len(before) <= len(after) for before, after in zip(earlier, later, strict=True))


def test_in_every_family_rollouts_end_at_the_marker_with_its_state(of_family, alone):
    rollouts = sample(of_family, 3)
    assert all(of_family.tokenizer.decode(closed.ids).endswith(MARKER) for closed in rollouts.closed)
    with torch.no_grad():
        expected = alone(of_family.model, [PROMPTS[row // 3] + c.ids for row, c in enumerate(rollouts.closed)])
    torch.testing.assert_close(rollouts.states, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("fixed", "steps"), [(True, LENGTH), (False, 1)])
def test_only_a_reasoning_of_fixed_length_goes_on_behind_its_end(policy, tokenizer, monkeypatch, fixed, steps):
    ending, drawn = [tokenizer.eos_token_id], []
    monkeypatch.setattr(rollouts_module, "_choose", lambda *_: drawn.append(1) or ending)
    with policy.inference():
        sample_groups(language_model(policy.model), tokenizer, PROMPTS[:1], 1, LENGTH, fixed_length=fixed)
    assert len(drawn) == steps


def test_sampling_follows_the_seed_and_temperature_zero_does_not(policy):
    def ids(**options):
        return [closed.ids for closed in sample(policy, 3, **options).closed]

    assert ids(seed=1) == ids(seed=1)
    assert ids(seed=1) != ids(seed=2)
    greedy = ids(seed=1, temperature=0.0)
    assert greedy == ids(seed=2, temperature=0.0)
    assert greedy[0] == greedy[1] == greedy[2]
    assert greedy[3] == greedy[4] == greedy[5]
    assert greedy[0] != greedy[3]  # group order: three rows of the first prompt, then three of the second
    assert ids(seed=1, top_k=1) == greedy


def test_greedy_tokens_are_those_of_generate(policy):
    """Transformers' own loop, one prompt at a time, is the reference."""
    model: Any = language_model(policy.model)
    written = list(sample(policy, 2, temperature=0.0).closed)
    for row, closed in enumerate(written):
        prompt = torch.tensor([PROMPTS[row // 2]])
        with policy.inference():
            output = model.generate(prompt, max_new_tokens=LENGTH, do_sample=False, pad_token_id=0)
        expected = output[0, prompt.shape[1] :].tolist()
        assert closed.ids[: closed.sampled] == expected[: closed.sampled]
        assert closed.sampled > 0


def test_tokens_are_drawn_as_multinomial_draws_them():
    """Bit for bit, the random stream behind them included: what was recorded holds."""
    logits = torch.randn(64, 300, generator=torch.Generator().manual_seed(0)) * 3

    def drawn(seed, choose):
        torch.manual_seed(seed)
        return choose(), torch.rand(3).tolist()

    for top_k in (50, 0):
        values, ids = logits.topk(top_k or 300)
        table = (values / 0.7).softmax(-1)
        theirs = drawn(1, lambda p=table, i=ids: i.gather(1, torch.multinomial(p, 1))[:, 0].tolist())
        assert drawn(1, lambda k=top_k: rollouts_module._choose([], logits, 0.7, k)) == theirs
        assert drawn(2, lambda k=top_k: rollouts_module._choose([], logits, 0.7, k)) != theirs


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_probabilities_that_are_no_numbers_are_refused(value):
    logits = torch.zeros(3, 8)
    assert len(rollouts_module._choose([], logits, 1.0, 0)) == 3
    logits[1, 2] = value
    with pytest.raises(RuntimeError, match="probability tensor contains inf or nan") as refused:
        rollouts_module._choose([], logits, 1.0, 0)
    assert "lower the learning rate" in str(explain(refused.value, 4, Path("run")))
