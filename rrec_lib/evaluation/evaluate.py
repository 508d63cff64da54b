"""Evaluation: any recommender on next-item examples; whole catalogue, history masked, ties in expectation."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rrec_lib.core.console import progress
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.checks import Finding, check_above_chance, check_blind, check_examples
from rrec_lib.evaluation.exposure import Exposure
from rrec_lib.evaluation.metrics import expected_ndcg
from rrec_lib.evaluation.ranks import count_true, target_rank
from rrec_lib.evaluation.reports import CUTOFFS, Report
from rrec_lib.evaluation.scoring import mask_items, repeated_targets
from rrec_lib.evaluation.slices import example_slices

BLIND_ROWS = 4  # how many rows are scored again with another target in place of theirs


class Recommender(Protocol):
    """Anything that scores the whole catalogue for each example, without looking at its target."""

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) scores, higher is better."""
        ...


def evaluate(
    recommender: Recommender,
    examples: Sequence[Example],
    name: str,
    samples: int = 2000,
    seed: int = 0,
    train_counts: Tensor | None = None,
    batch_size: int = 1024,
    findings: Sequence[Finding] = (),
) -> Report:
    """Rank the whole catalogue for each example: Hit@k and NDCG@k for k in :data:`CUTOFFS`, MRR, lists and slices.

    Scores are asked for batch by batch and kept in float32 or wider; of each row only the target's rank stays. Before,
    a few rows are scored with another target in place of theirs, which must change nothing, unless a finding says so.

    Args:
        recommender: gives (E, N) scores.
        examples: E rows with ``user_id``, ``seen`` and ``target``; times, where they have them, are checked too.
        name: for tables; runs of one arm with several seeds share it.
        samples: bootstrap resamples.
        seed: of the bootstrap.
        train_counts: (N,) how often each item was a training target; popularity is reported if they are given.
        batch_size: examples that are scored at a time.
        findings: of checks made elsewhere, such as :func:`rrec_lib.evaluation.checks.check_trained`.

    Raises:
        ValueError: if there is no example, if scores have the wrong shape or are not numbers, if a target leaks into
            scores or histories.
    """
    rows = list(examples)
    _check_rows(rows, name)

    def score(part: Sequence[Example]) -> Tensor:
        scores = _checked(recommender.scores(part), len(part), name)
        if train_counts is not None and scores.shape[1] != len(train_counts):
            raise ValueError(f"{name}: {scores.shape[1]} scores a row for a catalogue of {len(train_counts)} items")
        return scores

    checked = list(findings)
    if not any(finding.check == "blind" for finding in findings):
        checked.insert(0, check_blind(score, rows[:BLIND_ROWS], name))
    return evaluate_scores(
        lambda part: recommender.scores(rows[part]), rows, name, samples, seed, train_counts, batch_size, checked
    )


def evaluate_scores(
    scores: Tensor | Callable[[slice], Tensor],
    examples: Sequence[Example],
    name: str,
    samples: int = 2000,
    seed: int = 0,
    train_counts: Tensor | None = None,
    batch_size: int = 1024,
    findings: Sequence[Finding] = (),
) -> Report:
    """As :func:`evaluate`, from scores that are there already, or follow from states that are.

    Args:
        scores: (E, N), or a function from a slice of the examples to the scores of that slice, so that they are never
            all in memory: ``lambda part: score_items(states[part], item_embeddings)``.
        examples: as there, and so are the other arguments.
    """
    rows = list(examples)
    _check_rows(rows, name)
    part_of = scores.__getitem__ if isinstance(scores, Tensor) else scores
    if isinstance(scores, Tensor):
        _checked(scores, len(rows), name)
    checked = list(findings)
    if not any(finding.check == "blind" for finding in findings):
        checked.insert(0, Finding("blind", None, "scores were given, so whether they follow the target was not tried"))
    targets = torch.tensor([example["target"] for example in rows])
    seen = [example["seen"] for example in rows]
    repeats = int(repeated_targets(seen, targets).sum())
    checked += check_examples(rows, repeats)
    ranks = _rank(part_of, targets, seen, name, batch_size)
    n_items = ranks.exposure.n_items
    if train_counts is not None and len(train_counts) != n_items:
        raise ValueError(f"{name}: {len(train_counts)} training counts for a catalogue of {n_items} items")
    _, users = np.unique([example["user_id"] for example in rows], return_inverse=True)
    lists: dict[str, Any] = dict(ranks.exposure.coverage())
    if train_counts is not None:
        lists |= ranks.exposure.popularity(train_counts, targets)
    counts = None if train_counts is None else train_counts.numpy()
    own = expected_ndcg(ranks.n_greater, ranks.n_equal, 20).numpy()
    chance = expected_ndcg(torch.zeros_like(ranks.candidates), ranks.candidates, 20).numpy()
    checked.append(check_above_chance(own, chance, users, "NDCG@20", samples, seed))
    return Report(
        name=name,
        n_greater=ranks.n_greater.numpy(),
        n_equal=ranks.n_equal.numpy(),
        users=users,
        repeats=repeats,
        samples=samples,
        seed=seed,
        n_items=n_items,
        examples=examples_hash(rows),
        lists=lists,
        slices=example_slices(rows, counts),
        findings=tuple(checked),
    )


