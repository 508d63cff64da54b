"""Put the pages and the executed notebooks together in _build/src, from which the book is rendered."""

import json
import shutil
from pathlib import Path
from typing import Any

from execute import ROOT, BuildError, measured_times, notebook_names, profile_names
from paper_tables import published_tables

from rrec_lib.baselines import BASELINES
from rrec_lib.baselines.tuning import search_file
from rrec_lib.core import plotting
from rrec_lib.core.profiles import knobs_table
from rrec_lib.data.faults import rules_table
from rrec_lib.evaluation.compare import arm_interval, cap_rows, compare, detectable_difference, user_spread
from rrec_lib.evaluation.ranking import Interval
from rrec_lib.evaluation.reports import Report
from rrec_lib.experiments.reference import ARMS, METRIC, WITH, WITHOUT, reference_arms, tuned_baselines

IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
BENCHMARKS = ("rollouts", "recpo_step", "item_encoding", "memory", "prepare")
ROWS_A_USER = 20
DATA_SETS = {
    "movielens-cpu": "MovieLens, SmolLM2-135M",
    "Office_Products_2018-cpu": "Amazon, Office Products, 2018, SmolLM2-135M",
    "Industrial_and_Scientific_2018-cpu": "Amazon, Industrial and Scientific, 2018, SmolLM2-135M",
}
PROFILE_ORDER = ("smoke", "cpu", "t4", "paper")


