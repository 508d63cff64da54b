"""The verdict's two figures: what reasoning gains from lab to data, and what more reasonings cost and bring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rrec_lib.core import plotting
from rrec_lib.evaluation.compare import arm_interval, compare
from rrec_lib.evaluation.equivalence import Decision
from rrec_lib.evaluation.evaluate import sample_examples
from rrec_lib.evaluation.reports import Report, load_reports
from rrec_lib.experiments.ablations import NOT_RUN
from rrec_lib.experiments.compute_curve import BARE, GREEDY
from rrec_lib.experiments.reference import METRIC, WITHOUT
from rrec_lib.experiments.verdict import MARGIN, NOTHING

READ_ONCE = {GREEDY: "1 reasoning, greedy", BARE: "the same weights, bare prompt"}
BAND: dict[str, Any] = {"color": "0.85", "zorder": 0}


@dataclass(frozen=True)
class Gain:
    """What reasoning gains, in per cent of the arm without.

    Attributes:
        outcome: as :attr:`rrec_lib.evaluation.equivalence.Decision.said` says it.
        mean, low, high: of the gain; the interval is that of the two one-sided tests.
    """

    outcome: str
    mean: float
    low: float
    high: float


def gain_of(decision: Decision) -> Gain:
    """A decision against the arm without reasoning by :data:`~rrec_lib.experiments.verdict.MARGIN`, in per cent.

    Raises:
        ValueError: if that arm's mean is 0, of which no gain is a share.
    """
    if not decision.margin:
        raise ValueError("the arm without reasoning has a mean of 0, of which no gain is a share")
    share, i = 100 * MARGIN / decision.margin, decision.interval
    return Gain(decision.said, share * i.mean, share * i.low, share * i.high)


def gain_figure(dial: Mapping[float, Gain], sets: Mapping[str, Gain | None], path: Path) -> str:
    """Draw the gain of reasoning: in the lab over the dial, and on the data sets with the margin as a band.

    Args:
        dial: in points of Hit@1, by the share of habit users, whom co-occurrence can learn.
        sets: by data set; None reads *not run*.
        path: the figure's file.

    Returns:
        Its alt text.
    """
    plotting.use_style()
    figure, (left, right) = plotting.plt.subplots(1, 2, figsize=(7, 3.2), width_ratios=(1, 1.2))
    _draw_dial(left, dial)
    run = {name: gain for name, gain in sets.items() if gain is not None}
    right.axvspan(-100 * MARGIN, 100 * MARGIN, **BAND)
    right.axvline(0, color="0.4", linewidth=1, linestyle="-")
    names = list(sets)
    for name, gain in run.items():
        place, number = len(names) - 1 - names.index(name), names.index(name)
        style = {"color": plotting.OKABE_ITO[number % 7], "marker": plotting.MARKERS[number % 7], "capsize": 3}
        right.errorbar([gain.mean], [place], xerr=[[gain.mean - gain.low], [gain.high - gain.mean]], **style)
        right.annotate(gain.outcome, (gain.mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    right.set_yticks(range(len(names)), [n if n in run else f"{n}\n({NOT_RUN})" for n in reversed(names)])
    right.set_ylim(-0.6, len(names) - 0.3)
    right.set_xlabel("gain of reasoning, % of NDCG@20\nband: margin; bars: 90 % intervals")
    plotting.save(figure, path, both=True)
    parts = [f"lab, {p:g} habit users: {_said(dial[p])}" for p in sorted(dial)] or [f"lab: {NOT_RUN}"]
    parts += [f"{' '.join(name.split())}: {NOT_RUN if gain is None else _said(gain)}" for name, gain in sets.items()]
    units = f"in points of Hit@1 in the lab, on data in per cent of NDCG@20 with a margin of ±{100 * MARGIN:g}"
    return f"Gain of reasoning, {units}: {'; '.join(parts)}."


def _draw_dial(axes: Axes, dial: Mapping[float, Gain]) -> None:
    axes.axhline(0, color="0.4", linewidth=1, linestyle="-")
    axes.set_xlabel("p, share of habit users")
    axes.set_ylabel("gain of reasoning, points of Hit@1")
    axes.set_title("lab", fontsize=10)
    if not dial:
        axes.text(0.5, 0.5, NOT_RUN, transform=axes.transAxes, ha="center")
        return
    p = sorted(dial)
    means, lows, highs = (np.array([getattr(dial[one], of) for one in p]) for of in ("mean", "low", "high"))
    axes.errorbar(p, means, yerr=[means - lows, highs - means], marker="o", capsize=3)


def _said(gain: Gain) -> str:
    return f"{gain.outcome}, {gain.mean:+.0f} [{gain.low:+.0f}, {gain.high:+.0f}]".replace("-", "−")


def rows_of_curve(report: Report, like: Report) -> Report:
    """The rows of a report on the whole test set that a curve's reports are of.

    Args:
        report: on all test rows.
        like: of the curve, whose settings say how many rows of a user it took.

    Raises:
        ValueError: if the two don't fit: other rows or another catalogue.
    """
    limit = like.run["settings"].get("test_rows")
    numbered = [{"user_id": user, "row": row} for row, user in enumerate(report.users.tolist())]
    kept = numbered if limit is None else sample_examples(numbered, len(numbered), limit, seed=0)
    rows = [row["row"] for row in kept]
    ranks = {name: getattr(report, name)[rows] for name in ("n_greater", "n_equal", "users")}
    alike = np.array_equal(ranks["users"], like.users) and report.n_items == like.n_items
    if not alike or (limit is None and report.examples != like.examples):
        raise ValueError(f"{report.name} and the curve were evaluated on other rows; evaluate both on the same data")
    return replace(report, **ranks, examples=like.examples, lists={}, slices={}, findings=())


def read_curve(path: Path) -> dict[str, Report]:
    """A curve's reports by name; empty if it was not run."""
    return {report.name: report for report in load_reports(path)} if path.is_file() else {}


