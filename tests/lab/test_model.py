"""The lab's policy: its sampler agrees with its own forward pass, and neither head looks ahead."""

import pytest
import torch

from rrec_lib.lab import world as lab
from rrec_lib.lab.model import USER_STATES, LabModel, answered, read_out, read_silent, sample


@pytest.fixture(scope="module")
def model() -> LabModel:
    torch.manual_seed(0)
    return LabModel(16, 2, 2)


HISTORIES = torch.tensor([[1, 2, 3, 4], [60, 2, 2, 9], [5, 5, 5, 5]])


@torch.no_grad()
def test_cached_sampling_gives_the_logprobs_of_a_full_pass(model):
    tokens, logprobs = sample(model, HISTORIES, 2, torch.Generator().manual_seed(1), temperature=1.3)
    _, again = read_out(model, HISTORIES.repeat_interleave(2, 0), tokens, temperature=1.3)
    torch.testing.assert_close(logprobs, again, atol=1e-5, rtol=1e-5)
    _, other = read_out(model, HISTORIES.repeat(2, 1), tokens, temperature=1.3)  # users in the wrong order
    assert other is not None
    assert (logprobs - other).abs().max() > 1e-3
    _, cooler = read_out(model, HISTORIES.repeat_interleave(2, 0), tokens)
    assert cooler is not None
    assert (logprobs - cooler).abs().max() > 1e-3


@torch.no_grad()
def test_no_token_sees_what_follows(model):
    tokens, _ = sample(model, HISTORIES, 1, torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[:, -1] = lab.CHATTER
    before, after = (model(answered(HISTORIES, text))[0] for text in (tokens, changed))
    last = lab.HISTORY + lab.REASONING  # where the changed token stands
    torch.testing.assert_close(before[:, :last], after[:, :last])
    assert (before[:, -1] - after[:, -1]).abs().max() > 1e-4


@torch.no_grad()
def test_sampling_follows_the_policy(model):
    drawn, _ = sample(model, HISTORIES[:1], 4000, torch.Generator().manual_seed(0))
    prompt = torch.cat([HISTORIES[:1], torch.tensor([[lab.THINK]])], 1)
    expected = torch.softmax(model.lm_logits(model(prompt)[0][0, -1]), -1)
    seen = drawn[:, 0].bincount(minlength=lab.VOCABULARY) / 4000
    assert (seen - expected).abs().max() < 0.03
    assert (seen - expected.roll(1)).abs().max() > 0.03


@torch.no_grad()
def test_every_item_has_its_own_row(model):
    rows = model.item_states()
    assert rows.shape == (lab.N_ITEMS, 16)
    assert torch.cdist(rows, rows).fill_diagonal_(1).min() > 1e-3


@torch.no_grad()
def test_the_users_state_is_the_markers_the_last_tokens_or_the_mean():
    torch.manual_seed(0)
    model = LabModel(16, 2, 2)
    tokens, _ = sample(model, HISTORIES, 1, torch.Generator().manual_seed(1))
    states, _ = model(answered(HISTORIES, tokens))
    found = {}
    for model.user_state in USER_STATES:
        found[model.user_state] = read_out(model, HISTORIES, tokens)[0]
        torch.testing.assert_close(read_out(model, HISTORIES, None)[0], model(answered(HISTORIES, None))[0][:, -1])
    think = lab.HISTORY  # where <think> stands; eight tokens and the marker follow
    torch.testing.assert_close(found["marker"], states[:, -1])
    torch.testing.assert_close(found["last token"], states[:, think + lab.REASONING])
    torch.testing.assert_close(found["mean"], states[:, think + 1 : think + 1 + lab.REASONING].mean(1))


def test_learned_rows_take_the_place_of_described_items():
    torch.manual_seed(0)
    model = LabModel(16, 2, 2)
    described = model.item_states()
    model.classify(0)
    assert model.item_states().shape == described.shape
    model.item_states()[3].sum().backward()
    assert model.tokens.weight.grad is None
    assert [p.grad is not None for name, p in model.named_parameters() if name == "classes.weight"] == [True]


def test_odd_heads_are_refused():
    with pytest.raises(ValueError, match="even multiple of heads 3"):
        LabModel(16, 1, 3)


@torch.no_grad()
def test_latent_steps_equal_states_fed_back_by_hand(model):
    """Without a cache: the whole sequence again for each step, its last state put behind it."""
    embedded = model.tokens(torch.cat([HISTORIES, torch.full((3, 1), lab.THINK)], 1))
    for _ in range(3):
        thought = model(embedded)[0][:, -1:] / 16**0.5
        embedded = torch.cat([embedded, thought], 1)
    marker = model.tokens(torch.full((3, 1), lab.ANSWER))
    by_hand = model(torch.cat([embedded, marker], 1))[0][:, -1]
    torch.testing.assert_close(read_silent(model, HISTORIES, "latent", 3), by_hand, atol=1e-5, rtol=1e-5)
    for other in (read_silent(model, HISTORIES, "latent", 2), read_silent(model, HISTORIES, "pause", 3)):
        assert (other - by_hand).abs().max() > 1e-3
    nothing_fed_back = torch.cat([embedded[:, :5], torch.zeros(3, 3, 16), marker], 1)
    assert (model(nothing_fed_back)[0][:, -1] - by_hand).abs().max() > 1e-3


def test_a_latent_step_is_trained_through():
    torch.manual_seed(0)
    model = LabModel(16, 2, 2)
    states = read_silent(model, HISTORIES, "latent", 2)
    (states * torch.randn_like(states)).sum().backward()  # their plain sum is constant behind a layer norm
    assert model.places.weight.grad is not None
    seen = model.places.weight.grad.abs().sum(1) > 0
    assert seen.tolist() == [True] * 8 + [False] * 6  # history, <think>, two steps, marker


@torch.no_grad()
def test_pauses_are_the_repeated_marker_and_no_steps_are_no_reasoning(model):
    at_once, _ = read_out(model, HISTORIES, None)
    for way in ("latent", "pause", "none"):
        torch.testing.assert_close(read_silent(model, HISTORIES, way, 0), at_once, atol=0, rtol=0)
        if way != "none":
            assert (read_silent(model, HISTORIES, way, 1) - at_once).abs().max() > 1e-3
    paused = torch.tensor([[*row, lab.THINK, lab.THINK, lab.THINK, lab.ANSWER] for row in HISTORIES.tolist()])
    torch.testing.assert_close(read_silent(model, HISTORIES, "pause", 2), model(paused)[0][:, -1])


@torch.no_grad()
def test_a_chain_of_another_length_writes_and_reads_as_many_tokens():
    torch.manual_seed(0)
    model = LabModel(16, 2, 2, chain=6)
    histories = torch.randint(64, (3, 6))
    tokens, logprobs = sample(model, histories, 2, torch.Generator().manual_seed(1))
    assert tokens.shape == (6, 12)
    states, again = read_out(model, histories.repeat_interleave(2, 0), tokens)
    torch.testing.assert_close(logprobs, again, atol=1e-5, rtol=1e-5)
    assert states.shape == (6, 16)
