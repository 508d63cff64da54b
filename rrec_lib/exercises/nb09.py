"""Checks for the exercises of notebook 09, ablations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rrec_lib.exercises.base import draws, report
from rrec_lib.experiments.published import contradictions, published_rows
from rrec_lib.lab import LabConfig, make_world, run_arm
from rrec_lib.lab.world import CLASS_DIGIT, HISTORY, N_ITEMS, SLOT_DIGIT, write_tallies

TINY = LabConfig(
    steps=4, users=6, group_size=2, learning_rate=2e-2, warmup_steps=0, teach_steps=2, teach_mixed_steps=1,
    teach_rows=8, width=16, layers=1, heads=2, train_users=200, valid_users=8, test_users=64,
)  # fmt: skip
RECPO_KNOBS = (
    "beta", "reward_k", "group_size", "estimator", "updates_per_batch", "best_only", "temperature",
    "item_temperature", "token_normalization", "learning_rate", "clip_eps",
)  # fmt: skip

Resample = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # of hits (S, U): means of resamples

_IMPOSSIBLE = (
    ((400, 410, 500, 440, 600, 465), "an NDCG can't be above the Hit beside it"),
    ((400, 250, 390, 250, 600, 305), "a Hit can't fall as the cutoff grows"),
    ((400, 130, 500, 162, 600, 187), "a hit among the first 5 earns at least 1/log2(6)"),
    ((400, 250, 500, 300, 600, 325), "a hit at 10 and not yet at 5 earns at most 1/log2(7)"),
    ((400, 250, 500, 270, 600, 295), "a hit at 10 and not yet at 5 earns at least 1/log2(11)"),
    ((400, 250, 500, 282, 600, 315), "a hit at 20 and not yet at 10 earns at most 1/log2(12)"),
    ((400, 250, 500, 282, 600, 300), "a hit at 20 and not yet at 10 earns at least 1/log2(21)"),
)
_POSSIBLE = (
    ((400, 400, 400, 400, 400, 400), "every hit may stand at rank 1"),
    ((264, 161, 397, 203, 615, 257), "each step lies between its bounds"),
    ((100, 38, 101, 39, 102, 40), "the figures are rounded, so a difference of two may be off by one unit"),
    ((0, 0, 0, 0, 0, 0), "who never hits earns nothing"),
)


@report
def check_tallies(answer: Callable[[Sequence[int], Sequence[int], Sequence[int]], Sequence[int]]) -> None:
    """Right: each sum runs over the items so far, and starts again at 8.

    Args:
        answer: takes a history of four items, the class of every item and the slot of every item; returns the four
            class sums, then the four slot sums.
    """
    world = make_world(draws().initial_seed(), train=8, valid=1, test=1)
    classes, slots = world.classes.tolist(), world.slots.tolist()
    first = [CLASS_DIGIT] * HISTORY + [SLOT_DIGIT] * HISTORY
    for history, tokens in zip(world.train.histories, write_tallies(world, world.train.histories), strict=True):
        given = answer(history.tolist(), list(classes), list(slots))
        given, right = [int(number) for number in given], (tokens - tokens.new_tensor(first)).tolist()
        assert len(given) == 2 * HISTORY, f"four class sums and four slot sums make 8 numbers, got {len(given)}"
        assert all(0 <= number < 8 for number in given), f"a tally runs from 0 to 7, got {given}: take it modulo 8"
        interleaved = [right[i + half] for i in range(HISTORY) for half in (0, HISTORY)]
        assert given != interleaved, "the class sums come first, all four of them, then the slot sums"
        assert given == right, f"history {history.tolist()}: expected {right}, got {given}"


@report
def check_clip_knobs(answer: Callable[[], Mapping[str, Any]]) -> None:
    """Right: behind the first update the policy is no longer the one that sampled, so the clip has something to hold.

    Args:
        answer: returns knobs of RecPO by name. They are set in a tiny lab, which then trains with a tight clip and with
            none.
    """
    given = answer()
    knobs = dict(given)
    strange = sorted(set(knobs) - set(RECPO_KNOBS))
    assert not strange, f"{', '.join(strange)}: turn knobs of RecPO only: {', '.join(RECPO_KNOBS)}"
    config = replace(TINY, **knobs)
    most = 64
    size = config.users * config.group_size * config.updates_per_batch
    assert size <= most * TINY.users, (
        f"keep group_size · updates_per_batch at {most} or below, or this check takes long"
    )
    tight, loose = (run_arm(replace(config, clip_eps=eps), "full", 0).final["own"] for eps in (0.01, 1e6))
    assert not np.array_equal(tight.n_greater, loose.n_greater), (
        f"{knobs}: clip_eps 0.01 and 1,000,000 train the same model; every ratio is still 1 when the gradient is taken"
    )


@report
def check_ceilings(answer: Callable[[float], Sequence[float]]) -> None:
    """Right: reasoning is worth what habits leave open, and luck is left to whoever knows nothing.

    Args:
        answer: takes p, the share of habit users; returns the Hit@1 of who knows habits and sums, and of who knows
            habits alone.
    """
    shares = [0.0, 0.5, 1.0, *torch.rand(3, generator=draws(), dtype=torch.float64).tolist()]
    for p in shares:
        given = answer(p)
        assert len(given) == 2, f"two figures, not {len(given)}"
        most, habits = given
        assert abs(most - 1) < 1e-6, f"p = {p:.2f}: who knows habits and sums is always right, you said {most:.3f}"
        expected = p + (1 - p) / N_ITEMS
        hint = ""
        if abs(habits - p) < 1e-6:
            hint = f"; for a sum user a guess still hits one time in {N_ITEMS}"
        elif abs(habits - p - 1 / N_ITEMS) < 1e-6:
            hint = "; only sum users are guessed for: at p = 1 yours is above 1"
        elif abs(habits - (1 - p) - p / N_ITEMS) < 1e-6 or abs(habits - (1 - p)) < 1e-6:
            hint = "; p is the share of habit users, not of sum users"
        assert abs(habits - expected) < 1e-6, (
            f"p = {p:.2f}: who knows habits alone hits {expected:.3f}, you said {habits:.3f}{hint}"
        )


def remembered(last: int) -> float:
    """Hit@1 of a table that remembers what followed the ``last`` items of 100,000 histories, in a world with a chain of
    three. Where it has never met those items it guesses."""
    world = make_world(seed=0, valid=1, chain=3)
    place = N_ITEMS ** torch.arange(last)
    train, test = ((split.histories[:, -last:] * place).sum(1) for split in (world.train, world.test))
    table = torch.full((N_ITEMS**last,), -1)
    table[train] = world.train.targets
    found = table[test]
    return torch.where(found < 0, 1 / N_ITEMS, (found == world.test.targets).double()).mean().item()


@report
def check_memory(answer: tuple[float, float, float, str]) -> None:
    """Right: memory serves where contexts come again, and needs just as much of them as decides the answer.

    Args:
        answer: Hit@1 of the table over the last two, three and four items, and the letter of the reason.
    """
    assert len(answer) == 4, f"four things, three numbers and a letter, not {len(answer)}"
    *hits, letter = answer
    hints = {
        2: "the third item decides which of 64 it is, and this table doesn't look at it",
        3: "of 64³ = 262,144 contexts only some were met by 100,000 users, and each met one is answered rightly",
        4: "no history of four items occurs twice in this world, so there is nothing to look up",
    }
    for (last, hint), given in zip(hints.items(), hits, strict=True):
        found = remembered(last)
        assert abs(given - found) <= (0.08 if last == 3 else 0.03), (
            f"the last {last}: you predicted {given:g}, this run found {found:.3f}; {hint}"
        )
    reasons = {
        "a": "there is no noise to fit: the same last three items always have the same next one",
        "c": "the order is kept in both tables, and sums don't ask for it",
        "d": "luck is worth 1/64 with any table",
    }
    said = str(letter).strip().lower()
    assert said in {*reasons, "b"}, f"the numbers are right; the reason is one letter from a to d, not {letter!r}"
    assert said == "b", f"the numbers are right, the reason isn't: {reasons[said]}"


@report
def check_interval(answer: Callable[[np.ndarray, int, np.random.Generator], Sequence[float]]) -> None:
    """Right: the interval knows that users differ and that trainings differ.

    Args:
        answer: takes a metric (S, U), S runs on the same U users, the number of resamples and a generator; returns the
            bounds of a 95 % interval for the mean.
    """
    generator, samples = np.random.default_rng(draws().initial_seed()), 10_000
    level = np.array([0.95, 0.05, 0.95, 0.1, 0.5])[:, None]
    cases = {
        "runs that differ a lot": (generator.random((5, 200)) < level).astype(float),
        "five runs that do alike for each user": np.tile(generator.random(100) ** 3, (5, 1)),
    }

    def right(h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        means: np.ndarray = ((_drawn(len(h), samples, rng) @ h) * _drawn(h.shape[1], samples, rng)).sum(1)
        return means

    wrong: dict[str, Resample] = {
        "users alone are drawn, and runs differ, too": lambda h, rng: _drawn(h.shape[1], samples, rng) @ h.mean(0),
        "runs alone are drawn, and users differ, too": lambda h, rng: _drawn(len(h), samples, rng) @ h.mean(1),
        "every run was tested on the same users: draw them once for all runs": lambda h, rng: np.mean(
            [(h[rng.integers(0, len(h), samples)] * _drawn(h.shape[1], samples, rng)).sum(1) for _ in h], axis=0
        ),
        "hits of one run, or of one user, hang together: draw runs and users, not single hits": lambda h, rng: (
            rng.choice(h.ravel(), (samples, h.size)).mean(1)
        ),
    }
    for name, hits in cases.items():
        low, high = answer(hits.copy(), samples, np.random.default_rng(1))
        wanted = _bounds(hits, right)
        assert low <= hits.mean() <= high, f"{name}: the mean {hits.mean():.3f} isn't in {low:.3f} to {high:.3f}"
        if not _alike((low, high), wanted):
            like = [hint for hint, rule in wrong.items() if _alike((low, high), _bounds(hits, rule))]
            raise AssertionError(
                f"{name}: the interval is about {wanted[0]:.3f} to {wanted[1]:.3f}, yours {low:.3f} to {high:.3f}; "
                + (like or ["take the percentiles 2.5 and 97.5 of the resampled means"])[0]
            )


@report
def check_impossible(answer: Callable[[Sequence[float]], bool]) -> None:
    """Right: so 22 of the paper's 60 rows, as they were read, can't be right with one target per example.

    Args:
        answer: takes Hit and NDCG in turn at 5, 10 and 20, rounded to whole units, and returns whether one target per
            example makes that impossible.
    """
    for row, hint in _IMPOSSIBLE:
        assert answer(list(row)), f"{row} passes, and can't be right: {hint}"
    for row, hint in _POSSIBLE:
        assert not answer(list(row)), f"{row} is refused, and can be right: {hint}"
    made_up = (("made up", "by chance", f"row {number + 1}", row) for number, row in enumerate(_drawn_rows(40)))
    for table, place, name, figures in (*made_up, *published_rows()):
        expected = contradictions(figures)
        why = "; ".join(expected.values()) or "nothing in it is impossible"
        assert bool(answer(list(figures))) == bool(expected), f"{table}, {place}, {name}, {list(figures)}: {why}"


def _drawn_rows(rows: int) -> Iterator[list[int]]:
    """Rows of figures that are clearly possible, or clearly off at one cutoff."""
    generator = draws()
    for _ in range(rows):
        new = torch.randint(100, 500, (3,), generator=generator).numpy()
        least, most = 1 / np.log2([6, 11, 21]), 1 / np.log2([2, 7, 12])
        earned = new * (least + (0.2 + 0.6 * torch.rand(3, generator=generator).numpy()) * (most - least))
        kind, place = (int(torch.randint(0, 3, (), generator=generator)) for _ in range(2))
        if kind:
            earned[place] = new[place] * most[place] * 1.1 + 3 if kind == 1 else new[place] * least[place] * 0.9 - 3
        yield np.stack([new.cumsum(), earned.cumsum().round()], axis=1).astype(int).flatten().tolist()


def _drawn(size: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """(samples, size) shares that each of ``size`` has in a resample, drawn with replacement."""
    return rng.multinomial(size, np.full(size, 1 / size), samples) / size


def _bounds(hits: np.ndarray, means_of: Resample) -> tuple[float, float]:
    """Percentiles of resampled means."""
    low, high = np.quantile(means_of(hits, np.random.default_rng(2)), [0.025, 0.975])
    return float(low), float(high)


def _alike(found: tuple[float, float], wanted: tuple[float, float]) -> bool:
    """Whether two intervals differ by no more than chance draws do."""
    room = 0.055 * (wanted[1] - wanted[0]) + 1e-9  # of an interval without width
    return all(abs(a - b) <= room for a, b in zip(found, wanted, strict=True))
