"""The exam: thirty questions with points and keys, two papers, and what a key computes the library computes."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from rrec_lib.baselines.generative.beam import beam_search
from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.preference import sdpo_loss
from rrec_lib.baselines.generative.trie import build_trie
from rrec_lib.book import official
from rrec_lib.book.toy_writer import ToyWriter
from rrec_lib.data.examples import next_item_examples, temporal_split
from rrec_lib.evaluation.metrics import ndcg_at_k
from rrec_lib.experiments import published
from rrec_lib.recpo import advantages, losses

PAGE = (Path(__file__).resolve().parents[2] / "book" / "instructor" / "exam.md").read_text(encoding="utf-8")
NUMBERS = [f"{n:02}" for n in range(1, 11)]
QUESTION = re.compile(
    r"^\*\*(E\d\d)\*\* \((\d\d), (\d) points\) (.+?)\n\n```\{dropdown\} Key\n(.+?)\n```$", re.MULTILINE | re.DOTALL
)
EXAM = {name: (number, int(points), text, key) for name, number, points, text, key in QUESTION.findall(PAGE)}


def test_there_are_thirty_questions_each_with_points_and_a_key():
    assert list(EXAM) == [f"E{n:02d}" for n in range(1, len(EXAM) + 1)]
    assert len(EXAM) >= 30
    assert PAGE.count("{dropdown} Key") == len(EXAM)
    for number, points, text, key in EXAM.values():
        assert number in NUMBERS
        assert 1 <= points <= 6
        assert "?" in text or "Write" in text
        assert len(key) > 20
    for number in NUMBERS:
        assert sum(question[0] == number for question in EXAM.values()) >= 3


def test_the_two_papers_have_thirty_points_each_and_share_nothing():
    papers = [re.findall(r"E\d\d", line) for line in re.findall(r"^- \*\*Paper \d\*\*: (.+)$", PAGE, re.MULTILINE)]
    assert [sum(EXAM[name][1] for name in paper) for paper in papers] == [30, 30]
    assert not set(papers[0]) & set(papers[1])
    assert [sorted({EXAM[name][0] for name in paper}) for paper in papers] == [NUMBERS, NUMBERS]


def numbers(values: object, digits: int) -> list[str]:
    flat = torch.as_tensor(values, dtype=torch.float64).flatten().tolist()
    return [f"{value + 0:.{digits}f}".replace("-", "−") for value in flat]


def average_overlap() -> list[str]:
    a, b = [1, 2, 3, 4], [4, 3, 9, 8]
    return numbers([sum(len(set(a[:d]) & set(b[:d])) / d for d in (1, 2, 3, 4)) / 4], 3)


def examples() -> list[str]:
    log = pd.DataFrame(
        [(1, 0, 5.0, 1), (1, 1, 4.0, 3), (1, 2, 5.0, 3), (1, 3, 2.0, 4), (1, 4, 4.0, 6)],
        columns=["user_id", "item_id", "rating", "timestamp"],
    )
    found = next_item_examples(log, window=3, min_target_rating=4.0)
    name = "ABCDE"
    return [f"[{', '.join(name[i] for i in row.history)}] → {name[row.target]}" for row in found.itertuples()]


def split_sizes() -> list[str]:
    parts = temporal_split(pd.Series([1, 2, 3, 4, 5, 6, 7, 8, 8, 9]))
    train, valid, test = ((parts == part).sum() for part in (0, 1, 2))
    return [f"{train}, {valid} and {test}"]


def cosines() -> list[str]:
    state, films = torch.tensor([3.0, 4.0]), torch.tensor([[0.6, 0.8], [40.0, 30.0]])
    cosine, inner = torch.nn.functional.cosine_similarity(films, state[None]).tolist(), (films @ state).tolist()
    return [f"{cosine[0]:.0f} and {cosine[1]:.2f}", f"{inner[0]:.0f} and {inner[1]:.0f}"]


def policy_gradient() -> list[str]:
    logits = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log().requires_grad_()
    value = logits.softmax(0) @ torch.tensor([1, 0.5, 0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(value, logits)
    return [*numbers(value.detach(), 2), *numbers(gradient, 3)]


def clipped() -> list[str]:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5], dtype=torch.float64, requires_grad=True)
    gain, _ = losses.clipped_gain(ratio, torch.tensor([2, 2, -1, -1], dtype=torch.float64), 0.2, 0.2)
    (slope,) = torch.autograd.grad(gain.sum(), ratio)
    said = ["yes" if s else "none" for s in slope.tolist()]
    return ["; ".join(f"{value}, {word}" for value, word in zip(numbers(gain.detach(), 1), said, strict=True))]


def tied_rewards() -> list[str]:
    scores, target = torch.tensor([0.9, 0.7, 0.7, 0.2]), torch.tensor(1)
    return [f"= {numbers(ndcg_at_k(scores, target, k), 3)[0]}" for k in (10, 2)]


def both_advantages() -> list[str]:
    group = torch.tensor([[1, 0.5, 0.5, 0]], dtype=torch.float64)
    rloo, grpo = advantages.rloo_advantages(group), advantages.grpo_advantages(group, eps=1e-12)
    return [*numbers(rloo[0, [0, 3]], 3), *numbers(grpo[0, [0, 3]], 3), *numbers(group.std(), 3)]


def loudness() -> list[str]:
    groups = torch.tensor([[0.7, 0.7, 0.7, 0.701], [0.2, 0.5, 0.7, 1]], dtype=torch.float64)
    grpo, rloo = advantages.grpo_advantages(groups)[:, 3], advantages.rloo_advantages(groups)[:, 3]
    return [" against ".join(numbers(grpo, 2)), "\nagainst ".join(numbers(rloo, 3))]


def half_widths() -> list[str]:
    p, n = torch.tensor([45.0, 30.0]) / 500, 500
    own = (p * (1 - p) / n).sqrt()
    return [" and ".join(numbers(1.96 * own, 3)), *numbers(1.96 * own.norm(), 3)]


def broadcast() -> list[str]:
    adv = torch.tensor([0.5, -0.5, 0.4, -0.4])
    weight = (adv[:, None, None] * torch.ones(4, 2)).mean(0)
    assert weight.shape == (4, 2)
    assert weight.abs().max() < 1e-6
    return numbers(adv[:3].mean(), 3)


def left_out() -> list[str]:
    tied = torch.full((1, 4), 0.8, dtype=torch.float64)
    assert advantages.rloo_advantages(tied).abs().max() < 1e-12
    return [f"0 and {numbers(official.leave_one_out_advantages(tied)[0, 0], 1)[0]}"]


def tallies() -> list[str]:
    classes, slots = (torch.tensor(x).cumsum(0).remainder(8).tolist() for x in ([3, 7, 2, 5], [1, 1, 6, 4]))
    return [f"Classes {', '.join(map(str, classes))}; slots {', '.join(map(str, slots))}",
            f"class {classes[-1]} and slot {slots[-1]}"]  # fmt: skip


def impossible() -> list[str]:
    assert list(published.contradictions((200, 130, 300, 190, 380, 210))) == [10]
    return ["N@10 rises by 60"]


def beam() -> list[str]:
    """Tokens 1 to 7 are A to G, 0 is the prompt."""
    chances = torch.full((8, 8), 1e-9, dtype=torch.float64)
    chances[0, 1:4] = torch.tensor([0.5, 0.35, 0.15], dtype=torch.float64)
    chances[1, 4:6], chances[2, 6:8] = torch.tensor([[0.45, 0.55], [0.9, 0.1]], dtype=torch.float64)
    writer, trie = ToyWriter(chances.log()), build_trie([[1, 4], [1, 5], [2, 6], [2, 7], [3]])
    exact = catalogue_scores(writer, trie, [[0]])[0]
    best = [int(beam_search(writer, trie, [[0]], width).leaves[0, 0]) for width in (1, 2)]
    assert best == trie.leaves[[1, 2]].tolist()
    assert int(exact.argmax()) == 2
    return numbers(exact[[1, 2]].exp(), 3)


def preferred() -> list[str]:
    near, far = (torch.tensor([x], dtype=torch.float32) for x in ([-0.1, 0.1], [100.0, 0.0]))
    assert numbers(sdpo_loss(torch.zeros(1), far, 1.0), 0) == ["100"]
    assert torch.tensor(100.0).exp().isinf()
    return numbers(sdpo_loss(torch.tensor([0.2]), near, 1.0), 3)


COMPUTED: dict[str, Callable[[], list[str]]] = {
    "E02": average_overlap, "E04": examples, "E05": split_sizes, "E07": cosines, "E10": policy_gradient, "E13": clipped,
    "E14": tied_rewards, "E15": both_advantages, "E16": loudness, "E22": half_widths, "E25": broadcast,
    "E26": left_out, "E28": tallies, "E29": impossible, "E31": beam,
    "E32": preferred,
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_what_a_key_computes_the_library_computes(name):
    key = EXAM[name][3]
    assert [value for value in COMPUTED[name]() if value not in key] == []
