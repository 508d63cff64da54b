"""``rrec evaluate`` and ``rrec compare``: options, and what they print."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rrec_lib.core.profiles import Profile

if TYPE_CHECKING:  # torch takes seconds to import; mistakes in the arguments show before
    from rrec_lib.evaluation.compare import Comparison
    from rrec_lib.evaluation.intervals import Interval


def evaluate_options(parser: argparse.ArgumentParser, stages: str) -> None:
    """Options of ``rrec evaluate``; ``stages`` explains ``--stage``."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--stage", default="recpo", help=stages)
    weights.add_argument("--adapter", type=Path, help="folder of an adapter, such as OUT/recpo-adapter of rrec train")
    parser.add_argument("--split", default="test", choices=["valid", "test"], help="(default: test)")
    parser.add_argument("--sample", help="how many rows, or 'all' (default: the profile's sample, capped per user)")
    parser.add_argument("--sample-seed", type=int, default=0, help="of the sample and the intervals (default: 0)")
    parser.add_argument(
        "--name", help="of the model in tables; runs with several seeds share it (default: its weights)"
    )
    parser.add_argument("--out", type=Path, help="also write the reports to this JSON file, for rrec compare")


def compare_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``rrec compare``."""
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE", help="reports that rrec evaluate --out wrote")
    parser.add_argument("--metric", default="ndcg@20", help="such as hit@10, ndcg@20 or mrr (default: ndcg@20)")
    parser.add_argument("--first", metavar="NAME", help="compare the others with this one (default: the first found)")
    parser.add_argument("--figure", type=Path, help="also draw the intervals to this file, such as compare.png")
    parser.add_argument("--samples", type=int, default=10_000, help="bootstrap resamples (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling (default: 0)")


def run_evaluate(arguments: argparse.Namespace, profile: Profile) -> None:
    """Rank the catalogue for held-out users with the model and the baselines, print the table, write the reports."""
    settings = profile.evaluation
    rows = None if arguments.sample == "all" else _rows(arguments.sample, settings.sample_size)
    if arguments.adapter is not None:
        if not arguments.adapter.is_dir():
            raise FileNotFoundError(f"no adapter folder {arguments.adapter}; `rrec train` makes one")
        profile = replace(profile, adapters={"recpo": str(arguments.adapter)})
    from rrec_lib.baselines import fitted_baselines
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.evaluation.evaluate import evaluate, sample_examples, training_counts
    from rrec_lib.evaluation.reports import data_hash, save_reports
    from rrec_lib.recommend.films import load_recommender
    from rrec_lib.training.stages import adapter_card

    dataset = prepare_profile(profile)
    seed = arguments.sample_seed  # not that of the run, so that runs with several seeds see the same rows
    recommender = load_recommender(profile, arguments.stage, arguments.seed, dataset)
    trained = adapter_card(profile, recommender.stage)["seed"] if recommender.stage != "base" else arguments.seed
    weights = recommender.stage if arguments.adapter is None else arguments.adapter.name
    examples = list(dataset[arguments.split])
    if rows is not None:
        examples = sample_examples(examples, rows, settings.max_rows_per_user, seed)
    counts = training_counts(dataset["train"], len(dataset["items"]))
    model_name = arguments.name or f"R²ec ({weights})"
    findings = recommender.model.check(examples, model_name, trained=recommender.stage != "base")
    reports = [
        evaluate(one, examples, name, settings.bootstrap_samples, seed, counts)
        for name, one in fitted_baselines(dataset).items()
    ]
    own = evaluate(recommender.model, examples, model_name, settings.bootstrap_samples, seed, counts, findings=findings)
    reports.append(own)
    if arguments.out is not None:
        save_reports(arguments.out, reports, profile.name, data_hash(dataset), trained)
    print(f"{len(examples)} rows of {arguments.split}, {len(set(reports[0].users.tolist()))} users, ", end="")
    print(f"{reports[0].repeats} repeats; mean with its 95 % interval over users")
    width = max(len(report.name) for report in reports)
    for report in reports:
        found = report.figures()["metrics"]
        cells = [f"{metric} {_with_interval(found[metric])}" for metric in ("hit@20", "ndcg@20")]
        print(f"  {report.name:{width}}  {'   '.join(cells)}")
    for report in reports:
        for line in report.warnings:
            print(f"note on {report.name}: {line}")
    if arguments.out is not None:
        print(f"wrote {arguments.out}")


def run_compare(arguments: argparse.Namespace) -> None:
    """Print how reports compare, and draw their intervals."""
    from rrec_lib.evaluation.compare import compare_arms, group_reports
    from rrec_lib.evaluation.reports import load_reports

    arms = group_reports([report for path in arguments.reports for report in load_reports(path)])
    if arguments.first is not None:
        if arguments.first not in arms:
            raise ValueError(f"no report is called {arguments.first!r}; choose one of {', '.join(arms)}")
        arms = {arguments.first: arms[arguments.first], **arms}
    table = compare_arms(arms, arguments.metric, arguments.samples, arguments.seed)
    base, (interval, _) = next(iter(table.items()))
    print(f"{arguments.metric} on {interval.rows} rows of {interval.users} users; mean with its 95 % interval, and the")
    print(f"difference to {base}; resampled over users, and over seeds where there are several")
    width = max(map(len, arms))
    for name, (i, comparison) in table.items():
        seeds = f"{len(arms[name])} seed{'s' if len(arms[name]) > 1 else ''}"
        cells = f"  {name:{width}}  {seeds:>8}  {i:.4f}"
        if comparison is not None:
            d = comparison.interval
            cells += f"  {d:+.4f}  {comparison.sentence}{_effect(comparison)}"
        print(cells)
    if arguments.figure is not None:
        draw({name: row[0] for name, row in table.items()}, arguments.metric, arguments.figure)
        print(f"drew {arguments.figure}")


def draw(found: Mapping[str, "Interval"], metric: str, path: Path) -> None:
    """Draw one interval per arm; see :func:`rrec_lib.core.plotting.save`."""
    from rrec_lib.core import plotting

    plotting.use_style()
    figure, axes = plotting.plt.subplots(figsize=(7, max(2.0, 0.45 * len(found) + 1)))
    bounds = zip(*[(i.mean, i.low, i.high) for i in found.values()], strict=True)
    plotting.intervals(axes, list(found), *bounds)
    some = next(iter(found.values()))
    axes.set_xlabel(f"{metric.upper()}, mean and 95 % interval, {some.rows} rows of {some.users} users")
    plotting.save(figure, path)


def _with_interval(found: Mapping[str, float | None]) -> str:
    bounds = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"  # of one user there is none
    return f"{found['mean']:.3f}{bounds}"


def _effect(comparison: "Comparison") -> str:
    parts = []
    if comparison.d_z is not None:
        parts.append(f"d_z {comparison.d_z:.2f}")
    if comparison.relative is not None:
        parts.append(f"{comparison.relative:+.0%}")
    return f" ({', '.join(parts)})" if parts else ""


def _rows(given: str | None, default: int) -> int:
    if given is None:
        return default
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"--sample takes a number of rows from 1 up, or 'all', got {given!r}")
    return int(given)
