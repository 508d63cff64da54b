"""Tuning on valid: a seeded random search whose every trial is written down, and which goes on where it stopped."""

import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.baselines.registry import BASELINES, Baseline, Splits
from rrec_lib.console import say
from rrec_lib.evaluation import Recommender, mean_ndcg
from rrec_lib.results import provenance, write_json

METRIC = "ndcg@20"  # mean_ndcg's
Trial = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """A baseline's best parameters on valid, and all trials: ``parameters``, ``valid`` (NDCG@20), ``seconds``."""

    name: str
    parameters: dict[str, Any]
    valid: float
    trials: list[Trial]


def tune(name: str, splits: Splits, trials: int, seed: int, path: Path) -> Tuned:
    """Search a baseline's space; trials that stand in the file already are not run again.

    Args:
        name: a name in ``BASELINES``.
        splits: rows of a prepared dataset.
        trials: how many points of the space are drawn, without repeats; all of a smaller space.
        seed: of the draw and of each fit.
        path: the file of trials, written after each.

    Raises:
        ValueError: for an unknown name, or a file that holds the search of something else.
    """
    baseline = known(name)
    done = _read(path, name, seed)
    for parameters in draw(baseline, trials, seed):
        if any(trial["parameters"] == parameters for trial in done):
            continue
        start = time.perf_counter()
        value = mean_ndcg(baseline.fit(splits, seed, **parameters), splits.valid)
        done.append({"parameters": parameters, "valid": value, "seconds": time.perf_counter() - start})
        write_json(path, {"baseline": name, "metric": METRIC, **provenance(seed), "trials": done})
        say(f"{name} {len(done)}/{trials}: {METRIC} {value:.4f} on valid, {parameters}")
    best = max(done, key=lambda trial: trial["valid"])
    return Tuned(name, best["parameters"], best["valid"], done)


def fit_tuned(tuned: Tuned, splits: Splits, seed: int) -> Recommender:
    """Fit a baseline with its best parameters."""
    return BASELINES[tuned.name].fit(splits, seed, **tuned.parameters)


def draw(baseline: Baseline, trials: int, seed: int) -> list[dict[str, Any]]:
    """Points of a baseline's space in an order that the seed fixes, the first ``trials`` of them."""
    points = [dict(zip(baseline.space, values, strict=True)) for values in itertools.product(*baseline.space.values())]
    order = np.random.default_rng(seed).permutation(len(points))
    return [points[place] for place in order[:trials].tolist()]


def search_file(name: str) -> str:
    """Name of the file of a baseline's search: ``"recent-popularity.json"``."""
    return f"{name.lower().replace(' ', '-')}.json"


def known(name: str) -> Baseline:
    """A baseline by name; a ``ValueError`` names those that there are."""
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; choose one of {', '.join(BASELINES)}")
    return BASELINES[name]


def _read(path: Path, name: str, seed: int) -> list[Trial]:
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if (found["baseline"], found["seed"]) != (name, seed):
        raise ValueError(f"{path} holds the search of {found['baseline']} with seed {found['seed']}, not of {name} "
                         f"with seed {seed}; name another folder")  # fmt: skip
    return list(found["trials"])
