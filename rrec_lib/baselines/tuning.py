"""Tuning on valid: a seeded random search whose every trial is written down, and which goes on where it stopped."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.baselines.registry import BASELINES, Baseline, BudgetError, Splits
from rrec_lib.core.console import say
from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import non_defaults
from rrec_lib.core.reading import check_same, read_json
from rrec_lib.core.results import provenance, write_json
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.evaluate import Recommender, mean_ndcg, sample_examples

SEARCH_METRIC = "ndcg@20"  # mean_ndcg's
LANGUAGE_ROWS = 300  # of valid, on which a language model's points are compared: a row takes it a second
OTHERS_TRIALS, OTHERS_MINUTES = 20, 2.0  # of what others lean on; a recorded search that took as long is left alone
LATER = {"leans_on", "preferences"}  # older files don't say
Trial = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """A baseline's best parameters on valid, and all trials: ``parameters``, ``valid`` (NDCG@20), ``cpu_seconds``."""

    name: str
    parameters: dict[str, Any]
    valid: float
    trials: list[Trial]


def tune(name: str, splits: Splits, trials: int | None, seed: int, path: Path, minutes: float | None = None) -> Tuned:
    """Search a baseline's space; trials that stand in the file already are not run again.

    A search with a budget starts no trial once its trials have taken that many CPU minutes, those of the file included:
    the trial that runs then is finished, so the last may go past it, and a first one is always run.

    Args:
        name: a name in ``BASELINES``.
        splits: rows of a prepared dataset.
        trials: how many points of the space are drawn, without repeats; all of a smaller space, or if None.
        seed: of the draw_points and of each fit.
        path: the file of trials, written after each.
        minutes: CPU minutes, summed over threads, after which no trial is started; no such limit if None.

    Raises:
        ValueError: for an unknown name, a file that holds the search of something else, or hours that no point fits in.
    """
    baseline = known(name)
    made_by = {"baseline": name, "seed": seed, "data": splits.data, **_means(baseline, splits)}
    if baseline.leans_on is not None:
        other = tune_other(baseline.leans_on, splits, seed)
        made_by["leans_on"] = json.loads(json.dumps({other.name: other.parameters}))
    done = _read(path, made_by)
    problem: BudgetError | None = None
    points, rows = draw_points(baseline, trials, seed), judging_rows(baseline, splits)
    for parameters in points:
        if any(trial["parameters"] == parameters for trial in done):
            continue
        if done and minutes is not None and spent(done) >= 60 * minutes:
            say(f"{name}: {spent(done) / 60:.1f} CPU minutes are spent, {len(done)} of {len(points)} points were tried")
            break
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            value = mean_ndcg(_fitted(name, splits, seed, parameters), rows)
        except BudgetError as error:
            problem = error
            say(f"{name}: {parameters} is left out: {error}")
            continue
        took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        done.append({"parameters": parameters, "valid": value, **took})
        budget = {"points": len(points), "minutes": minutes, "trials_done": len(done), "cpu_seconds": spent(done)}
        search = {"metric": SEARCH_METRIC, **provenance(seed), **made_by, "valid_rows": len(rows), "budget": budget}
        write_json(path, {**search, "trials": done})
        say(f"{name} {len(done)}/{len(points)}: {SEARCH_METRIC} {value:.4f} on valid, {parameters}")
    if problem is not None and not done:
        raise problem
    best = best_of(done)
    return Tuned(name, best["parameters"], best["valid"], done)


def tune_other(name: str, splits: Splits, seed: int) -> Tuned:
    """Tune what another baseline leans on, or go on with the search of it in the folder of the means.

    Raises:
        ValueError: without means.
    """
    if splits.means is None:
        raise ValueError(f"{name} is searched for in a folder: give means, see Splits")
    return tune(name, splits, OTHERS_TRIALS, seed, splits.means.folder / search_file(name), OTHERS_MINUTES)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial that valid likes best; of several the first."""
    return max(trials, key=lambda trial: trial["valid"])


def recorded_trials(folder: Path, name: str) -> list[Trial]:
    """The trials of a baseline's recorded search in a folder; empty if there is none."""
    path = folder / search_file(name)
    return list(read_json(path, "trials")["trials"]) if path.exists() else []