def compute_table(curve: Mapping[str, Report], without: Sequence[Report], baselines: Sequence[Report]) -> str:
    """Markdown table: CPU seconds of a recommendation, NDCG@20, and the difference to the arm without reasoning.

    Args:
        curve: of :func:`read_curve`.
        without: reports of the arm without reasoning, on all test rows. It is asked as the curve's bare prompt is, so
            its seconds are those.
        baselines: their reports on all test rows.
    """
    if not curve:
        return f"{NOTHING}\n"
    first = next(iter(curve.values()))
    other = [rows_of_curve(report, first) for report in without]
    labels = {**{name: name for name in curve}, **READ_ONCE}
    rows = [
        f"| states | CPU s, {_at_once(first)} | NDCG@20, 95 % | minus without, 95 % |",
        "|---|---|---|---|",
    ]
    asking = first.run["asking"]

    def row(label: str, seconds: float | None, arm: list[Report], against: bool = True) -> str:
        i, spent = arm_interval(arm, METRIC), "" if seconds is None else positional(seconds)
        difference = f"{compare(arm, other, METRIC).interval:.3f}" if other and against else ""
        return f"| {label} | {spent} | {i.mean:.3f}, {i:.3f to} | {difference} |"

    rows += [row(labels[name], asking[name], [report]) for name, report in curve.items()]
    own = "the arm without reasoning"
    rows.append(row(own, asking[BARE], other, against=False) if other else f"| {own} | {NOT_RUN} | | |")
    rows += [row(report.name, asking.get(report.name), [rows_of_curve(report, first)]) for report in baselines]
    users = f"{len(first.users)} rows of {len(np.unique(first.users))} users"
    sampled = f"{first.run['tokens']:.0f} tokens a reasoning, {first.run['unfinished']:.1%} without an end"
    where = f"commit {first.run['commit']}, {first.run['device']}"
    return "\n".join([*rows, "", f"{users}; {sampled}. Recorded run: {where}."]) + "\n"


def _at_once(report: Report) -> str:
    """How many recommendations shared what can be shared when the seconds were measured."""
    return f"{report.run['settings']['timed_rows']} at once"


def positional(seconds: float) -> str:
    """Two digits of a time, without an exponent."""
    return np.format_float_positional(seconds, precision=2, fractional=False, trim="-")


def compute_figure(
    curve: Mapping[str, Report], without: Sequence[Report], baselines: Sequence[Report], path: Path
) -> str:
    """Draw NDCG@20 against CPU seconds of a recommendation; arguments as :func:`compute_table`, and the figure's file.

    Baselines, which take next to nothing, are lines across.

    Returns:
        Its alt text; empty, and no figure, where the curve was not run.
    """
    if not curve:
        return ""
    first = next(iter(curve.values()))
    asking, said = first.run["asking"], []
    plotting.use_style()
    figure, axes = plotting.plt.subplots()
    sampled = [name for name in curve if name not in (BARE, GREEDY)]
    groups = [("sampled reasonings, averaged", sampled, [[curve[name]] for name in sampled])]
    groups += [(label, [name], [[curve[name]]]) for name, label in READ_ONCE.items() if name in curve]
    if without:
        groups.append((WITHOUT, [BARE], [[rows_of_curve(report, first) for report in without]]))
    for number, (label, names, arms) in enumerate(groups):
        spans = [arm_interval(arm, METRIC) for arm in arms]
        means = np.array([span.mean for span in spans])
        errors = [means - [span.low for span in spans], [span.high for span in spans] - means]
        axes.errorbar([asking[name] for name in names], means, yerr=errors, capsize=3, label=label,
                      marker=plotting.MARKERS[number], color=plotting.OKABE_ITO[number])  # fmt: skip
        for name, span in zip(names, spans, strict=True):
            said.append(f"{label if len(names) == 1 else name} {span.mean:.3f} for {positional(asking[name])} s")
    for name in sampled:
        at = (asking[name], curve[name].metric(METRIC).mean())
        axes.annotate(name.split()[0], at, (5, -11), textcoords="offset points", fontsize=9)
    for number, report in enumerate(baselines):
        span = arm_interval([rows_of_curve(report, first)], METRIC)
        spent = f" for {positional(asking[report.name])} s" if report.name in asking else ""
        axes.axhline(span.mean, linestyle=("--", ":", "-.")[number % 3], color="0.45", label=f"{report.name}{spent}")
        said.append(f"{report.name} {span.mean:.3f}{spent}")
    axes.set_xscale("log")
    seconds = sorted(asking[name] for name in {BARE, *sampled} & asking.keys())
    axes.set_xticks(seconds, map(positional, seconds))
    axes.xaxis.set_minor_locator(plotting.plt.NullLocator())
    axes.set_xlabel(f"CPU seconds per recommendation, {_at_once(first)}")
    axes.set_ylabel("NDCG@20, 95 % over users")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    plotting.save(figure, path, both=True)
    return f"NDCG@20 on {len(first.users)} rows against CPU seconds: {', '.join(said)}."
