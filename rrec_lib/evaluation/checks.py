"""Checks that an evaluation runs on itself: a leak, an untrained adapter, a shuffled item table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrec_lib.data.examples import Example
from rrec_lib.evaluation.intervals import paired_bootstrap
from rrec_lib.evaluation.scoring import unit_rows

MANY_REPEATS = 0.5  # above this share of targets that were "already seen", `seen` is doubted


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        check: its name.
        passed: False for a warning, None if the check could not be made.
        line: what was seen, in a sentence.
    """

    check: str
    passed: bool | None
    line: str


def check_examples(examples: Sequence[Example], repeats: int) -> list[Finding]:
    """Look for targets that their own past already tells.

    Args:
        examples: rows with ``seen`` and ``target``, and with times where known.
        repeats: how many targets are among the items seen before them.

    Returns:
        A finding on the times and one on the repeats.

    Raises:
        ValueError: if a history goes past the time of its target: it holds what came later, or the target itself.
    """
    timed = [e for e in examples if "target_timestamp" in e and e.get("history_timestamps")]
    level = 0
    for row, example in enumerate(timed):
        last, target = max(example["history_timestamps"]), example["target_timestamp"]
        if last > target:
            raise ValueError(
                f"example {row} of {len(timed)} with times: its history reaches time {last}, its target is of "
                f"{target}; a history must end before its target, or it leaks it"
            )
        level += last == target
    if not timed:
        past = Finding("past", None, "the examples carry no times, so histories were not checked against targets")
    elif level:
        line = (
            f"{level} of {len(timed)} histories end in the second of their target; which came first is known only if "
            "the log has finer times"
        )
        past = Finding("past", False, line)
    else:
        past = Finding("past", True, f"every history ends before its target, in all {len(timed)} rows with times")
    share = repeats / len(examples)
    line = f"{repeats} of {len(examples)} targets were seen before; they stay rankable, all other seen items do not"
    if share > MANY_REPEATS:
        line += ". So many repeats: does `seen` hold items that came later?"
    return [past, Finding("repeats", share <= MANY_REPEATS, line)]


def check_blind(score: Callable[[Sequence[Example]], Tensor], examples: Sequence[Example], name: str) -> Finding:
    """Require that scores don't depend on the target: score again with another target in its place.

    Args:
        score: gives (E, N) scores.
        examples: a few rows; a handful is enough.
        name: of the recommender.

    Returns:
        The finding; not passed if the scores can't be repeated, so that the check says nothing.

    Raises:
        ValueError: if the scores follow the target: it leaks into them.
    """
    first = score(examples)
    if same_scores(first, score([_with_other_target(example, first.shape[1]) for example in examples])):
        return Finding("blind", True, f"scores stay the same when the target is replaced ({len(examples)} rows tried)")
    if not same_scores(first, score(examples)):
        return Finding(
            "blind", None, "scores differ from call to call, so whether they follow the target can't be told"
        )
    raise ValueError(
        f"{name}: the scores change when the example's target is replaced, so the target leaks into them; a "
        "recommender may read the history and the time, never `target`, `target_rating` or `repeat`"
    )


def check_trained(states: Tensor, base_states: Tensor, name: str) -> Finding:
    """Require that an adapter changes what the model computes.

    Args:
        states: (E, d) states, or (E, N) scores, with the adapter.
        base_states: the same without it.
        name: of the recommender.

    Raises:
        ValueError: if they are the same: the adapter is untrained, or was not applied.
    """
    if same_scores(states, base_states):
        raise ValueError(
            f"{name}: with its adapter the model computes exactly what it computes without, so the adapter is "
            "untrained or was not applied; evaluate the base model under its own name, or load the trained adapter"
        )
    return Finding("trained", True, f"the adapter changes the model's states ({len(states)} rows tried)")


def check_item_table(table: Tensor, encode: Callable[[list[int]], Tensor], name: str, rows: int = 4) -> Finding:
    """Require that a few rows of the item table are those of their items: encode them again, and look for the nearest.

    Args:
        table: (N, d) item embeddings.
        encode: catalogue rows to (n, d) fresh embeddings.
        name: of the recommender.
        rows: how many to try, spread over the catalogue.

    Raises:
        ValueError: if a fresh embedding fits another row of the table better than its own by more than rounding: the
            rows are out of order, or come from other weights.
    """
    tried = np.unique(np.linspace(0, len(table) - 1, min(rows, len(table))).astype(int)).tolist()
    cosines = unit_rows(encode(tried)).to(table.device) @ unit_rows(table).T
    own = cosines[torch.arange(len(tried)), tried]
    for row, mine, best in zip(tried, own.tolist(), cosines.max(1).values.tolist(), strict=True):
        if best - mine > 1e-3:
            raise ValueError(
                f"{name}: item {row}, encoded again, is nearer to another row of the item table (cosine {best:.4f}) "
                f"than to its own ({mine:.4f}); the table is shuffled or of other weights: build it again"
            )
    return Finding("item table", True, f"items encoded again fit their own rows ({len(tried)} rows tried)")


def check_above_chance(
    values: np.ndarray, chance: np.ndarray, users: np.ndarray, metric: str, samples: int, seed: int
) -> Finding:
    """Compare a metric with a random order of the same candidates.

    A shuffled item table, states of the wrong rows and an untrained model all end here: none ranks above chance.

    Args:
        values: (E,) the metric.
        chance: (E,) its expectation in a random order.
        users: (E,) whose row it is.
        metric: its name.
        samples: bootstrap resamples.
        seed: of the bootstrap.
    """
    against = f"{metric} {values.mean():.4f}, in a random order {chance.mean():.4f}"
    if len(np.unique(users)) < 2:
        return Finding("above chance", None, f"{against}; one user gives no interval")
    found = paired_bootstrap(values, chance, users, samples, seed)
    line = f"{against}; difference {found.mean:.4f}, 95 % {found:.4f to}"
    if found.low > 0:
        return Finding("above chance", True, line)
    return Finding(
        "above chance",
        False,
        f"{line}: not shown to be above chance; if it should be, check that the item table's rows are in order",
    )


def same_scores(a: Tensor, b: Tensor) -> bool:
    """Whether two (E, N) results are the same up to rounding, −inf included.

    Rounding is measured by each row's own numbers, in their own precision: what is much smaller can still decide who is
    first, where scores lie close together or far from zero.
    """
    finite = a.isfinite()
    if a.shape != b.shape or not torch.equal(a[~finite], b[~finite]):
        return False
    precision = min(torch.finfo(a.dtype).eps, torch.finfo(torch.float32).eps) if a.is_floating_point() else 0.0
    wide = a.double()
    low, high = (wide.masked_fill(~finite, end) for end in (torch.inf, -torch.inf))
    spread = (high.amax(1) - low.amin(1)).clamp(min=0)
    rounding = 1e-5 * spread + 16 * precision * wide.masked_fill(~finite, 0).abs().amax(1)
    return bool(((wide - b.double()).abs().masked_fill(~finite, 0) <= rounding[:, None]).all())


def _with_other_target(example: Example, n_items: int) -> dict[str, Any]:
    changed = {**example, "target": (example["target"] + max(1, n_items // 2)) % n_items}
    if "target_rating" in example:
        changed["target_rating"] = -1.0
    if "repeat" in example:
        changed["repeat"] = not example["repeat"]
    return changed
