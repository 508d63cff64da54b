"""The lab's dial in print: tables and a figure from ``results/lab/dial``; what nobody has run says so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rrec_lib.core import plotting
from rrec_lib.evaluation.compare import SAMPLES, arm_interval, on_shared_seeds
from rrec_lib.evaluation.equivalence import decide
from rrec_lib.evaluation.intervals import with_minus
from rrec_lib.evaluation.reports import Report, load_reports
from rrec_lib.experiments.lab_dial import CHAINS, FOLDER, SHARES, Cell
from rrec_lib.experiments.verdict import MARGIN
from rrec_lib.experiments.verdict_figures import Gain
from rrec_lib.lab import LAB_WAYS
from rrec_lib.lab.world import KINDS

METRIC = "hit@1"
NOBODY = "no such users"
PAIR = "| seeds | text, 95 % | none, 95 % | text against none, 90 % | each seed's gain"
COSTS = "| CPU s of training, text and none; lessons"
BEYOND = {"targets": ("latent", "pause", "none"), "twice": ("none",)}  # equal to text's in what, and which ways
Curves = Mapping[str, Sequence[float]]  # of a run, as LabRun has them


@dataclass(frozen=True)
class Point:
    """What was found at one share of habit users, a number for each seed."""

    text: Sequence[float]  # Hit@1
    none: Sequence[float]
    tallies: Mapping[str, Sequence[float]]  # share of the tokens after RecPO, by kind of user
    before: float  # that share before RecPO, over both kinds and all seeds


def dial_table(source: Path) -> str:
    """Markdown: reasoning's gain over the share of habit users, and what is written for each kind of user.

    Args:
        source: the repository.
    """
    rows, written = [f"| p {PAIR} {COSTS} |", "|---|---|---|---|---|---|---|"], []
    for share in SHARES:
        text, none = arms = _arms(source, Cell(share, "text", 0), Cell(share, "none", 0))
        if not text:
            rows.append(f"| {share:g} | not run | | | | | |")
            continue
        ends = [[end for _, end in _of_kind(_curves(arm), "sum", METRIC)] for arm in arms]
        hits = ", ".join(f"{np.mean(end):.2f}" for end in ends if end) or NOBODY
        rows.append(f"| {share:g} | {_pair(text, none)} | {_costs(*arms)} |")
        written.append(f"| {share:g} | {hits} | {' | '.join(_before_and_after(text, kind) for kind in KINDS)} |")
    head = ["", "| p | Hit@1 of sum users on valid, text and none | tallies for sum users, before and after RecPO "
            "| for habit users |", "|---|---|---|---|"]  # fmt: skip
    return "\n".join([*rows, *(head + written if written else []), "", _origin(source)]) + "\n"


def chain_table(source: Path) -> str:
    """Markdown: the same over the number of items summed, where nobody has habits."""
    rows = [
        f"| items summed {PAIR} | lessons, right tallies {COSTS} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chain in CHAINS:
        text, none = arms = _arms(source, Cell(0.0, "text", 0, chain), Cell(0.0, "none", 0, chain))
        if not text:
            rows.append(f"| {chain} | not run | | | | | | |")
            continue
        taught = _each([one.run["lessons"]["right"] for one in text])
        rows.append(f"| {chain} | {_pair(text, none)} | {taught} | {_costs(*arms)} |")
    return "\n".join(rows) + "\n"


def ways_table(source: Path) -> str:
    """Markdown: text, latent steps, pause tokens, distilled and none where nobody has habits."""
    rows = [
        "| way | Hit@1, 95 % | each seed | text against it, 90 % | CPU s of training; lessons | targets "
        "| each seed at text's targets | in twice its time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in LAB_WAYS:
        cell = Cell(0.0, way, 0)
        arm, text = _arms(source, cell, Cell(0.0, "text", 0))
        if not arm:
            rows.append(f"| {way} | not run | | | | | | |")
            continue
        against = "" if way == "text" else _decision(text, arm)
        # What is distilled has seen all that text was trained on before.
        seen = [arm, text] if way == "distilled" else [arm]
        targets = sum(np.mean([one.run["targets"] for one in learnt]) for learnt in seen)
        more = {
            equal: _each(_hits(_arm(source, replace(cell, equal=equal)))) or ("not run" if way in ways else "")
            for equal, ways in BEYOND.items()
        }
        rows.append(f"| {way} | {_mean(arm)} | {_each(_hits(arm))} | {against} | {_costs(arm)} | {targets:,.0f} "
                    f"| {' | '.join(more.values())} |")  # fmt: skip
    return "\n".join(rows) + "\n"


def dial_figure(source: Path, path: Path) -> str:
    """Draw the dial to a file; the alternative text says what it shows, or that nothing was run."""
    points = recorded_points(source)
    if not points:
        return "The dial: not run."
    plotting.use_style()
    plotting.save(draw_dial(points), path, both=True)
    return describe_dial(points)


def recorded_points(source: Path) -> dict[float, Point]:
    """The figure's points from the recorded run, by p, as far as it was run; ``source`` is what holds ``results``."""
    return {share: point(_hits(text), _hits(none), _curves(text)) for share, text, none in _both(source)}


