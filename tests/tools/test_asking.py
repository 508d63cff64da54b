"""An answer in its own process behaves, for a check, as a function of this one."""

import time

import asking
import numpy as np
import pytest
import torch

CELLS = """
import torch
def double(x): return 2 * x
def spoil(rows, numbers, words): rows.zero_(); numbers += 1; words.append("x")
def draw(generator, rng): return torch.rand(2, generator=generator), rng.random()
def refuse(): raise ValueError("no")
def strange(): return object()
def apply(rule, x): return [rule(v) for v in x]
def loss(w, scale=1.0): return scale * (w ** 2).sum(), w.detach().sum()
def counter():
    count = 0
    def step(): nonlocal count; count += 1; return count
    return step
def seed(): import os; return os.environ.get("RREC_CHECK_SEED")
def leave(): raise SystemExit("bye")
def huge(): return torch.zeros(2**24, dtype=torch.float64)
table = {"a": (1, torch.ones(2))}
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with asking.Process(tmp_path_factory.mktemp("home"), asking.Limits(call=5), time.monotonic() + 120) as process:
        assert process.ask("cell", CELLS, theirs=True) == ""
        yield process


@pytest.fixture
def answer(process):
    return lambda name: process.ask("value", name, theirs=True)


def test_values_and_results(answer):
    assert answer("double")(3) == 6
    assert answer("table")["a"][0] == 1
    assert torch.equal(answer("double")(torch.ones(2, 2)), 2 * torch.ones(2, 2))
    step = answer("counter")()
    assert [step(), step()] == [1, 2]


def test_what_an_answer_does_to_its_arguments_is_seen(answer):
    rows, numbers, words = torch.ones(2), np.arange(2.0), ["a"]
    answer("spoil")(rows, numbers, words)
    assert (rows.tolist(), numbers.tolist(), words) == ([0, 0], [1, 2], ["a", "x"])


def test_generators_move_on(answer):
    here, rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    there, their_rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    for _ in range(2):
        rows, number = answer("draw")(there, their_rng)
        assert torch.equal(rows, torch.rand(2, generator=here))
        assert number == rng.random()


def test_functions_as_arguments_and_what_they_count(answer):
    calls: list[int] = []

    def rule(x):
        calls.append(x)
        return -x

    assert answer("apply")(rule, [1, 2]) == [-1, -2]
    assert calls == [1, 2]
    assert answer("apply")(abs, [-3]) == [3]


def test_gradients(answer):
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    value, plain = answer("loss")(w, scale=3.0)
    assert (value.item(), value.requires_grad, plain.requires_grad) == (15, True, False)
    assert torch.autograd.grad(2 * value, w)[0].tolist() == [12, 24]


def test_what_is_raised_there_is_raised_here(answer):
    with pytest.raises(ValueError, match="no"):
        answer("refuse")()
    with pytest.raises(NameError, match="absent"):
        answer("absent")
    with pytest.raises(TypeError, match="can't hold a object"):
        answer("strange")()
    with pytest.raises(Exception, match="bye") as caught:
        answer("leave")()
    assert type(caught.value).__name__ == "SystemExit"
    assert isinstance(caught.value, Exception)  # not Python's own, which would end this process


def test_the_seed_stays_here(answer, monkeypatch):
    monkeypatch.setenv("RREC_CHECK_SEED", "5")
    assert answer("seed")() is None
    assert "RREC_CHECK_SEED" not in asking.environment(asking.ROOT)


def test_an_answer_too_large_ends_it(tmp_path):
    with asking.Process(tmp_path, asking.Limits(call=20), time.monotonic() + 60) as process:
        process.ask("cell", CELLS, theirs=True)
        with pytest.raises(asking.EndedError, match="too large"):
            process.ask("value", "huge", theirs=True)()
        with pytest.raises(asking.EndedError, match="too large"):
            process.ask("value", "double", theirs=True)
