"""Compute at the time of asking: the states of K sampled reasonings averaged, and what they take of a processor.

Of each row as many reasonings are sampled as the largest K asks for; smaller K take the first of them, so that all K
are compared on the same samples. What a K costs is measured on some of the rows, where just K are sampled.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from datasets import DatasetDict
from torch import Tensor

from rrec_lib.baselines.registry import Splits
from rrec_lib.baselines.tuning import fit_recorded
from rrec_lib.core.profiles import load_profile
from rrec_lib.core.results import describe_run
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.checks import check_blind
from rrec_lib.evaluation.chunks import CHUNK, in_chunks
from rrec_lib.evaluation.evaluate import evaluate_scores, sample_examples, training_counts
from rrec_lib.evaluation.reports import data_hash, save_reports
from rrec_lib.experiments.readings import load_read, reading
from rrec_lib.experiments.reference import BASELINES, tuned_baselines
from rrec_lib.experiments.runner import Options, Run, chunk_key, chunked_states, reasoning_figures, test_rows_of
from rrec_lib.recommend.recommender import ReasoningRecommender, averaged, seed_of

SAMPLES = (1, 2, 4, 8, 16)
TIMED_ROWS = 64
SHOWN = 20  # items of a recommendation
Scores = Callable[[Sequence[Example]], Tensor]
BARE, GREEDY = "none", "greedy"  # the bare prompt, and one reasoning that isn't sampled, as the shipped model answers


def arm_name(count: int) -> str:
    """What the report of K averaged reasonings is called."""
    return f"{count} reasoning{'s' if count > 1 else ''}"


def run_curve(
    options: Options,
    adapter: Path,
    seed: int = 0,
    test_rows: int | None = None,
    samples: Sequence[int] = SAMPLES,
    timed_rows: int = TIMED_ROWS,
    baselines: Sequence[str] | None = None,
) -> Run:
    """Write one file with a report for each K, for the bare prompt and for the greedy reasoning, or go on with it.

    Its ``asking`` has the CPU seconds of one recommendation by each report's name, ``tokens`` the mean length of a
    sampled reasoning.

    Args:
        options: of :func:`rrec_lib.experiments.readings.what_to_read`.
        adapter: folder of the adapter.
        seed: of sampling.
        test_rows: of a user at most; None takes all.
        samples: the numbers K.
        timed_rows: on how many rows the seconds are measured, each K anew.
        baselines: whose seconds are measured beside them, fitted as their recorded search on this data set chose; one
            without such a search is left out. If None, EASE and the best two on test, which the page shows.

    Raises:
        ValueError: if the file is of a run with other settings.
    """
    counts = sorted(samples)
    if baselines is None:
        place = f"{Path(load_profile(options.profile, options.overrides).data.dataset).name}-{options.profile}"
        baselines = list(dict.fromkeys(["EASE", *(one.name for one in tuned_baselines(place)[:BASELINES])]))
    more = {"samples": counts, "timed_rows": timed_rows, "baselines": list(baselines)}
    run = reading(options, "compute curve", "own", seed, adapter, test_rows, **more)
    if not run.finished():
        print(describe_run(options.profile), flush=True)
        _write(run, adapter, counts, timed_rows, baselines)
    print(f"{run.name}, seed {seed}: {run.report}", flush=True)
    return run


def _write(run: Run, adapter: Path, counts: list[int], timed_rows: int, baselines: Sequence[str]) -> None:
    policy, dataset = load_read(run, adapter)
    items, profile = list(dataset["items"]), run.profile
    recommender = ReasoningRecommender(policy, items, profile)
    test, folder = test_rows_of(run, dataset), run.below(run.options.runs)

    def scores(states: Tensor) -> Tensor:
        return recommender.score_states(states.to(policy.device))

    def sample(chunk: list[Example]) -> dict[str, Tensor]:
        written = recommender.sample(chunk, counts[-1], profile.rollouts.temperature, seed_of(chunk, run.seed))
        found = {"states": torch.stack([one.states for one in written], 1)}
        figures = [reasoning_figures(policy, one) for one in written]
        return found | {name: torch.stack([one[name] for one in figures], 1) for name in figures[0]}

    findings, of_four = recommender.check(test, run.name, trained=True), sample_examples(test, 4, 1, seed=0)
    findings.append(check_blind(ways_of(recommender, run.seed, [2])[arm_name(2)], of_four, run.name))
    drawn = in_chunks(test, sample, chunk_key(recommender, "sampled", counts[-1], run.seed), folder, CHUNK, "sampled")
    kept = {arm_name(count): averaged(drawn["states"][:, :count].transpose(0, 1)) for count in counts}
    spent = float(drawn["seconds"].mean())
    for name, control in ((BARE, "none"), (GREEDY, "own")):
        kept[name], writing = chunked_states(recommender, test, control, CHUNK, folder, folder / "written")
        spent += writing["cpu_seconds_per_row"]
    train_counts = training_counts(dataset["train"], len(items))
    reports = [
        evaluate_scores(
            lambda part, states=states: scores(states[part]),  # type: ignore[misc]
            test, name, profile.evaluation.bootstrap_samples, run.seed, train_counts, findings=findings,
        )
        for name, states in kept.items()
    ]  # fmt: skip
    timed = sample_examples(test, timed_rows, len(test), seed=0)
    ways = ways_of(recommender, run.seed, counts) | _tuned(run, dataset, baselines)
    asking = _seconds(ways, timed, chunk_key(recommender, "timed", run.seed, *baselines), folder)
    save_reports(
        run.report, reports, profile.name, data_hash(dataset), run.seed, settings=run.settings, asking=asking,
        writing={"cpu_seconds_per_row": spent + sum(asking.values()) * len(timed) / len(test)},
        tokens=float(drawn["tokens"].mean()), unfinished=1 - float(drawn["finished"].mean()),
    )  # fmt: skip


def ways_of(recommender: ReasoningRecommender, seed: int, counts: Sequence[int]) -> dict[str, Scores]:
    """How rows are answered: with each number of sampled reasonings, none, and a greedy one."""

    def of_several(rows: Sequence[Example], count: int) -> Tensor:
        written = recommender.sample(rows, count, recommender.profile.rollouts.temperature, seed)
        return recommender.score_states(averaged(torch.stack([one.states for one in written])))

    ways: dict[str, Scores] = {arm_name(count): partial(of_several, count=count) for count in counts}
    ways[BARE] = lambda rows: recommender.score_states(recommender.states(rows, "none"))
    ways[GREEDY] = lambda rows: recommender.score_states(recommender.reason(rows).states)
    return ways


def _seconds(ways: Mapping[str, Scores], rows: list[Example], made_by: str, folder: Path) -> dict[str, float]:
    """CPU seconds of one recommendation in each way: its state, its scores, the first items."""
    asking = {}
    for name, ask in ways.items():

        def answer(timed: list[Example], ask: Scores = ask) -> dict[str, Tensor]:
            scores = ask(timed)
            return {"shown": scores.topk(min(SHOWN, scores.shape[1]), dim=1).indices}

        done = in_chunks(rows, answer, f"{made_by} {name}", folder, len(rows), f"timed, {name}")
        asking[name] = float(done["seconds"].mean())
    return asking


def _tuned(run: Run, dataset: DatasetDict, names: Sequence[str]) -> dict[str, Scores]:
    """Scores of baselines fitted with what their recorded search on the run's data set found best."""
    fitted = fit_recorded(run.report.parent.name, Splits.of(dataset), names, run.seed)
    return {name: model.scores for name, model in fitted.items()}
