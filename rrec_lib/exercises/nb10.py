"""Checks for the exercises of notebook 10, six ways to make a language model recommend."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rrec_lib.baselines.generative.preference import sdpo_loss
from rrec_lib.baselines.generative.trie import build_trie
from rrec_lib.exercises.base import draws, hint, near, report, require, require_reason

Titles = Sequence[Sequence[int]]


def _catalogues() -> list[list[list[int]]]:
    """Catalogues of token sequences with an end, 0: some share beginnings, some are twins, one begins another."""
    generator = draws()
    fixed = [[3, 4, 5, 0], [3, 6, 0], [7, 0], [7, 8, 0], [3, 6, 0]]
    drawn = [
        [[*torch.randint(1, 4, (int(n),), generator=generator).tolist(), 0]
         for n in torch.randint(1, 4, (8,), generator=generator)]
        for _ in range(5)
    ]  # fmt: skip
    return [fixed, *drawn]


def _prefixes(titles: Titles) -> list[list[int]]:
    """Every beginning in a catalogue once, none and the whole titles included, and one of no title."""
    every = {tuple(title[:place]) for title in titles for place in range(len(title) + 1)}
    return [*map(list, sorted(every)), [99]]


@report
def check_allowed(answer: Callable[[Titles, Sequence[int]], Sequence[int]]) -> None:
    """Right: whatever a search writes with this, it writes a title of the catalogue.

    Args:
        answer: takes every title's tokens, the end included, and what has been written; returns the tokens that may
            follow, each once and ascending.
    """
    trials = []
    for titles in _catalogues():
        trie = build_trie(titles)
        for prefix in _prefixes(titles):
            known: dict[str, Any] = {
                "whatever stands at this place in any title is let through; the title must begin with what was written":
                    sorted({title[len(prefix)] for title in titles if len(title) > len(prefix)}),
                "all that is left of a title is named, not its next token alone":
                    sorted({token for title in titles if list(title[: len(prefix)]) == prefix
                            for token in title[len(prefix) :]}),
                "twins name a token twice; each token once":
                    sorted(title[len(prefix)] for title in titles
                           if list(title[: len(prefix)]) == prefix and len(title) > len(prefix)),
                "the end is a token, too: without it a title that another one begins with can't be written":
                    [token for token in trie.allowed(prefix) if token],
            }  # fmt: skip
            given = [int(token) for token in answer([list(title) for title in titles], list(prefix))]
            trials.append((f"titles {titles}, written {prefix}", given, trie.allowed(prefix), known))
    require(trials)


@report
def check_sdpo(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Right: the paper's loss, and it stays finite however far the model has moved.

    Args:
        answer: takes log-ratios (B,) of the chosen titles and (B, K) of the rejected ones, and β; returns S-DPO's loss,
            a mean over the batch.
    """
    generator, trials = draws(), []
    for batch, negatives, beta in ((1, 1, 1.0), (1, 2, 1.0), (3, 4, 0.1), (4, 3, 2.0)):
        chosen = torch.randn(batch, generator=generator)
        rejected = torch.randn(batch, negatives, generator=generator)
        worse = beta * (rejected - chosen[:, None])
        known = {
            "the sum over the rejected titles became a mean": (1 + worse.exp().mean(1)).log().mean(),
            "β is left out": (1 + (worse / beta).exp().sum(1)).log().mean(),
            "chosen and rejected have changed places": (1 + (-worse).exp().sum(1)).log().mean(),
            "this is DPO's loss of each rejected title, averaged": (1 + worse.exp()).log().mean(),
            "the losses of a batch are added; take their mean": (1 + worse.exp().sum(1)).log().sum(),
        }
        given = answer(chosen.clone(), rejected.clone(), beta)
        assert torch.as_tensor(given).numel() == 1, "one number for the whole batch is wanted, its mean"
        shown = f"{batch} chosen, {negatives} rejected each, β = {beta:g}"
        trials.append((shown, float(given), float(sdpo_loss(chosen, rejected, beta)), known))
    require(trials, lambda a, b: abs(float(a) - float(b)) < 1e-4, lambda value: f"{float(value):.4f}")
    far = torch.tensor([[200.0, 100.0]])
    found = float(answer(torch.zeros(1), far, 1.0))
    assert math.isfinite(found), (
        f"log-ratios of 200 and 100 above the chosen one: expected 200, got {found}; exp(200) is more than float32"
        " holds, so take the logarithm of the sum by logsumexp"
    )
    assert abs(found - 200) < 1e-2, f"log-ratios of 200 and 100 above the chosen one: expected 200, got {found:.2f}"


@report
def check_three_scores(answer: Callable[[Sequence[float], Sequence[bool]], Sequence[float]]) -> None:
    """Right: one title, three scores, and only the last doesn't care how its name is cut into tokens.

    Args:
        answer: takes log-probabilities of a title's tokens and whether each was forced; returns their sum, the sum
            divided by the length, and the sum without forced tokens.
    """
    generator, trials = draws(), []
    for length in (1, 2, 4, 7):
        logprobs = torch.rand(length, generator=generator, dtype=torch.float64).log().tolist()
        forced = [False, *(torch.rand(length - 1, generator=generator) < 0.6).tolist()]
        free = [value for value, one in zip(logprobs, forced, strict=True) if not one]
        total = sum(logprobs)
        right = (total, total / length, sum(free))
        known = {
            "the third score isn't divided: it is a sum that leaves forced tokens out": (
                total,
                total / length,
                sum(free) / len(free),
            ),
            "the third score is over the tokens that were *not* forced": (total, total / length, total - sum(free)),
            "the mean is over all of a title's tokens": (total, total / len(free), sum(free)),
        }
        given = tuple(map(float, answer(list(logprobs), list(forced))))
        assert len(given) == 3, f"three scores, not {len(given)}"
        trials.append((f"{length} tokens, {sum(forced)} of them forced", given, right, known))
    require(
        trials,
        lambda a, b: all(map(near, a, b)),
        lambda scores: ", ".join(f"{score:.3f}" for score in scores),
    )


