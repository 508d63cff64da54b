"""The lab's lessons: they end when the tallies are right or the most were taken, and can tell right from wrong."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from rrec_lib.lab import LabConfig, sft
from rrec_lib.lab import world as lab

TINY = LabConfig(teach_steps=60, teach_mixed_steps=2, teach_rows=8, width=16, layers=1, heads=2)
WORLD = lab.make_world(seed=3, train=500, valid=10, test=10)


@pytest.mark.parametrize(
    ("checks", "steps"), [([0.5, 0.96, 0.97], 60), ([0.98], 20), ([0.5, 0.97], 40), ([0.5, 0.5, 0.5], 60)]
)
def test_lessons_end_once_enough_is_right(monkeypatch, checks, steps):
    seen = iter([*checks, 0.25])  # the last one is taken when all lessons are over
    monkeypatch.setattr(sft, "right_share", lambda *_: next(seen))
    _, found = sft.teach(TINY, WORLD, 0)
    assert (found["steps"], found["right"]) == (steps, 0.25)


def written(tokens):
    """A sampler that writes what it is given for each user's history."""
    return lambda model, histories, group_size, generator: (tokens(histories), None)


WRITERS = {
    "true tallies": (lambda histories: lab.write_tallies(WORLD, histories), 1.0),
    "those of another user": (lambda histories: lab.write_tallies(WORLD, histories.roll(1, 0)), 1 / 8),
    "idle words": (lambda histories: lab.write_chatter(len(histories), torch.Generator().manual_seed(0)), 0.0),
    "half idle": (lambda histories: half_idle(histories), 1.0),
}


def half_idle(histories):
    tallies = lab.write_tallies(WORLD, histories)
    tallies[::2] = lab.write_chatter(len(tallies[::2]), torch.Generator().manual_seed(0))
    return tallies


@pytest.mark.parametrize("writer", WRITERS)
def test_the_share_counts_digits_only_and_sees_wrong_ones(monkeypatch, writer):
    tokens, expected = WRITERS[writer]
    monkeypatch.setattr(sft, "sample", written(tokens))
    nobody: Any = None  # what is sampled is given
    assert sft.right_share(nobody, WORLD, torch.Generator().manual_seed(1)) == pytest.approx(expected, abs=0.03)


def test_lessons_teach_and_checks_change_nothing_of_them():
    def loss(model):
        histories = WORLD.test.histories
        _, logprobs = sft.read_out(model, histories, lab.write_tallies(WORLD, histories))
        assert logprobs is not None
        return -logprobs.mean().item()

    short, long = (sft.teach(replace(TINY, teach_steps=steps), WORLD, 0)[0] for steps in (1, 200))
    assert loss(long) < loss(short) - 0.5
    unchecked = sft.teach(replace(TINY, teach_steps=60, teach_right=1.0), WORLD, 0)[0]
    checked = sft.teach(TINY, WORLD, 0)[0]
    assert torch.equal(unchecked.tokens.weight, checked.tokens.weight)
