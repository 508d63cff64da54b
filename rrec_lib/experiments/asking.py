"""What one recommendation costs, and what it brings: the recorded benchmark beside the recorded runs."""

from pathlib import Path
from typing import Any, NamedTuple

from rrec_lib.baselines.tuning import best_of, recorded_trials, spent
from rrec_lib.core import plotting
from rrec_lib.core.reading import read_json
from rrec_lib.evaluation.compare import arm_interval
from rrec_lib.evaluation.reports import Report
from rrec_lib.experiments.reference import METRIC, WITH, WITHOUT, reference_arms, tuned_baselines

# The ways of benchmarks/asking.py by the names that its file has.
OURS, WITHOUT_WORDS = "R²ec, one greedy reasoning", "R²ec, bare prompt"
SEARCHED, EXACTLY = "titles, 50 beams, no forced tokens (D3)", "titles, exactly, no forced tokens"
BIGREC = "titles, written freely by 4 beams, then grounded (BigRec)"
PUBLIC = "titles, 50 beams, Transformers' generate"
REPORTED = {OURS: WITH, WITHOUT_WORDS: WITHOUT, EXACTLY: "S-DPO", BIGREC: "BigRec"}  # others have their own names


class Way(NamedTuple):
    """A way to recommend that was measured, and its recorded runs on the same data, if any.

    Attributes:
        name: of the way.
        alone, together: CPU seconds of a recommendation, asked one at a time and several at once.
        tokens: that went through the language model, asked alone.
        runs: one report of each seed; empty where the way was not trained, or is no model's own.
        trained: how long, in words.
    """

    name: str
    alone: float
    together: float | None
    tokens: float
    runs: list[Report]
    trained: str


def recorded_ways(source: Path, place: str = "movielens-cpu") -> tuple[dict[str, Any], list[Way]]:
    """The recorded benchmark, and its ways; both empty if nobody has recorded it.

    Args:
        source: the repository.
        place: data set and profile of the runs.
    """
    path = source / "results" / "benchmarks" / "asking.json"
    if not path.exists():
        return {}, []
    measured = read_json(path)
    arms = {report.name: [report] for report in tuned_baselines(place, source)} | reference_arms(place, source)
    ways = []
    for name, found in measured["figures"]["recommendations"].items():
        runs, batch = arms.get(REPORTED.get(name, name), []), found.get("together")
        alone = found["alone"]["cpu_seconds"]["median"]
        together = batch["cpu_seconds"]["median"] if batch else None
        ways.append(Way(name, alone, together, found["alone"]["tokens"], runs, _trained(source, place, runs)))
    return measured, ways


def asking_table(source: Path, figures: Path | None = None) -> str:
    """Markdown table of what a recommendation costs and brings, and the figure of it.

    Args:
        source: the repository.
        figures: folder that the figure is drawn to; None draws none.
    """
    run, ways = recorded_ways(source)
    if not ways:
        return "Not measured yet.\n"
    together = run["figures"]["together"]
    rows = [
        f"| one recommendation by | CPU s, alone | tokens | CPU s, {together} at once | trained for | NDCG@20 |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        batch = "" if way.together is None else f"{way.together:.2g}"
        missing = "not run yet" if way.name in REPORTED else ""
        ndcg = f"{arm_interval(way.runs, METRIC).mean:.3f}" if way.runs else missing
        rows.append(f"| {way.name} | {way.alone:.2g} | {way.tokens:.0f} | {batch} | {way.trained} | {ndcg} |")
    if figures and any(way.runs for way in ways):
        path = figures / "asking.png"
        rows += ["", f"![{asking_figure(ways, path)}]({figures.name}/{path.name})"]
    asked = {name: len(found["alone"]["of_each"]) for name, found in run["figures"]["recommendations"].items()}
    rounds = max(asked.values())
    fewer = [f"{name}: of {count}" for name, count in asked.items() if count < rounds]
    but = f" ({'; '.join(fewer)})" if fewer else ""
    size = run["figures"]["catalogue"]
    what = f"Medians of {rounds} users asked alone{but}; {size} items; NDCG@20 on all rows of test."
    fits = "Trained for: CPU time of one fit, in hours as a budget, in seconds with its look at valid."
    fits += " What was tuned again since was asked as it was before."
    where = f"commit {run['commit']}, {run['device']}, {run['time'][:10]}"
    rows += ["", f"{what} {fits} Recorded run: {where}."]
    return "\n".join(rows) + "\n"


def asking_figure(ways: list[Way], path: Path) -> str:
    """Draw NDCG@20 of the ways that were trained, over the CPU seconds of one recommendation.

    Returns:
        The alt text.
    """
    plotting.use_style()
    figure, axes = plotting.plt.subplots(figsize=(7, 3.6))
    said = []
    for number, way in enumerate(sorted((way for way in ways if way.runs), key=lambda way: way.alone)):
        span = arm_interval(way.runs, METRIC)
        label = way.name if way.name in (OURS, WITHOUT_WORDS) else way.runs[0].name
        axes.errorbar(
            [way.alone], [span.mean], yerr=[[span.mean - span.low], [span.high - span.mean]], capsize=3, label=label,
            color=plotting.OKABE_ITO[number % 7], marker=plotting.MARKERS[number % 7], linestyle="none",
        )  # fmt: skip
        said.append(f"{label} {span.mean:.3f} for {way.alone:.2g} s")
    axes.set_xscale("log")
    axes.set_xlabel("CPU seconds of one recommendation, asked alone")
    axes.set_ylabel("NDCG@20, 95 % over users")
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    plotting.save(figure, path, both=True)
    return f"NDCG@20 on MovieLens against CPU seconds of one recommendation: {', '.join(said)}."


def _trained(source: Path, place: str, runs: list[Report]) -> str:
    """How long a fit took, of what the runs' files say of it."""
    if not runs:
        return ""
    name, run = runs[0].name, runs[0].run
    hours = run.get("settings", {}).get("hours") or run.get("made", {}).get(name, {}).get("hours")
    if hours:
        return f"{hours:g} h"
    trials = recorded_trials(source / "results" / "baselines" / place, name)
    if not trials:
        return ""
    seconds = spent([best_of(trials)])
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"
