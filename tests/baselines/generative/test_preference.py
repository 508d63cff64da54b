"""Preference losses against values by hand, and gradients against hand and finite differences, in float64."""

import math

import pytest
import torch

from rrec_lib.baselines.generative.preference import dpo_loss, rebel_loss, sdpo_loss, sprec_loss


def wide(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def close(found, *expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64).view(found.shape), atol=1e-14, rtol=0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_dpo_by_hand():
    chosen, rejected = wide(0.5, -1.0), wide(-0.5, 1.0)
    loss = dpo_loss(chosen, rejected, beta=0.5)
    close(loss.detach(), (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(1.0))) / 2)
    loss.backward()
    slopes = [0.5 * sigmoid(-0.5) / 2, 0.5 * sigmoid(1.0) / 2]  # β σ(−β margin), over the batch
    close(chosen.grad, -slopes[0], -slopes[1])
    close(rejected.grad, *slopes)


def test_sdpo_by_hand():
    chosen, rejected = wide(0.0), torch.tensor([[0.0, math.log(2.0)]], dtype=torch.float64, requires_grad=True)
    loss = sdpo_loss(chosen, rejected, beta=1.0)
    close(loss.detach(), math.log(1 + 1 + 2))
    loss.backward()
    close(chosen.grad, -3 / 4)
    close(rejected.grad, 1 / 4, 2 / 4)  # the harder answer is pushed down more


def test_sprec_by_hand():
    chosen, rejected = wide(0.2), torch.tensor([[0.2, -0.8]], dtype=torch.float64, requires_grad=True)
    own = torch.tensor([[math.log(0.06), math.log(0.02)]], dtype=torch.float64, requires_grad=True)  # shares 3/4, 1/4
    loss = sprec_loss(chosen, rejected, own, beta=2.0)
    close(loss.detach(), 0.75 * math.log(2) + 0.25 * math.log(1 + math.exp(-2)))
    loss.backward()
    slopes = [0.75 * 2 * 0.5, 0.25 * 2 * sigmoid(-2)]
    close(chosen.grad, -sum(slopes))
    close(rejected.grad, *slopes)
    assert own.grad is None


def test_sprec_is_dpo_in_expectation_where_the_models_own_writing_is_rejected():
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, own = (torch.randn(*shape, generator=generator).double() for shape in ((1,), (1, 6), (1, 6)))
    each = torch.stack([dpo_loss(chosen, rejected[:, k], 0.7) for k in range(6)])
    close(sprec_loss(chosen, rejected, own, 0.7), float((own.softmax(1)[0] * each).sum()))
    assert (
        abs(float(sprec_loss(chosen, rejected, own, 0.7) - each.mean())) > 1e-3
    )  # evenly drawn answers are another loss


def test_rebel_by_hand():
    first, second = wide(0.3, 0.0), wide(0.1, 0.0)
    rewards = torch.tensor([[1.0, 0.2], [0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    loss = rebel_loss(first, second, rewards, eta=0.5)
    close(loss.detach(), (0.4 - 0.8) ** 2 / 2)
    loss.backward()
    close(first.grad, 2 * -0.4 / 0.5 / 2, 0.0)
    close(second.grad, 2 * 0.4 / 0.5 / 2, 0.0)
    assert rewards.grad is None
    public = ((first - second) - 0.5 * (rewards[:, 0] - rewards[:, 1])).square().mean()
    close((loss * 0.5**2).detach(), float(public.detach()))


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (dpo_loss, [(4,), (4,)]),
        (sdpo_loss, [(4,), (4, 3)]),
        (lambda chosen, rejected: sprec_loss(chosen, rejected, torch.ones(4, 3).double().cumsum(1)), [(4,), (4, 3)]),
        (lambda first, second: rebel_loss(first, second, torch.arange(8.0).view(4, 2) / 8), [(4,), (4,)]),
    ],
    ids=["dpo", "sdpo", "sprec", "rebel"],
)
def test_gradients_are_those_of_finite_differences(loss, shapes):
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-8)


def test_with_one_rejected_answer_sdpo_and_sprec_are_dpo():
    generator = torch.Generator().manual_seed(2)
    chosen, rejected = (torch.randn(5, generator=generator).double() for _ in range(2))
    close(sdpo_loss(chosen, rejected[:, None], 0.3), float(dpo_loss(chosen, rejected, 0.3)))
    close(sprec_loss(chosen, rejected[:, None], torch.full((5, 1), -9.0), 0.3), float(dpo_loss(chosen, rejected, 0.3)))
    assert sdpo_loss(chosen, rejected[:, None].repeat(1, 2), 0.3) > dpo_loss(chosen, rejected, 0.3)


def test_a_wide_margin_does_not_overflow():
    chosen, rejected = torch.tensor([-2000.0]), torch.tensor([[0.0, 0.0]])
    close(sdpo_loss(chosen.double(), rejected.double(), 1.0), 2000 + math.log(2))
    assert sdpo_loss(chosen, rejected, 1.0).isfinite()
    assert (rejected - chosen[:, None]).exp().sum(1).log().isinf()  # what exponentiating first would make of it


def test_what_does_not_fit_is_refused():
    one, pair = torch.zeros(2), torch.zeros(2, 3)
    for call in (
        lambda: dpo_loss(one, one, 0.0),
        lambda: dpo_loss(one, torch.zeros(3)),
        lambda: sdpo_loss(one, one),
        lambda: sdpo_loss(torch.zeros(3), pair),
        lambda: sprec_loss(one, pair, torch.zeros(2, 2)),
        lambda: rebel_loss(one, one, torch.zeros(2, 2), 0.0),
        lambda: rebel_loss(one, one, torch.zeros(2, 3)),
        lambda: rebel_loss(one, torch.zeros(3), torch.zeros(2, 2)),
    ):
        with pytest.raises(ValueError, match=r"got|have shape"):
            call()
