"""What the page of the verdict shows: fragments of Markdown, every figure of them from a file in results/."""

from collections.abc import Mapping
from pathlib import Path

from rrec_lib.experiments.control_runs import controls_table
from rrec_lib.experiments.reference import WITH, WITHOUT, tuned_baselines
from rrec_lib.experiments.tables import DATA_SETS
from rrec_lib.experiments.verdict import TARGETS, Budget, ledger_table, verdict_arms, verdict_lines, verdict_tables
from rrec_lib.experiments.verdict_figures import (
    Gain,
    compute_figure,
    compute_table,
    gain_figure,
    gain_of,
    read_curve,
)

LEDGER = ("ceiling", "verdict", "ablations", "controls", "compute", "audits", "lab/dial")
BASELINES = 2  # the best on test, beside the curve of compute


def verdict_fragments(
    source: Path, figures: Path, dial: Mapping[float, Gain] | None = None, budget: Budget = TARGETS
) -> dict[str, str]:
    """Markdown fragments by name: ``gain``, ``verdict``, ``compute``, ``controls``, ``ledger``.

    Args:
        source: the repository.
        figures: folder that the figures are drawn to.
        dial: gains in the lab, by the share of habit users.
        budget: in which the arms of the picture are equal.
    """
    compute, controls = [], []
    for place, title in DATA_SETS.items():
        compute.append(f"## {title}\n\n{_compute(source, place, figures)}")
        controls.append(f"## {title}\n\n{controls_table(source / 'results' / 'controls' / place)}")
    return {
        "gain": _gain(source, figures, dial or {}, budget),
        "verdict": verdict_tables(source, DATA_SETS),
        "compute": "\n".join(compute),
        "controls": "\n".join(controls),
        "ledger": ledger_table(source, LEDGER),
    }


def _gain(source: Path, figures: Path, dial: Mapping[float, Gain], budget: Budget) -> str:
    sets: dict[str, Gain | None] = {}
    for place, title in DATA_SETS.items():
        lines = {line.name: line for line in verdict_lines(verdict_arms(source, place, budget), budget)}
        decision = lines[WITH].decision
        sets[title.rpartition(",")[0].replace(", ", ",\n")] = gain_of(decision) if decision else None
    path = figures / "verdict-gain.png"
    return f"![{gain_figure(dial, sets, path)}]({figures.name}/{path.name})\n"


def _compute(source: Path, place: str, figures: Path) -> str:
    curve = read_curve(source / "results" / "compute" / place / "compute-curve-0.json")
    without = verdict_arms(source, place, TARGETS).get(WITHOUT, [])
    beside = without, tuned_baselines(place, source)[:BASELINES]
    path = figures / f"verdict-compute-{place}.png"
    alt = compute_figure(curve, *beside, path)
    return (f"![{alt}]({figures.name}/{path.name})\n\n" if alt else "") + compute_table(curve, *beside)
