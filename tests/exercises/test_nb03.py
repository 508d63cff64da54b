"""Notebook 03's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import pytest
import torch
from torch.nn.functional import normalize

from rrec_lib.exercises import nb03

EXERCISES = {"my_last_states": nb03.check_last_states, "my_rec_head": nb03.check_rec_head}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("03_model_architecture")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb03.{EXERCISES[name].__name__}({name});"


WRONG_STATES = {
    "last column": (lambda h, m: h[:, -1], "padding"),
    "one too early": (lambda h, m: h[torch.arange(len(h)), (m.sum(1) - 2).clamp(min=0)], "index"),
    "mean": (lambda h, m: (h * m[..., None]).sum(1) / m.sum(1, keepdim=True), "index"),
}


@pytest.mark.parametrize("name", WRONG_STATES)
def test_wrong_states(name, verdict):
    answer, hint = WRONG_STATES[name]
    said = verdict(nb03.check_last_states, answer)
    assert said.startswith("✗")
    assert hint in said


WRONG_HEADS = {
    "inner product": (lambda u, f, tau: u @ f.T / tau, "inner product"),
    "multiplied": (lambda u, f, tau: normalize(u, dim=1) @ normalize(f, dim=1).T * tau, ""),
    "one side": (lambda u, f, tau: u @ normalize(f, dim=1).T / tau, "expected"),
    "wrong axis": (lambda u, f, tau: normalize(u, dim=0) @ normalize(f, dim=0).T / tau, "expected"),
}


@pytest.mark.parametrize("name", WRONG_HEADS)
def test_wrong_heads(name, verdict):
    answer, hint = WRONG_HEADS[name]
    said = verdict(nb03.check_rec_head, answer)
    assert said.startswith("✗")
    assert hint in said
