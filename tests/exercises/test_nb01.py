"""Notebook 01's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import pytest
import torch

from rrec_lib.exercises import nb01

EXERCISES = {"my_average_overlap": nb01.check_average_overlap, "my_top_k": nb01.check_top_k}


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name, exercises_of, verdict):
    book = exercises_of("01_quickstart")
    assert verdict(EXERCISES[name], book.stubs[name]).startswith("…")
    assert verdict(EXERCISES[name], book.solutions[name]).startswith("✓")
    assert book.checks[name] == f"nb01.{EXERCISES[name].__name__}({name});"


WRONG_OVERLAPS = {
    "plain overlap": lambda a, b, k: len(set(a[:k]) & set(b[:k])) / k,
    "same places": lambda a, b, k: sum(x == y for x, y in zip(a[:k], b[:k], strict=True)) / k,
    "always divided by k": lambda a, b, k: sum(len(set(a[:d]) & set(b[:d])) / k for d in range(1, k + 1)) / k,
    "depth 0 instead of k": lambda a, b, k: sum(len(set(a[:d]) & set(b[:d])) / max(d, 1) for d in range(k)) / k,
}


@pytest.mark.parametrize("name", WRONG_OVERLAPS)
def test_wrong_overlaps(name, verdict):
    assert verdict(nb01.check_average_overlap, WRONG_OVERLAPS[name]).startswith("✗")


def in_place(scores, seen, k):
    scores[seen] = -torch.inf
    return scores.argsort(descending=True)[:k].tolist()


def zero_for_seen(scores, seen, k):
    return scores.index_fill(0, torch.tensor(seen).long(), 0).argsort(descending=True)[:k]


WRONG_LISTS = {
    "zero for seen": (
        lambda s, seen, k: (s * (1 - torch.eye(len(s))[seen].sum(0))).argsort(descending=True)[:k],
        "seen",
    ),
    "not masked": (lambda s, seen, k: s.argsort(descending=True)[:k], "seen"),
    "worst first": (lambda s, seen, k: [i for i in s.argsort().tolist() if i not in seen][:k], "expected"),
    "in place": (in_place, "copy"),
}


@pytest.mark.parametrize("name", WRONG_LISTS)
def test_wrong_lists(name, verdict):
    answer, hint = WRONG_LISTS[name]
    said = verdict(nb01.check_top_k, answer)
    assert said.startswith("✗")
    assert hint in said
