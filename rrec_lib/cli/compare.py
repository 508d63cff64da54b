"""``rrec compare``: reports on the same rows, with intervals over users and seeds."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rrec_lib.cli.checks import figure_to_write, seed
from rrec_lib.core.profiles import Profile

if TYPE_CHECKING:  # torch takes seconds to import; mistakes in the arguments show before
    from rrec_lib.evaluation.compare import Comparison
    from rrec_lib.evaluation.intervals import Interval

SUMMARY = "compare reports on the same rows, with intervals over users and seeds"
EXAMPLES = (
    "rrec compare report.json", "rrec compare seed0.json seed1.json --metric hit@10 --figure compare.png",
)  # fmt: skip
PROFILED = False


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE", help="reports that rrec evaluate --out wrote")
    parser.add_argument("--metric", default="ndcg@20", help="such as hit@10, ndcg@20 or mrr (default: ndcg@20)")
    parser.add_argument("--first", metavar="NAME", help="compare the others with this one (default: the first found)")
    parser.add_argument(
        "--figure", type=figure_to_write, help="also draw the intervals to this file, such as compare.png"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="bootstrap resamples (default: 10000)")
    parser.add_argument("--seed", type=seed, default=0, help="of the resampling (default: 0)")


def run(arguments: argparse.Namespace, profile: Profile) -> None:
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


def _effect(comparison: "Comparison") -> str:
    parts = []
    if comparison.d_z is not None:
        parts.append(f"d_z {comparison.d_z:.2f}")
    if comparison.relative is not None:
        parts.append(f"{comparison.relative:+.0%}")
    return f" ({', '.join(parts)})" if parts else ""
