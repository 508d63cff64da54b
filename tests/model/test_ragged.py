"""Ragged rows: states, logits and gradients as of sequences on their own, and what would go wrong without them."""

import dataclasses

import pytest
import torch

from rrec_lib.model import ragged
from rrec_lib.model.ragged import ragged_forward, ragged_hidden, ragged_row, ragged_rows

ROWS = [  # prefix, what each completion sees of it, completions, how many of their last tokens are learned
    ([3, 4, 5, 6], [4, 2, 4], [[11, 12, 13], [21, 22], [31]], [2, 1, 0]),
    ([7, 8], [2, 1], [[41, 42], [51, 52, 53, 54]], [0, 3]),
]
SEPARATE = [
    prefix[:seen] + rest for prefix, visible, rests, _ in ROWS for seen, rest in zip(visible, rests, strict=True)
]
LEARNED = [n for *_, learned in ROWS for n in learned]


@pytest.fixture(params=["llama", "qwen2", "gemma2"])
def model(request, family):
    settings = {"attn_logit_softcapping": 0.3} if request.param == "gemma2" else {}
    return family(request.param, initializer_range=0.5, **settings)[0]


@pytest.fixture
def rows():
    return [ragged_row(prefix, rests, visible, learned) for prefix, visible, rests, learned in ROWS]


def test_a_row_by_hand(rows):
    row = rows[0]
    assert row.ids.tolist() == [3, 4, 5, 6, 11, 12, 13, 21, 22, 0, 31, 0, 0]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 2, 3, 4, 4, 5, 6]
    assert row.ends.tolist() == [6, 8, 10]
    assert row.predictors.tolist() == [4, 5, 7]
    assert row.predicted.tolist() == [12, 13, 22]


def test_states_logits_and_gradients_are_those_of_separate_sequences(model, rows, alone):
    weights = torch.randn(len(SEPARATE), model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    parameters = [p for layer in model.get_decoder().layers for p in layer.parameters()]

    def gradients(states, logprobs):
        return torch.autograd.grad((states * weights).sum() + logprobs, parameters)

    with ragged_rows(model):
        output = ragged_forward(model, rows)
        predicted = torch.cat([row.predicted for row in rows])
        found = output.logits.log_softmax(-1)[torch.arange(len(predicted)), predicted].sum()
        of_rows = gradients(output.states, found)
    states, expected = alone(model, SEPARATE), torch.zeros(())
    for sequence, learned in zip(SEPARATE, LEARNED, strict=True):
        logprobs = model(torch.tensor([sequence])).logits[0].log_softmax(-1)
        last = range(len(sequence) - learned, len(sequence))
        expected = expected + sum(logprobs[at - 1, sequence[at]] for at in last)
    torch.testing.assert_close(output.states, states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(of_rows, gradients(states, expected), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_the_upper_layers_go_on_from_what_the_lower_ones_made(model, rows):
    with ragged_rows(model), torch.no_grad():
        whole = ragged_forward(model, rows).states
        hidden = torch.cat([ragged_hidden(model, [row], 1) for row in rows], 1)  # row by row, as it is kept
        torch.testing.assert_close(ragged_forward(model, rows, hidden, 1).states, whole, atol=1e-5, rtol=1e-5)
        assert (ragged_forward(model, rows, hidden * 0.9, 1).states - whole).abs().max() > 1e-3


def see_all(row):
    return dataclasses.replace(row, visible=torch.full_like(row.visible, row.prefix))


def counted_on(row):
    return dataclasses.replace(row, positions=torch.arange(len(row)))


@pytest.mark.parametrize("mistake", [see_all, counted_on])
def test_seeing_more_or_standing_elsewhere_would_be_noticed(model, rows, mistake):
    with ragged_rows(model), torch.no_grad():
        difference = ragged_forward(model, rows).states - ragged_forward(model, list(map(mistake, rows))).states
    changed = difference.abs().amax(1) > 1e-3
    assert not changed[0]  # it sees the whole prefix and stands right behind it
    assert changed[1]


def test_another_attention_is_refused_and_comes_back(model, rows):
    before = ragged.attention_of(model)
    with ragged_rows(model):
        assert ragged.attention_of(model) == "ragged"
    assert ragged.attention_of(model) == before
    with pytest.raises(RuntimeError, match="with ragged_rows"):
        ragged_forward(model, rows)


def test_rows_longer_than_a_sliding_window_are_refused(family):
    model = family("gemma2", sliding_window=6)[0]
    with ragged_rows(model), pytest.raises(ValueError, match="7 tokens is longer than the model's sliding window of 6"):
        ragged_forward(model, [ragged_row([3, 4, 5, 6], [[11, 12, 13]])])
