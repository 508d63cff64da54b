"""Compute at the time of asking: the states of K sampled reasonings averaged, and what they take of a processor.

Of each row as many reasonings are sampled as the largest K asks for; smaller K take the first of them, so that all K
are compared on the same samples. What a K costs is measured on some of the rows, where just K are sampled.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from datasets import DatasetDict
from torch import Tensor

from rrec_lib.baselines.registry import Splits
from rrec_lib.baselines.tuning import known, search_file
from rrec_lib.core.paths import resource
from rrec_lib.core.results import describe_run
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.checks import check_blind
from rrec_lib.evaluation.evaluate import Recommender, evaluate_scores, sample_examples, training_counts
from rrec_lib.evaluation.reports import data_hash, save_reports
from rrec_lib.experiments.chunks import CHUNK, in_chunks
from rrec_lib.experiments.readings import load_read, reading
from rrec_lib.experiments.runner import Options, Run, chunk_key, chunked_states, reasoning_figures, test_rows_of
from rrec_lib.recommend.recommender import ReasoningRecommender, averaged

SAMPLES = (1, 2, 4, 8, 16)
TIMED_ROWS = 64
BASELINES_TIMED = ("EASE", "eSASRec")
SHOWN = 20  # items of a recommendation
Scores = Callable[[list[Example]], Tensor]
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
    baselines: Sequence[str] = BASELINES_TIMED,
) -> Run:
    """Write one file with a report for each K, for the bare prompt and for the greedy reasoning, or go on with it.

    Its ``asking`` has the CPU seconds of one recommendation by each report's name, ``tokens`` the mean length of a
    sampled reasoning.

    Args:
        options: of :func:`rrec_lib.experiments.readings.reading_options`.
        adapter: folder of the adapter.
        seed: of sampling.
        test_rows: of a user at most; None takes all.
        samples: the numbers K.
        timed_rows: on how many rows the seconds are measured, each K anew.
        baselines: whose seconds are measured beside them, fitted as their recorded search on this data set chose; one
            without such a search is left out.

    Raises:
        ValueError: if the file is of a run with other settings.
    """
    counts = sorted(samples)
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
    temperature = profile.rollouts.temperature

    def scores(states: Tensor) -> Tensor:
        return recommender.score_states(states.to(policy.device))

    def sampled(chunk: list[Example], count: int) -> list[Tensor]:
        return [one.states for one in recommender.sample(chunk, count, temperature, run.seed)]

    def sample(chunk: list[Example]) -> dict[str, Tensor]:
        seed = zlib.crc32(json.dumps([run.seed, chunk]).encode())  # other draws in every chunk
        written = recommender.sample(chunk, counts[-1], temperature, seed)
        found = {"states": torch.stack([one.states for one in written], 1)}
        figures = [reasoning_figures(policy, one) for one in written]
        return found | {name: torch.stack([one[name] for one in figures], 1) for name in figures[0]}

    trained = recommender.check(test, run.name, trained=True)
    of_four = sample_examples(test, 4, 1, seed=0)
    trained.append(check_blind(lambda rows: scores(averaged(torch.stack(sampled(list(rows), 2)))), of_four, run.name))
    drawn = in_chunks(test, sample, chunk_key(recommender, "sampled", counts[-1], run.seed), folder, CHUNK, "sampled")
    kept = {arm_name(count): averaged(drawn["states"][:, :count].transpose(0, 1)) for count in counts}
    spent = float(drawn["seconds"].mean())
    for name, control in ((BARE, "none"), (GREEDY, "own")):
        kept[name], writing = chunked_states(recommender, test, control, CHUNK, folder)
        spent += writing["cpu_seconds_per_row"]
    train_counts = training_counts(dataset["train"], len(items))
    reports = [
        evaluate_scores(
            lambda part, states=states: scores(states[part]),  # type: ignore[misc]
            test, name, profile.evaluation.bootstrap_samples, run.seed, train_counts, findings=trained,
        )
        for name, states in kept.items()
    ]  # fmt: skip
    timed = sample_examples(test, timed_rows, len(test), seed=0)
    ways: dict[str, Scores] = {
        arm_name(count): lambda rows, count=count: scores(averaged(torch.stack(sampled(rows, count))))  # type: ignore[misc]
        for count in counts
    }
    ways[BARE] = lambda rows: scores(recommender.states(rows, "none"))
    ways[GREEDY] = lambda rows: scores(recommender.reason(rows).states)
    ways |= {name: fitted.scores for name, fitted in _tuned(run, dataset, baselines).items()}
    asking = {}
    for name, ask in ways.items():

        def answer(rows: list[Example], ask: Scores = ask) -> dict[str, Tensor]:
            return {"shown": ask(rows).topk(min(SHOWN, len(items)), dim=1).indices}

        key = chunk_key(recommender, "timed", name, run.seed, *run.settings["baselines"])
        asking[name] = float(in_chunks(timed, answer, key, folder, len(timed), f"timed, {name}")["seconds"].mean())
    save_reports(
        run.report, reports, profile.name, data_hash(dataset), run.seed, settings=run.settings, asking=asking,
        writing={"cpu_seconds_per_row": spent + sum(asking.values()) * len(timed) / len(test)},
        tokens=float(drawn["tokens"].mean()), unfinished=1 - float(drawn["finished"].mean()),
    )  # fmt: skip


def _tuned(run: Run, dataset: DatasetDict, names: Sequence[str]) -> dict[str, Recommender]:
    """Baselines fitted with what their recorded search on the run's data set found best."""
    fitted: dict[str, Recommender] = {}
    for name in names:
        try:
            path = resource(f"results/baselines/{run.report.parent.name}/{search_file(name)}")
        except FileNotFoundError:
            continue
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        best = max(trials, key=lambda trial: trial["valid"])
        fitted[name] = known(name).fit(Splits.of(dataset), run.seed, **best["parameters"])
    return fitted