def dial_gains(source: Path) -> dict[float, Gain]:
    """What text gains over none in points of Hit@1, by p, as far as it was run."""
    gains = {}
    for share, text, none in _both(source):
        found = decide(text, none, METRIC, MARGIN)
        gains[share] = Gain(found.said, *(100 * getattr(found.interval, of) for of in ("mean", "low", "high")))
    return gains


def point(text: Sequence[float], none: Sequence[float], curves: Sequence[Curves]) -> Point:
    """A point of the figure from Hit@1 with text and with none, and the curves of the runs in text, by seed."""
    written = {kind: [after for _, after in _of_kind(curves, kind, "tallies")] for kind in KINDS}
    before = [one["tallies"][_start(one)] for one in curves]
    return Point(text, none, written, float(np.mean(before)))


def draw_dial(points: Mapping[float, Point]) -> Figure:
    """Hit@1 with text and with none over p, and the share of tallies RecPO leaves for each kind of user."""
    figure, (left, right) = plotting.plt.subplots(1, 2, sharex=True)
    arms = {"text": {p: point.text for p, point in points.items()}}
    arms["none"] = {p: point.none for p, point in points.items()}
    kinds = {f"{kind} users": {p: point.tallies[kind] for p, point in points.items()} for kind in KINDS}
    right.plot(list(points), [point.before for point in points.values()], ":", color="0.4", label="both, before RecPO")
    for axes, lines in ((left, arms), (right, kinds)):
        for number, (label, values) in enumerate(lines.items()):
            style: dict[str, Any] = {"color": plotting.OKABE_ITO[number], "marker": plotting.MARKERS[number]}
            drawn = {p: found for p, found in values.items() if len(found)}
            axes.plot(list(drawn), [np.mean(found) for found in drawn.values()], label=label, **style)
            for p, found in drawn.items():
                axes.plot([p] * len(found), found, ".", color=style["color"], markersize=3)
        axes.set(xlabel="p, share of habit users", ylim=(-0.02, 1.04))
        axes.legend(fontsize=8)
    left.set(ylabel="Hit@1 on test", title="What reasoning is worth")
    right.set(ylabel="share of the tokens", title="Tallies after RecPO")
    return figure


def describe_dial(points: Mapping[float, Point]) -> str:
    """The figure in a sentence."""
    hits = ", ".join(f"{np.mean(at.text):.2f} and {np.mean(at.none):.2f} at p = {p:g}" for p, at in points.items())
    written = [
        f"for {kind} users {np.mean(at.tallies[kind]):.2f} at p = {p:g}"
        for kind in KINDS
        for p, at in points.items()
        if len(at.tallies[kind])
    ]
    return f"Hit@1 with text and with none: {hits}. Share of tallies after RecPO: {', '.join(written)}."