def recorded_rows(folder: Path, name: str) -> int | None:
    """How many rows of valid a recorded search was judged by; None if it doesn't say."""
    path = folder / search_file(name)
    return read_json(path).get("valid_rows") if path.exists() else None


def spent(trials: Sequence[Trial]) -> float:
    """CPU seconds that trials took; the time that passed where a file is older than this measure."""
    return float(sum(trial["cpu_seconds" if "cpu_seconds" in trial else "seconds"] for trial in trials))


def fit_tuned(tuned: Tuned, splits: Splits, seed: int) -> Recommender:
    """Fit a baseline with its best parameters."""
    return BASELINES[tuned.name].fit(splits, seed, **tuned.parameters)


def _fitted(name: str, splits: Splits, seed: int, parameters: dict[str, Any]) -> Recommender:
    """Fit a baseline; a language model's scores are kept, so that a search goes on in the middle of a point."""
    baseline = known(name)
    model = baseline.fit(splits, seed, **parameters)
    if not baseline.trains_language_model or splits.means is None:
        return model
    from rrec_lib.baselines.generative.recommender import kept_scores

    return kept_scores(model, name, parameters, splits, seed)


def fit_recorded(place: str, splits: Splits, names: Sequence[str], seed: int) -> dict[str, Recommender]:
    """Baselines by name, fitted with what their recorded search found best; one without such a search is left out.

    Args:
        place: data set and profile, such as ``"movielens-cpu"``.
        splits: of that data set.
        names: of baselines.
        seed: of each fit.
    """
    searches = resource("results/baselines") / place
    recorded = {name: recorded_trials(searches, name) for name in names}
    return {
        name: known(name).fit(splits, seed, **best_of(trials)["parameters"])
        for name, trials in recorded.items() if trials
    }  # fmt: skip


def draw_points(baseline: Baseline, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """Points of a baseline's space in an order that the seed fixes, the first ``trials`` of them, or all."""
    points = [dict(zip(baseline.space, values, strict=True)) for values in itertools.product(*baseline.space.values())]
    order = np.random.default_rng(seed).permutation(len(points))
    return [points[place] for place in order[:trials].tolist()]


def judging_rows(baseline: Baseline, splits: Splits) -> Sequence[Example]:
    """The rows of valid on which points are compared: all, or for a language model a fixed part, no user with many."""
    if not baseline.trains_language_model or splits.means is None:
        return splits.valid
    return sample_examples(splits.valid, LANGUAGE_ROWS, splits.means.profile.evaluation.max_rows_per_user, seed=0)


def search_file(name: str) -> str:
    """Name of the file of a baseline's search: ``"recent-popularity.json"``."""
    return f"{name.lower().replace(' ', '-')}.json"


def known(name: str) -> Baseline:
    """A baseline by name; a ``ValueError`` names those that there are."""
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; choose one of {', '.join(BASELINES)}")
    return BASELINES[name]


def _means(baseline: Baseline, splits: Splits) -> dict[str, Any]:
    """What trials depend on of the means of a baseline that trains or reads a language model; nothing of others."""
    means = splits.means
    if means is None or not baseline.only_named:
        return {}
    found: dict[str, Any] = {"model": non_defaults(means.profile.model), "hours": means.hours, "beams": means.beams}
    if baseline.trains_language_model:
        found |= {name: non_defaults(getattr(means.profile, name)) for name in ("rollouts", "reward", "warmup")}
        found |= {"every": means.every, "rows_of_a_user": means.profile.evaluation.max_rows_per_user}
        step = {name: getattr(means.profile.training, name) for name in ("learning_rate", "users_per_step")}
        return json.loads(json.dumps({"means": found, "preferences": step}))
    return json.loads(json.dumps({"means": found}))


def _read(path: Path, made_by: dict[str, Any]) -> list[Trial]:
    if not path.exists():
        return []
    found = read_json(path, "trials")
    kept = {key: found[key] for key in made_by if key in found}
    asked = {key: value for key, value in made_by.items() if key in kept or key not in LATER}
    check_same(path, kept, asked, "give the same ones, or name another folder")
    return list(found["trials"])
