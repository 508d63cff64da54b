"""The tables of the recorded runs as the book's pages show them; what nobody has run says so."""

from pathlib import Path
from typing import Any

from rrec_lib.baselines import BASELINES
from rrec_lib.baselines.registry import WRITE
from rrec_lib.baselines.tuning import best_of, recorded_rows, recorded_trials
from rrec_lib.core import plotting
from rrec_lib.core.reading import read_json
from rrec_lib.evaluation.compare import arm_interval, cap_rows, compare, detectable_difference, user_spread
from rrec_lib.evaluation.intervals import Interval
from rrec_lib.evaluation.reports import Report
from rrec_lib.experiments.reference import ARMS, METRIC, WITH, WITHOUT, reference_arms, tuned_baselines

BENCHMARKS = ("rollouts", "recpo_step", "item_encoding", "memory", "prepare", "trie", "asking", "states")
ROWS_A_USER = 20
DATA_SETS = {
    "movielens-cpu": "MovieLens",
    "Office_Products_2018-cpu": "Amazon, Office Products, 2018",
    "Industrial_and_Scientific_2018-cpu": "Amazon, Industrial and Scientific, 2018",
}


def benchmarks_table(source: Path) -> str:
    """Markdown table of the recorded benchmarks; what nobody has recorded says so."""
    rows = ["| benchmark | ratio | lowest to highest | rounds | recorded run |", "|---|---|---|---|---|"]
    for name in BENCHMARKS:
        path = source / "results" / "benchmarks" / f"{name}.json"
        if not path.exists():
            rows.append(f"| `{name}` | not measured yet | | | |")
            continue
        run = read_json(path)
        low, high = run["spread"]
        where = f"`results/benchmarks/{name}.json`, commit {run['commit']}, {run['device']}, {run['time'][:10]}"
        rows.append(f"| `{name}` | {run['ratio']:.2f} | {low:.2f} to {high:.2f} | {run['rounds']} | {where} |")
    return "\n".join(rows) + "\n"


def baselines_table(source: Path, data_set: str) -> str:
    """Markdown table of the tuned baselines on a data set; a baseline whose search nobody has recorded says so."""
    reports = {report.name: report for report in tuned_baselines(data_set, source)}
    searches = source / "results" / "baselines" / data_set
    rows = [
        "| baseline | valid | NDCG@20 | 95 % over users | points tried | valid chose |",
        "|---|---|---|---|---|---|",
    ]
    for name, baseline in BASELINES.items():
        if name not in reports:
            rows.append(f"| {name} | not run yet | | | | |")
            continue
        interval, trials = arm_interval([reports[name]], METRIC), recorded_trials(searches, name)
        best = best_of(trials)
        chosen = ", ".join(f"{key} {best['parameters'][key]}" for key in baseline.space) or "nothing to choose"
        chosen += " (the only point)" if baseline.space and len(trials) == 1 else ""
        rows.append(f"| {name} | {best['valid']:.3f} | {_mean(interval)} | {len(trials)} | {chosen} |")
    if reports:
        run = next(iter(reports.values()))
        made = run.run.get("made", {}).values()
        commits = ", ".join(dict.fromkeys(made_by["commit"] for made_by in made if made_by)) or run.run["commit"]
        where = f"`results/baselines/{data_set}/`, commits {commits}, {run.run['device']}"
        rows += ["", f"{len(run.users)} rows of {len(set(run.users.tolist()))} users, one seed. Recorded run: {where}."]
        rows += _valid_rows({name: recorded_rows(searches, name) for name in reports})
        rows += _ways_of_ranking(run.run.get("made", {}))
    return "\n".join(rows) + "\n"


def _valid_rows(judged: dict[str, int | None]) -> list[str]:
    """Which figures on valid are of fewer rows than the others', as a line of Markdown; none if all are of the same."""
    whole = max((rows for rows in judged.values() if rows is not None), default=None)
    few = {name: rows for name, rows in judged.items() if rows is not None and rows != whole}
    if not few:
        return []
    counts = " and ".join(map(str, sorted(set(few.values()))))
    return ["", f"On valid, {', '.join(few)} are judged by {counts} of its {whole} rows, the others by all."]


def _ways_of_ranking(made: dict[str, dict[str, Any]]) -> list[str]:
    """How those that write titles were ranked and for how long they were trained, as a line of Markdown."""
    ways: dict[str, list[str]] = {}
    for name, one in made.items():
        if one.get("hours") is not None:
            ranked = f"by {one['beams']} beams" if one["beams"] else "exactly"
            ranking = f" and ranked {ranked}" if name in WRITE else ""
            ways.setdefault(f"trained for {one['hours']:g} CPU hours{ranking}", []).append(name)
    told = [f"{', '.join(names)}: {way}" for way, names in ways.items()]
    return ["", f"{'; '.join(told)}."] if told else []


def reference_tables(source: Path, figures: Path) -> str:
    """Markdown: R²ec's arms on each data set beside the best tuned baseline, and the differences; or *not run yet*.

    Args:
        source: the repository.
        figures: folder that the figures are drawn to.
    """
    return "\n".join(f"## {title}\n\n{_reference_table(source, name, figures)}" for name, title in DATA_SETS.items())