def _both(source: Path) -> Iterator[tuple[float, list[Report], list[Report]]]:
    """Each p at which text and none were run, with both arms."""
    for share in SHARES:
        text, none = _arms(source, Cell(share, "text", 0), Cell(share, "none", 0))
        if text:
            yield share, text, none


def _arms(source: Path, first: Cell, second: Cell) -> tuple[list[Report], list[Report]]:
    """The reports of two cells on the seeds that both were run with."""
    return on_shared_seeds(_arm(source, first), _arm(source, second)) or ([], [])


def _arm(source: Path, cell: Cell) -> list[Report]:
    """The reports of all seeds of a cell, on what each way itself writes."""
    paths = sorted((source / FOLDER).glob(f"{cell.group}-[0-9]*.json"))
    return [load_reports(path)[0] for path in paths]


def _hits(arm: Sequence[Report]) -> list[float]:
    return [float(one.metric(METRIC).mean()) for one in arm]


def _mean(arm: Sequence[Report]) -> str:
    return f"{arm_interval(arm, METRIC, SAMPLES):.3f}"


def _decision(text: Sequence[Report], other: Sequence[Report]) -> str:
    return decide(text, other, METRIC, MARGIN).short


def _each(values: Sequence[float]) -> str:
    return ", ".join(with_minus(value, ".2f") for value in values)


def _pair(text: Sequence[Report], none: Sequence[Report]) -> str:
    """Cells below :data:`PAIR`."""
    gains = [one - other for one, other in zip(_hits(text), _hits(none), strict=True)]
    return f"{len(text)} | {_mean(text)} | {_mean(none)} | {_decision(text, none)} | {_each(gains)}"


def _curves(arm: Sequence[Report]) -> list[Curves]:
    return [one.run["curves"] for one in arm]


def _start(curves: Curves) -> int:
    """Where RecPO begins, or what stands in its place."""
    return list(curves["step"]).index(0.0)


def _of_kind(curves: Sequence[Curves], kind: str, curve: str) -> list[tuple[float, float]]:
    """A curve's values for valid users of a kind, before RecPO and at the end, by seed; empty if there are none."""
    found = []
    for one in curves:
        split = any(f"{curve}, {other}" in one for other in KINDS)  # else all are sum users
        name = curve if not split and kind == "sum" else f"{curve}, {kind}"
        if name in one:
            found.append((one[name][_start(one)], one[name][-1]))
    return found


def _before_and_after(arm: Sequence[Report], kind: str) -> str:
    found = _of_kind(_curves(arm), kind, "tallies")
    if not found:
        return NOBODY
    return f"{np.mean([before for before, _ in found]):.2f}, then {_each([after for _, after in found])}"


def _costs(*arms: Sequence[Report]) -> str:
    """Processor seconds of training behind the lessons, and of those, which all ways share: means over the seeds."""
    parts = ("warm-up", "text", "training")
    means = [np.mean([sum(one.run["seconds"].get(part, 0.0) for part in parts) for one in arm]) for arm in arms]
    lessons = np.mean([one.run["seconds"]["lessons"] for one in arms[0]])
    return f"{', '.join(f'{mean:.0f}' for mean in means)}; {lessons:.0f}"


def _origin(source: Path) -> str:
    """Where the figures are from, and what all cells took."""
    runs = [load_reports(path)[0].run for path in sorted((source / FOLDER).glob("*.json"))]
    if not runs:
        return "Recorded run: not run."
    hours = sum(run["seconds"]["process"] for run in runs) / 3600
    commits = ", ".join(sorted({run["commit"] or "unknown" for run in runs}))
    devices = ", ".join(sorted({run["device"] for run in runs}))
    return f"Recorded run: `{FOLDER}/`, {len(runs)} cells, {hours:.1f} CPU hours, commits {commits}, {devices}."