def sharing(codes: int, films: int = 64, catalogues: int = 2000) -> float:
    """Share of films that have the code of another, when each draws one of so many; a mean over many catalogues."""
    drawn = torch.randint(codes, (catalogues, films), generator=torch.Generator().manual_seed(0))
    ordered = drawn.sort(1).values
    same = ordered[:, 1:] == ordered[:, :-1]
    edge = torch.zeros(catalogues, 1, dtype=torch.bool)
    return (torch.cat([edge, same], 1) | torch.cat([same, edge], 1)).double().mean().item()


@report
def check_sharing(answer: tuple[float, float, str]) -> None:
    """Right: there are many pairs of films, so far more codes than films are needed until hardly any collide.

    Args:
        answer: the share of 64 films that share their code with another, with 64 codes and with 4,096, and the letter
            of the reason.
    """
    assert len(answer) == 3, f"three things, two shares and a letter, not {len(answer)}"
    *shares, letter = answer
    for codes, given, room in zip((64, 4096), shares, (0.05, 0.01), strict=True):
        found = sharing(codes)
        signs = {
            "that is the chance for one certain other film; there are 63": abs(float(given) - 1 / codes) < 1e-3,
            "as many codes as films would do only if none were drawn twice": codes == 64 and 0 <= float(given) < 0.05,
            "that is the share of codes that nobody has": codes == 64 and abs(float(given) - math.exp(-1)) < 0.05,
            "a share lies between 0 and 1": not 0 <= float(given) <= 1,
        }
        assert abs(float(given) - found) <= room, (
            f"{codes:,} codes: you predicted {float(given):g}, this run found {found:.3f}{hint(signs)}"
        )
    require_reason(letter, "b", {
        "a": "the draws are even, so no code is favoured; unevenness would only add to it",
        "c": "a third level helps, as 4,096 codes show, but it isn't why 64 films share 64 codes",
        "d": "nothing is learned here: the codes are drawn",
    })  # fmt: skip


@report
def check_prefix(answer: Callable[[Titles, Sequence[float], Sequence[int]], float]) -> None:
    """Right: so the steps of a title multiply to its own probability, whatever its name is.

    Args:
        answer: takes every title's tokens, the probability that a sequence model gives to each item, and a prefix of at
            least one token; returns the probability of its last token behind those before.
    """
    generator, trials = draws(), []
    for titles in _catalogues():
        drawn = torch.rand(len(titles), generator=generator, dtype=torch.float64)
        chances = (drawn / drawn.sum()).tolist()
        for prefix in _prefixes(titles)[1:-1]:

            def under(start: Sequence[int], titles: Titles = titles, chances: list[float] = chances) -> list[float]:
                own = zip(titles, chances, strict=True)
                return [chance for title, chance in own if list(title[: len(start)]) == list(start)]

            before, here = under(prefix[:-1]), under(prefix)
            siblings = [under([*prefix[:-1], token]) for token in build_trie(titles).allowed(prefix[:-1])]
            known = {
                "that is the whole prefix's probability; divide by that of what stood before its last token": sum(here),
                "items are counted; each has its own probability": len(here) / len(before),
                "of a prefix's items the likeliest alone counts, so the steps of a title don't multiply to its"
                " probability": max(here) / sum(map(max, siblings)),
            }
            given = answer([list(title) for title in titles], list(chances), list(prefix))
            trials.append((f"titles {titles}, prefix {prefix}", float(given), sum(here) / sum(before), known))
    require(trials, near, lambda value: f"{value:.3f}")


def beams_miss(
    width: int, ways: int = 4, depth: int = 3, peaked: float = 1.0, catalogues: int = 300, seed: int = 0
) -> float:
    """How often a beam search over a made-up catalogue misses its likeliest title.

    Args:
        width: beams.
        ways: in which every beginning goes on.
        depth: tokens of every title; the catalogue has ``ways ** depth`` of them.
        peaked: 0 makes all tokens equally likely, more makes some much likelier than others.
        catalogues: that are drawn.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = [
        (peaked * torch.randn(catalogues, ways**place, ways, generator=generator)).log_softmax(2)
        for place in range(depth)
    ]
    exact, sums = torch.zeros(2, catalogues, 1)
    kept = torch.zeros(catalogues, 1, dtype=torch.long)
    for step in steps:
        exact = (exact[:, :, None] + step).flatten(1)
        own = step.gather(1, kept[:, :, None].expand(-1, -1, ways))
        behind = (sums[:, :, None] + own).flatten(1)
        sums, chosen = behind.topk(min(width, behind.shape[1]), dim=1)
        kept = kept.gather(1, chosen // ways) * ways + chosen % ways
    return (sums[:, 0] < exact.max(1).values - 1e-5).double().mean().item()  # of titles that tie any will do