def examples_hash(examples: Sequence[Example]) -> str:
    """Digest of what is evaluated, row by row: user, target, and number of items seen before."""
    rows = [[example["user_id"], int(example["target"]), len(example["seen"])] for example in examples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def sample_examples(examples: Sequence[Example], size: int, max_rows_per_user: int, seed: int) -> list[Example]:
    """A fixed sample: shuffle by seed, cap the rows of each user, keep the first ``size``.

    Without the cap a handful of users would own most of it.
    """
    if size < 1 or max_rows_per_user < 1:
        raise ValueError(f"size and max_rows_per_user must be at least 1, got {size} and {max_rows_per_user}")
    taken: Counter[int] = Counter()
    sample: list[Example] = []
    for index in np.random.default_rng(seed).permutation(len(examples)).tolist():
        example = examples[index]
        if taken[example["user_id"]] < max_rows_per_user and len(sample) < size:
            taken[example["user_id"]] += 1
            sample.append(example)
    return sample


def mean_ndcg(recommender: Recommender, examples: Sequence[Example], k: int = 20) -> float:
    """Mean NDCG@k alone, as a report has it: for early stopping and searches, which need neither intervals nor checks.

    Args:
        recommender: gives (E, N) scores.
        examples: rows with ``seen`` and ``target``.
        k: cutoff.

    Raises:
        ValueError: if there is no example, or scores have the wrong shape or are not numbers.
    """
    _check_rows(examples, "the mean NDCG")
    targets = torch.tensor([example["target"] for example in examples])
    scores = _checked(recommender.scores(examples), len(examples), "the mean NDCG")
    masked = mask_items(scores, [example["seen"] for example in examples], targets)
    return float(expected_ndcg(*target_rank(masked, targets), k).mean())


def training_counts(train: Sequence[Example], n_items: int) -> Tensor:
    """(N,) how often each item was a training target."""
    return torch.tensor([example["target"] for example in train], dtype=torch.long).bincount(minlength=n_items)


@dataclass(frozen=True)
class _Ranks:
    """What is left of the scores: (E,) ranks, and candidates of each row; and the lists' items."""

    n_greater: Tensor
    n_equal: Tensor
    candidates: Tensor
    exposure: Exposure


def _rank(
    part_of: Callable[[slice], Tensor], targets: Tensor, seen: list[Sequence[int]], name: str, batch_size: int
) -> _Ranks:
    """Rank each target among all items, one batch of scores at a time."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    exposure: Exposure | None = None
    parts = [slice(start, start + batch_size) for start in range(0, len(targets), batch_size)]
    for part in progress(parts, f"evaluating {name}") if len(parts) > 1 else parts:
        scores = _checked(part_of(part), len(targets[part]), name)
        exposure = exposure or Exposure(CUTOFFS, scores.shape[1])
        if scores.shape[1] != exposure.n_items:
            raise ValueError(f"{name}: scores of {scores.shape[1]} items after scores of {exposure.n_items}")
        masked = mask_items(scores, seen[part], targets[part])
        greater, equal = target_rank(masked, targets[part])
        candidates = count_true(~torch.isneginf(masked))
        found.append((greater.cpu(), equal.cpu(), candidates.cpu()))
        exposure.add(masked)
    assert exposure is not None  # there is at least one row
    n_greater, n_equal, candidates = (torch.cat(column) for column in zip(*found, strict=True))
    return _Ranks(n_greater, n_equal, candidates, exposure)


def _check_rows(rows: Sequence[Example], name: str) -> None:
    if not rows:
        raise ValueError(f"{name}: no example to evaluate on; the split or the sample is empty")


def _checked(scores: Tensor, rows: int, name: str) -> Tensor:
    """Scores in float32 or wider: in half precision many would tie, and large integers in float32."""
    if not isinstance(scores, Tensor):
        raise ValueError(f"{name}: expected ({rows}, N) scores as a tensor, got a {type(scores).__name__}")
    if scores.dim() != 2 or len(scores) != rows or not scores.shape[1] or scores.amax(1).isnan().any():
        raise ValueError(f"{name}: expected ({rows}, N) scores without NaN, got {tuple(scores.shape)}")
    return scores.float() if scores.is_floating_point() and scores.dtype != torch.float64 else scores.double()