def _reference_table(source: Path, name: str, figures: Path) -> str:
    """One data set's table. The baseline with the highest mean on test is the rival, which is in its favour."""
    arms, baselines = reference_arms(name, source), tuned_baselines(name, source)
    best = baselines[:1]
    rows = ["| recommender | runs | NDCG@20 | 95 % | against the baseline |", "|---|---|---|---|---|"]
    for arm, label in ARMS.items():
        if arm not in arms:
            rows.append(f"| {label} | not run yet | | | |")
            continue
        against = compare(arms[arm], best, METRIC).sentence if best else ""
        rows.append(f"| {label} | {len(arms[arm])} | {_mean(arm_interval(arms[arm], METRIC))} | {against} |")
    rows += [f"| {r.name}, the best tuned baseline | 1 | {_mean(arm_interval([r], METRIC))} | |" for r in best]
    if not best:
        rows.append("| the best tuned baseline | not run yet | | | |")
    spans = baseline_intervals(baselines) if arms else {}
    if spans:
        path = figures / f"reference-{name}.png"
        rows += ["", f"![{reference_figure(arms, spans, path, both=True)}]({figures.name}/{path.name})"]
    if len(baselines) > 1:
        rows += ["", _detectable(baselines[0], baselines[1:5])]
    if arms:
        runs = [_origin(report, name) for arm in arms.values() for report in arm]
        rows += ["", *_all_and_capped({**arms, **{r.name: [r] for r in best}}), ""]
        rows += [*_against_each(source, name, arms, baselines, spans), "", *runs]
    return "\n".join(rows) + "\n"


def _against_each(
    source: Path,
    place: str,
    arms: dict[str, list[Report]],
    baselines: list[Report],
    spans: dict[str, Interval],
) -> list[str]:
    """R²ec with reasoning, or without, against each baseline; valid, by which each was tuned, stands beside it."""
    arm = WITH if WITH in arms else WITHOUT
    if arm not in arms or not baselines:
        return []
    searches = source / "results" / "baselines" / place
    rows = [f"| baseline | valid | NDCG@20 | 95 % | R²ec {arm} against it |", "|---|---|---|---|---|"]
    for report in baselines:
        valid = max((trial["valid"] for trial in recorded_trials(searches, report.name)), default=None)
        found = compare(arms[arm], [report], METRIC).sentence
        shown = "" if valid is None else f"{valid:.3f}"
        rows.append(f"| {report.name} | {shown} | {_mean(spans[report.name])} | {found} |")
    return rows


def _all_and_capped(arms: dict[str, list[Report]]) -> list[str]:
    """The difference that reasoning makes, and the same figures without the weight of the busiest users."""
    lines = []
    capped = {name: [cap_rows(report, ROWS_A_USER) for report in arm] for name, arm in arms.items()}
    means = ", ".join(f"{name} {arm_interval(arm, METRIC).mean:.3f}" for name, arm in capped.items())
    rows = len(next(iter(capped.values()))[0].users)
    for of, where in ((arms, ""), (capped, f"With at most {ROWS_A_USER} rows of a user, {rows} in all: {means}. ")):
        if WITH in of and WITHOUT in of:
            where += f"With against without reasoning: {compare(of[WITH], of[WITHOUT], METRIC).sentence}."
        lines += [where.strip(), ""]
    return lines[:-1]


def baseline_intervals(baselines: list[Report]) -> dict[str, Interval]:
    """Each tuned baseline's mean on test with its interval, by name."""
    return {report.name: arm_interval([report], METRIC) for report in baselines}


def reference_figure(
    arms: dict[str, list[Report]], baselines: dict[str, Interval], path: Path, both: bool = False
) -> str:
    """Draw all arms and baselines, best on top; the alt text says the means."""
    spans = {**{ARMS[name]: arm_interval(arm, METRIC) for name, arm in arms.items()}, **baselines}
    order = sorted(spans, key=lambda label: spans[label].mean)
    plotting.use_style()
    figure, axes = plotting.plt.subplots(figsize=(7, 0.28 * len(order) + 0.8))
    for place, label in enumerate(order):
        i, ours = spans[label], label in ARMS.values()
        style: dict[str, Any] = {"color": plotting.OKABE_ITO[0] if ours else "0.45", "marker": "D" if ours else "o"}
        axes.errorbar([i.mean], [place], xerr=[[i.mean - i.low], [i.high - i.mean]], capsize=3, **style)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("NDCG@20 on test, mean and 95 % interval over users and runs")
    plotting.save(figure, path, both)
    return "NDCG@20, best first: " + ", ".join(f"{label} {spans[label].mean:.3f}" for label in reversed(order)) + "."


def _detectable(best: Report, others: list[Report]) -> str:
    """What the test set can show, from how much users differ between the best baseline and the next ones."""
    users = len(set(best.users.tolist()))
    spreads = [user_spread(best.metric(METRIC) - other.metric(METRIC), best.users) for other in others]
    low, high = (detectable_difference(users, spread) for spread in (min(spreads), max(spreads)))
    return (
        f"*Detectable*: {len(best.users)} rows of {users} users. Between the best baseline and each of the next "
        f"{len(others)} the standard deviation per user is {min(spreads):.3f} to {max(spreads):.3f}; a true difference "
        f"of {low:.3f} to {high:.3f} is then shown by 80 of 100 such test sets."
    )


def _origin(report: Report, name: str) -> str:
    """Where a report of the reference run comes from."""
    users = f"{len(report.users)} rows of {len(set(report.users.tolist()))} users"
    where = f"`results/reference/{name}/`, commit {report.run['commit']}, {report.run['device']}"
    return f"- {report.name}, seed {report.run['seed']}: {users}. Recorded run: {where}."


def _mean(interval: Interval) -> str:
    return f"{interval.mean:.3f} | {interval.low:.3f} to {interval.high:.3f}"