def stage(source: Path, target: Path, profile: str = "cpu") -> None:
    """Fill ``target`` afresh.

    Args:
        source: the repository.
        target: folder to fill; what it held is deleted.
        profile: whose executed notebooks to take.

    Raises:
        BuildError: if a notebook has not been executed, or its output can't be shown as it is.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "book", target / "book", ignore=shutil.ignore_patterns("_generated"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(source / name, target / name)
    (target / "notebooks").mkdir()
    for name in notebook_names(source):
        executed = source / "_build" / "executed" / profile / f"{name}.ipynb"
        if not executed.exists():
            raise BuildError(f"{name} has not been run on {profile}: run `make notebooks PROFILE={profile}`")
        staged = stage_notebook(json.loads(executed.read_text(encoding="utf-8")), name)
        text = json.dumps(staged, indent=1, ensure_ascii=False) + "\n"
        (target / "notebooks" / f"{name}.ipynb").write_text(text, encoding="utf-8")
    generated = target / "book" / "_generated"
    generated.mkdir()
    (generated / "times.md").write_text(times_table(source), encoding="utf-8")
    (generated / "benchmarks.md").write_text(benchmarks_table(source), encoding="utf-8")
    (generated / "faults.md").write_text(rules_table(), encoding="utf-8")
    (generated / "knobs.md").write_text(knobs_table(), encoding="utf-8")
    (generated / "published.md").write_text(published_tables(), encoding="utf-8")
    for name in DATA_SETS:
        (generated / f"baselines-{name}.md").write_text(baselines_table(source, name), encoding="utf-8")
    (generated / "reference.md").write_text(reference_tables(source, generated), encoding="utf-8")


def stage_notebook(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """Make an executed notebook ready for MyST-NB: alt texts where it looks for them, tags, no run-time metadata."""
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "papermill"}
    cells = [stage_cell(cell, f"{name}, cell {number}") for number, cell in enumerate(notebook["cells"], 1)]
    return {**notebook, "metadata": metadata, "cells": cells}


def stage_cell(cell: dict[str, Any], where: str) -> dict[str, Any]:
    """Stage one cell; see :func:`stage_notebook`."""
    dropped = ("papermill", "execution", "collapsed", "jupyter")
    metadata = {key: value for key, value in cell["metadata"].items() if key not in dropped}
    tags = list(metadata.get("tags", []))
    if "injected-parameters" in tags:
        tags.append("remove-cell")
    if "setup" in tags:
        tags.append("hide-input")
        metadata["mystnb"] = {"code_prompt_show": "Set-up: show", "code_prompt_hide": "Set-up: hide"}
    alts = [alt_text(output, where) for output in cell.get("outputs", []) if is_image(output)]
    if len(alts) > 1:
        raise BuildError(f"{where} shows {len(alts)} figures; show one figure a cell, so that each has its alt text")
    if alts:
        metadata["mystnb"] = {"image": {"alt": alts[0]}}
    for output in cell.get("outputs", []):
        if output.get("name") == "stderr":
            text = "".join(output["text"]).strip().splitlines()
            raise BuildError(
                f"{where} wrote to stderr, which no page shows: {text[-1] if text else ''!r}; mend its cause"
            )
    return {**cell, "metadata": {**metadata, "tags": tags} if tags else metadata}


def is_image(output: dict[str, Any]) -> bool:
    """Whether an output is a figure."""
    return any(kind in output.get("data", {}) for kind in IMAGES)


def alt_text(output: dict[str, Any], where: str) -> str:
    """The alt text that an image output carries in its metadata."""
    metadata = output.get("metadata", {})
    nested = [metadata[kind]["alt"] for kind in IMAGES if "alt" in metadata.get(kind, {})]
    alt = nested[0] if nested else metadata.get("alt", "")
    if not alt.strip():
        raise BuildError(f"{where} shows a figure without alt text: show it with plotting.show(fig, alt=...)")
    return alt


def times_table(source: Path) -> str:
    """Markdown table of what each notebook took on each profile: run here, else recorded, else not measured yet."""
    path = source / "results" / "times.json"
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    profiles = [name for name in PROFILE_ORDER if name in profile_names(source)]
    columns, notes = {}, []
    for profile in profiles:
        here, kept = measured_times(profile, source), recorded.get(profile, {"notebooks": {}, "device": ""})
        columns[profile] = {**kept["notebooks"], **here["notebooks"]}
        words = [f"this run, {here['device']}"] if here["notebooks"] else []
        if set(kept["notebooks"]) - set(here["notebooks"]):
            words.append(f"recorded run (`results/times.json`), {kept['device']}")
        notes += [f"- `{profile}`: {'; '.join(words)}."] if words else []
    rows = [
        f"| [{name}](../notebooks/{name}.ipynb) | " + " | ".join(_cell(columns[p].get(name)) for p in profiles) + " |"
        for name in notebook_names(source)
    ]
    head = ["| notebook | " + " | ".join(f"`{p}`" for p in profiles) + " |", "|---|" + "---|" * len(profiles)]
    legend = ["", "Seconds of wall clock and peak resident memory of the notebook's own process. Measured on:", ""]
    return "\n".join([*head, *rows, *(legend + notes if notes else [])]) + "\n"


def benchmarks_table(source: Path) -> str:
    """Markdown table of the recorded benchmarks; what nobody has recorded says so."""
    rows = ["| benchmark | ratio | lowest to highest | rounds | recorded run |", "|---|---|---|---|---|"]
    for name in BENCHMARKS:
        path = source / "results" / "benchmarks" / f"{name}.json"
        if not path.exists():
            rows.append(f"| `{name}` | not measured yet | | | |")
            continue
        run = json.loads(path.read_text(encoding="utf-8"))
        low, high = run["spread"]
        where = f"`results/benchmarks/{name}.json`, commit {run['commit']}, {run['device']}, {run['time'][:10]}"
        rows.append(f"| `{name}` | {run['ratio']:.2f} | {low:.2f} to {high:.2f} | {run['rounds']} | {where} |")
    return "\n".join(rows) + "\n"


def baselines_table(source: Path, data_set: str) -> str:
    """Markdown table of the tuned baselines on a data set; a baseline whose search nobody has recorded says so."""
    reports = {report.name: report for report in tuned_baselines(data_set, source)}
    rows = [
        "| baseline | valid | NDCG@20 | 95 % over users | points tried | valid chose |",
        "|---|---|---|---|---|---|",
    ]
    for name, baseline in BASELINES.items():
        if name not in reports:
            rows.append(f"| {name} | not run yet | | | | |")
            continue
        interval, trials = arm_interval([reports[name]], METRIC), _trials(source, data_set, name)
        best = max(trials, key=lambda trial: trial["valid"])
        chosen = ", ".join(f"{key} {best['parameters'][key]}" for key in baseline.space) or "nothing to choose"
        rows.append(f"| {name} | {best['valid']:.3f} | {_mean(interval)} | {len(trials)} | {chosen} |")
    if reports:
        run = next(iter(reports.values()))
        made = run.run.get("made", {}).values()
        commits = ", ".join(dict.fromkeys(made_by["commit"] for made_by in made if made_by)) or run.run["commit"]
        where = f"`results/baselines/{data_set}/`, commits {commits}, {run.run['device']}"
        rows += ["", f"{len(run.users)} rows of {len(set(run.users.tolist()))} users, one seed. Recorded run: {where}."]
    return "\n".join(rows) + "\n"


def _trials(source: Path, data_set: str, name: str) -> list[dict[str, Any]]:
    """A baseline's recorded search."""
    path = source / "results" / "baselines" / data_set / search_file(name)
    return json.loads(path.read_text(encoding="utf-8"))["trials"] if path.exists() else []


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
        rows += ["", f"![{reference_figure(arms, spans, path)}]({figures.name}/{path.name})"]
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
    rows = [f"| baseline | valid | NDCG@20 | 95 % | R²ec {arm} against it |", "|---|---|---|---|---|"]
    for report in baselines:
        valid = max((trial["valid"] for trial in _trials(source, place, report.name)), default=None)
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


def reference_figure(arms: dict[str, list[Report]], baselines: dict[str, Interval], path: Path) -> str:
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
    plotting.save(figure, path)
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


def _cell(times: dict[str, float] | None) -> str:
    return f"{times['seconds']:.0f} s, {times['peak_mb'] / 1000:.1f} GB" if times else "not measured yet"


if __name__ == "__main__":
    stage(ROOT, ROOT / "_build" / "src")
