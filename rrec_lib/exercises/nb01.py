"""Checks for the exercises of notebook 01, the quickstart."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rrec_lib.book.toy import toy_world
from rrec_lib.evaluation.ranks import top_k
from rrec_lib.evaluation.scoring import mask_items, score_items, unit_rows
from rrec_lib.exercises.base import Trial, draws, near, report, require, require_reason

GENRES = ("Action", "Comedy", "Drama", "Horror", "Musical", "Western")
EVERYBODY = (0.65, 0.95)  # where the own share of the sentence that fits everybody lies, on smoke and on cpu


@report
def check_average_overlap(answer: Callable[[list[int], list[int], int], float]) -> None:
    """Right: the mean over depths of the share in common, so an agreement at the top counts most.

    Args:
        answer: takes two rankings and k, returns a share.
    """
    a, b = [1, 2, 3, 4], [2, 1, 9, 3]  # overlaps at depths 1 to 4: 0, 1, 2/3, 3/4
    cases = [(a, a, 3), (a, b, 1), (a, b, 2), (a, b, 3), (a, b, 4), ([5], [7], 1)]
    generator = draws()
    for _ in range(6):
        first, second = (torch.randperm(8, generator=generator)[:6].tolist() for _ in range(2))
        cases.append((first, second, int(torch.randint(2, 7, (), generator=generator))))
    trials: list[Trial] = []
    for first, second, k in cases:
        common = [len(set(first[:depth]) & set(second[:depth])) for depth in range(1, k + 1)]
        known = {
            "that is the overlap at depth k alone, which a reversed list has too": common[-1] / k,
            "that divides by k at every depth": sum(common) / k**2,
            "that asks for the same film in the same place": np.equal(first[:k], second[:k]).mean(),
        }
        right = sum(count / depth for depth, count in enumerate(common, 1)) / k
        trials.append((f"{first} and {second}, k = {k}", answer(list(first), list(second), k), right, known))
    require(trials, near, shortly)


@report
def check_top_k(answer: Callable[[torch.Tensor, Sequence[int], int], Sequence[int]]) -> None:
    """Right: the best unseen films, best first.

    Args:
        answer: takes scores (N,), the films seen and k; returns k film numbers.
    """
    cases = [([0.1, 0.9, 0.5, 0.7], [1], 2), ([-3.0, -1.0, -2.0, -4.0], [1, 2], 2), ([5.0, 1.0, 3.0, 2.0, 4.0], [], 3)]
    generator = draws()
    for _ in range(6):
        scores = (torch.randperm(9, generator=generator) - 4).double()
        cases.append((scores.tolist(), torch.randperm(9, generator=generator)[:3].tolist(), 4))
    trials: list[Trial] = []
    for values, seen, k in cases:
        tensor = torch.tensor(values)
        value = answer(tensor, list(seen), k)
        given = [int(i) for i in value]
        again = [i for i in given if i in seen]
        if again:
            raise AssertionError(f"scores {values}: film {again[0]} has been seen, yet you recommend it")
        assert torch.equal(tensor, torch.tensor(values)), "you changed the caller's scores: work on a copy"
        expected = top_k(mask_items(torch.tensor([values]), [seen])[0], k).items.tolist()
        assert len(given) == k, f"{k} films were asked for, you gave {len(given)}"
        worst = [i for i in torch.tensor(values).argsort().tolist() if i not in seen][:k]
        trials.append((f"scores {values}, seen {seen}", given, expected, {"those are the worst films": worst}))
    require(trials)


@report
def check_scores(answer: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]) -> None:
    """Right: only directions count, and the temperature stretches what is left.

    Args:
        answer: takes a state (d,), item states (N, d) and a temperature; returns scores (N,).
    """
    world, generator = toy_world(), draws()
    cases = [(world.user_states[1, 0], world.item_states, 0.5)]
    for temperature in (0.02, 0.1, 2.0):
        state, items = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5,), (7, 5)))
        cases.append((3 * state, items * torch.linspace(0.2, 4, 7).double()[:, None], temperature))
    trials: list[Trial] = []
    for state, items, temperature in cases:
        given = torch.as_tensor(answer(state.clone(), items.clone(), temperature)).double()
        right = score_items(state[None], items, temperature)[0]
        assert given.shape == right.shape, f"{len(items)} films need {len(items)} scores, got {tuple(given.shape)}"
        cosines, inner = right * temperature, items @ state
        known = {
            "that is the inner product: divide by both lengths": inner / temperature,
            "the state has a length too: divide by it": unit_rows(items) @ state / temperature,
            "the items have lengths too: divide by them": inner / state.norm() / temperature,
            "divide by the temperature, don't multiply": cosines * temperature,
            "the temperature is missing": cosines,
            "a softmax makes probabilities; scores were asked for": right.softmax(0),
        }
        trials.append((f"state {shortly(state)}, temperature {temperature}", given, right, known))
    require(trials, lambda a, b: torch.allclose(a, b, rtol=1e-4, atol=1e-6), shortly)


@report
def check_chance_overlap(answer: Callable[[int, int, Sequence[int], Sequence[int]], float]) -> None:
    """Right: chance alone shares this much, and a model's lists have to be held against it.

    Args:
        answer: takes k, N and the films that each of two people has seen; returns the expected share in common.
    """
    cases: list[tuple[int, int, list[int], list[int]]] = [(1, 2, [], []), (2, 4, [0], [0]), (2, 6, [0, 1], [3])]
    generator = draws()
    for _ in range(5):
        sizes = torch.randint(1, 6, (2,), generator=generator).tolist()
        first, second = (torch.randperm(14, generator=generator)[:size].tolist() for size in sizes)
        cases.append((5, 14, first, second))
    trials: list[Trial] = []
    for k, n, first, second in cases:
        a, b, both = n - len(first), n - len(second), n - len({*first, *second})
        known = {
            "that is k / N: what has been seen is on neither list": k / n,
            "that leaves out what one of the two has seen": k / a,
            "that is the number of films in common, not the share of k": both * k * k / (a * b),
            "what both have seen must be counted once": (a + b - n) * k / (a * b),
            "a film that one has seen can be on the other's list: the two draw from different films": k / both,
        }
        given, right = answer(k, n, list(first), list(second)), both * k / (a * b)
        trials.append((f"k = {k}, N = {n}, seen {first} and {second}", given, right, known))
    require(trials, near, shortly)


@report
def check_lift(answer: Callable[[Sequence[set[str]], Sequence[set[str]]], float]) -> None:
    """Right: what a sentence knows about its own person, and not about people at large.

    Args:
        answer: takes the genres that each of n sentences names and those that each of n histories holds; returns the
            own share less the strangers'.
    """
    cases = [
        ([{"Drama"}, {"Horror"}], [{"Drama", "Comedy"}, {"Horror"}]),
        ([{"Drama"}, set(), {"Comedy", "Western"}], [{"Drama"}, {"Drama", "Comedy"}, {"Comedy"}]),
    ]
    generator = draws()
    for _ in range(4):
        drawn = torch.rand(2, 5, len(GENRES), generator=generator) < 0.5
        named, held = ([{g for g, there in zip(GENRES, row, strict=True) if there} for row in part] for part in drawn)
        cases.append(([*named, {GENRES[0]}, set()], [*held, {GENRES[0]}, {GENRES[1]}]))
    trials: list[Trial] = []
    for named, held in cases:
        shown = f"sentences that name {_words(named)} beside histories that hold {_words(held)}"
        given = answer([set(part) for part in named], [set(part) for part in held])
        trials.append((shown, given, _lift(named, held), _known_lifts(named, held)))
    require(trials, near, shortly)


@report
def check_everybody(answer: tuple[float, float, str]) -> None:
    """Right: the same words are held against the same histories, whoever is called a stranger.

    Args:
        answer: the share of the named genres in the own history, that share less the strangers', and the letter of
            the reason.
    """
    assert len(answer) == 3, f"three things, two shares and a letter, not {len(answer)}"
    own, gap, letter = answer
    low, high = EVERYBODY
    assert 0 <= own <= 1, f"a share lies between 0 and 1, you said {own}"
    assert own >= low, (
        f"own share {own:g}: too low. Some four films of ten have such a genre, but a history has several films, and "
        "one of them is enough"
    )
    assert own <= high, f"own share {own:g}: too high. Not everybody's last films hold both genres"
    assert gap < 0.02, f"a gap of {gap:g} would be words that know the person, but these are the same for everybody"
    assert gap > -0.02, f"a gap of {gap:g}: why should strangers hold more of what is said about everybody?"
    require_reason(
        letter,
        "b",
        {
            "a": "what is true of most people is true of strangers too, so truth alone makes no gap",
            "c": "a mean over many strangers is steadier, not lower or higher",
            "d": "the sentence is true of most: four of five genres named are there",
        },
    )


def shortly(value: object) -> str:
    """A number or a list of numbers with three decimals."""
    return str(np.round(torch.as_tensor(value).double().numpy(), 3).tolist())


def _share(named: set[str], held: set[str]) -> float:
    return len(named & held) / len(named)


def _lift(named: Sequence[set[str]], held: Sequence[set[str]]) -> float:
    """The library has no twin: mean over the sentences that name something, each stranger counting the same."""
    gaps = []
    for i, words in enumerate(named):
        if words:
            strangers = [_share(words, other) for j, other in enumerate(held) if j != i]
            gaps.append(_share(words, held[i]) - np.mean(strangers))
    return float(np.mean(gaps))


def _known_lifts(named: Sequence[set[str]], held: Sequence[set[str]]) -> dict[str, float]:
    """What likely mistakes give."""
    n, telling = len(named), [i for i, words in enumerate(named) if words]
    own = [_share(named[i], held[i]) for i in telling]
    everybody = [np.mean([_share(named[i], other) for other in held]) for i in telling]
    pairs = [(i, j) for i in telling for j in range(n) if i != j]
    hits = sum(len(named[i] & held[i]) for i in telling) / sum(len(named[i]) for i in telling)
    stranger_hits = sum(len(named[i] & held[j]) for i, j in pairs) / sum(len(named[i]) for i, _ in pairs)
    return {
        "that is the own share alone": float(np.mean(own)),
        "a sentence's own history is no stranger's": float(np.mean(own) - np.mean(everybody)),
        "a sentence that names no genre says nothing; leave it out": _lift(named, held) * len(telling) / n,
        "that holds each sentence against the next person only": float(
            np.mean([_share(named[i], held[i]) - _share(named[i], held[(i + 1) % n]) for i in telling])
        ),
        "that pools all words; take the share of each sentence first": float(hits - stranger_hits),
    }


def _words(sets: Sequence[set[str]]) -> str:
    return ", ".join("/".join(sorted(part)) or "nothing" for part in sets)
