"""Notebook 05's checks: the stub and plausible wrong answers fail, the printed solution passes."""

import json
import math
import re

import pytest
import torch

from rrec_lib.core.paths import resource
from rrec_lib.exercises import nb05
from rrec_lib.recpo.advantages import grpo_advantages

CELLS = json.loads(resource("notebooks/05_recpo_reward_design.ipynb").read_text(encoding="utf-8"))["cells"]
EXERCISES = {"my_rloo": nb05.check_rloo, "my_ndcg": nb05.check_tie_aware_ndcg}


def source(cell):
    return "".join(cell["source"])


def function(code, name):
    """Run a piece of the notebook's code with what its import cell offers, and take a function out of it."""
    namespace = {"math": math, "torch": torch}
    exec(code, namespace)
    return namespace[name]


def stub(name):
    cells = [source(cell) for cell in CELLS if "exercise" in cell["metadata"].get("tags", [])]
    return function(next(code for code in cells if f"def {name}" in code), name)


def solution(name):
    text = "\n".join(source(cell) for cell in CELLS if cell["cell_type"] == "markdown")
    fences = re.findall(r"<summary>Solution</summary>.*?```python\n(.*?)```", text, re.DOTALL)
    return function(next(code for code in fences if f"def {name}" in code), name)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_attempted_and_the_solution_is_right(name, capsys):
    assert EXERCISES[name](stub(name)) is False
    assert capsys.readouterr().out.startswith("…")
    assert EXERCISES[name](lambda *_: None) is False
    assert capsys.readouterr().out.startswith("…")
    assert EXERCISES[name](solution(name)) is True
    assert capsys.readouterr().out.startswith("✓")


def test_every_exercise_cell_is_followed_by_its_check():
    for i, cell in enumerate(CELLS):
        if "exercise" in cell["metadata"].get("tags", []):
            name = re.findall(r"def (\w+)", source(cell))[0]
            assert source(CELLS[i + 1]) == f"nb05.{EXERCISES[name].__name__}({name});"


def _mean(rewards):
    return rewards.mean(dim=1, keepdim=True)


WRONG_RLOO = {
    "as the official code has it": (lambda r: r * (1 + 1 / r.shape[1]) - _mean(r), "sum to 0"),
    "GRPO": (grpo_advantages, "standard deviation"),
    "own reward in the baseline": (lambda r: r - _mean(r), "other G − 1"),
    "sum of the others, not their mean": (lambda r: r - (r.sum(1, keepdim=True) - r), "sum to 0"),
    "divided by G": (lambda r: (r - _mean(r)) / r.shape[1], "expected"),
    "wrong sign": (lambda r: (_mean(r) - r) * r.shape[1] / (r.shape[1] - 1), "expected"),
    "one number per user": (lambda r: r.sum(1) * 0, "one advantage per reward"),
    "a crash": (lambda r: r @ r, "raised"),
}


@pytest.mark.parametrize("name", WRONG_RLOO)
def test_wrong_leave_one_out_is_told_what_is_wrong(name, capsys):
    answer, sentence = WRONG_RLOO[name]
    assert nb05.check_rloo(answer) is False
    printed = capsys.readouterr().out
    assert printed.startswith("✗")
    assert sentence in printed


def _discount(rank, k):
    return 1 / math.log2(1 + rank) if rank <= k else 0.0


def _counts(scores, target):
    return int((scores > scores[target]).sum()), int((scores == scores[target]).sum())


def _best_place(scores, target, k):
    return _discount(_counts(scores, target)[0] + 1, k)


def _worst_place(scores, target, k):
    return _discount(sum(_counts(scores, target)), k)


def _mean_place(scores, target, k):
    above, equal = _counts(scores, target)
    return _discount(above + (1 + equal) / 2, k)


def _no_cutoff(scores, target, k):
    above, equal = _counts(scores, target)
    return sum(_discount(rank, 10**9) for rank in range(above + 1, above + equal + 1)) / equal


def _average_inside_k_only(scores, target, k):
    above, equal = _counts(scores, target)
    inside = [_discount(rank, k) for rank in range(above + 1, above + equal + 1) if rank <= k]
    return sum(inside) / len(inside) if inside else 0.0


def _from_a_sort(scores, target, k):
    return _discount(int((torch.argsort(scores, descending=True, stable=True) == target).nonzero()) + 1, k)


def _hit_rate(scores, target, k):
    above, equal = _counts(scores, target)
    return max(0, min(k, above + equal) - above) / equal


WRONG_NDCG = {
    "optimistic": (_best_place, "best place"),
    "pessimistic": (_worst_place, "worst place"),
    "discount of the mean rank": (_mean_place, "mean place"),
    "no cutoff": (_no_cutoff, "beyond k"),
    "average over the places inside k": (_average_inside_k_only, "cuts through"),
    "whatever a sort gives": (_from_a_sort, "expected"),
    "hit rate": (_hit_rate, "expected"),
    "always zero": (lambda *_: 0.0, "expected"),
}


@pytest.mark.parametrize("name", WRONG_NDCG)
def test_wrong_ndcg_is_told_what_is_wrong(name, capsys):
    answer, sentence = WRONG_NDCG[name]
    assert nb05.check_tie_aware_ndcg(answer) is False
    printed = capsys.readouterr().out
    assert printed.startswith("✗")
    assert sentence in printed
