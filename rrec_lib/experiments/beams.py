"""What a beam search misses: recorded baselines that write, ranked exactly and by beams on the same rows of test."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrec_lib.baselines.generative.recommender import kept_scores
from rrec_lib.baselines.registry import WRITE, Means, Splits
from rrec_lib.baselines.tuning import best_of, known, search_file
from rrec_lib.core.console import say
from rrec_lib.core.profiles import Profile
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import provenance, write_json
from rrec_lib.data.examples import Example, prepare_profile
from rrec_lib.evaluation.checks import check_blind
from rrec_lib.evaluation.chunks import CHUNK, in_chunks
from rrec_lib.evaluation.evaluate import BLIND_ROWS, Recommender, evaluate_scores, sample_examples
from rrec_lib.evaluation.intervals import Interval

METRICS = ("ndcg@20", "hit@20")
TOP = 20
WHAT = (
    "The recorded search's best point; NDCG@20 and Hit@20 by the exact ranking and by beams, behind which what they "
    "miss ties; the paired difference to the exact ranking (95 % over users); processor seconds a row; which share of "
    "the exact ranking's first 20 was reached."
)


def compare_beams(
    name: str, profile: Profile, searches: Path, out: Path, seed: int, hours: float, every: int,
    widths: Sequence[int] = (50, 10, 5), rows: int | None = 100,
) -> dict[str, Any]:  # fmt: skip
    """Fit a baseline as its recorded search chose, rank rows exactly and by beams, and write what differs.

    Args:
        name: of :data:`rrec_lib.baselines.registry.WRITE`.
        profile: whose test rows are ranked.
        searches: folder of the recorded search, of checkpoints below ``runs/`` where there are any.
        out: the file.
        seed, hours, every: of the fit; those of the recorded run find its checkpoint.
        widths: numbers of beams.
        rows: of test, drawn once, no user with more than the profile's limit; all, if None.

    Raises:
        ValueError: for a baseline that doesn't write through a trie.
        FileNotFoundError: if no search is recorded.
    """
    if name not in WRITE:
        raise ValueError(f"{name} does not write through a trie; choose one of {', '.join(WRITE)}")
    trials = read_json(searches / search_file(name), "trials")["trials"]
    parameters = best_of(trials)["parameters"]
    dataset, most = prepare_profile(profile), profile.evaluation.max_rows_per_user
    splits, test = Splits.of(dataset), list(dataset["test"])
    if rows is not None:
        test = sample_examples(test, rows, most, seed=0)
    ranked, exact, best = dict[str, dict[str, Any]](), None, None
    for width in (None, *widths):
        by_width = replace(splits, means=Means(profile, searches, hours, every, width))
        model, way = known(name).fit(by_width, seed, **parameters), f"{name}, {width or 'exact'}"
        blind = check_blind(model.scores, test[:BLIND_ROWS], name)
        kept = kept_scores(model, name, parameters, by_width, seed)
        made = in_chunks(test, _timed(model), f"{kept.made_by} timed", kept.folder, CHUNK, way)
        scores, spent = made["scores"], float(made["spent"].sum())
        report = evaluate_scores(scores, test, name, profile.evaluation.bootstrap_samples, seed, findings=[blind])
        exact, best = exact or report, scores.topk(TOP).indices if best is None else best
        reached = (scores > scores.amin(1, keepdim=True)).gather(1, best)  # all others tie at the end
        found: dict[str, Any] = {metric: _said(report.interval(metric)) for metric in METRICS}
        found["less exact"] = _said(report.difference(exact, METRICS[0]))
        found["cpu_seconds_a_row"] = spent / len(test)
        found["reached"] = float(reached.float().mean())
        ranked["exact" if width is None else str(width)] = found
        say(f"{way}: {found[METRICS[0]]['mean']:.4f}")
    record = {
        "name": f"{name}, ranked exactly and by beams", "what": WHAT, **provenance(seed), "data": splits.data,
        "rows": len(test), "parameters": parameters, "ranked": ranked,
    }  # fmt: skip
    write_json(out, record)
    return record


def _timed(model: Recommender) -> Callable[[list[Example]], dict[str, Tensor]]:
    """Scores, and the CPU seconds of each row, what the model keeps itself included."""

    def compute(rows: list[Example]) -> dict[str, Tensor]:
        started = time.process_time()
        scores = model.scores(rows)
        return {"scores": scores, "spent": torch.full((len(rows),), (time.process_time() - started) / len(rows))}

    return compute


def _said(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
