"""What the page of the verdict shows: fragments of Markdown, every figure of them from a file in results/."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rrec_lib.evaluation.compare import arm_interval
from rrec_lib.evaluation.equivalence import Decision, decide
from rrec_lib.evaluation.reports import Report
from rrec_lib.experiments.ablations import NOT_RUN
from rrec_lib.experiments.ceiling import ceiling_table
from rrec_lib.experiments.control_runs import controls_table
from rrec_lib.experiments.dial_tables import chain_table, dial_figure, dial_gains, dial_table, ways_table
from rrec_lib.experiments.reference import (
    BASELINES,
    METRIC,
    SECOND_TRIAL,
    WITH,
    WITHOUT,
    reference_arms,
    tuned_baselines,
)
from rrec_lib.experiments.tables import DATA_SETS
from rrec_lib.experiments.verdict import (
    MARGIN,
    NOTHING,
    TARGETS,
    Budget,
    ledger_table,
    or_not_run,
    verdict_arms,
    verdict_lines,
    verdict_tables,
)
from rrec_lib.experiments.verdict_figures import (
    Gain,
    compute_figure,
    compute_table,
    gain_figure,
    gain_of,
    read_curve,
)
from rrec_lib.experiments.writing_table import writing_table

BEFORE_RECPO = "controls-before-recpo"  # of the trial's warm-up, as RecPO began from it
LEDGER = ("ceiling", "verdict", "ablations", "controls", BEFORE_RECPO, "compute", "audits", "lab/dial")


def verdict_fragments(source: Path, figures: Path, budget: Budget = TARGETS) -> dict[str, str]:
    """Markdown fragments by name, in the order of the page.

    Args:
        source: the repository.
        figures: folder that the figures are drawn to.
        budget: in which the arms of the picture are equal.
    """
    each: dict[str, Callable[[str], str]] = {
        "ceiling": lambda place: or_not_run(ceiling_table(source, place)),
        "verdict": lambda place: verdict_tables(source, place),
        "writing": lambda place: or_not_run(writing_table(source / "results" / SECOND_TRIAL / place)),
        "compute": lambda place: _compute(source, place, figures),
        "controls": lambda place: controls_table(source / "results" / "controls" / place),
        "controls-before": lambda place: controls_table(source / "results" / BEFORE_RECPO / place),
    }
    return {
        "gain": _gain(source, figures, dial_gains(source), budget),
        "dial": _dial(source, figures),
        "first-trial": first_trial_table(source),
        **{name: _of_each_set(make) for name, make in each.items()},
        "ledger": ledger_table(source, LEDGER),
    }


def _of_each_set(make: Callable[[str], str]) -> str:
    """What is made for each data set under its title, or a line where there is nothing."""
    made = {title: make(place) for place, title in DATA_SETS.items()}
    if all(text.strip() == NOTHING for text in made.values()):
        return f"{NOTHING}\n"
    return "\n".join(f"### {title}\n\n{text}" for title, text in made.items())


def _dial(source: Path, figures: Path) -> str:
    path = figures / "verdict-dial.png"
    alt = dial_figure(source, path)
    drawn = f"![{alt}]({figures.name}/{path.name})\n\n" if path.is_file() else ""
    chains, ways = or_not_run(chain_table(source)), or_not_run(ways_table(source))
    return f"{drawn}{or_not_run(dial_table(source))}\n### Longer chains\n\n{chains}\n### Ways to think\n\n{ways}"


def first_trial_table(source: Path) -> str:
    """Markdown table: what the first trial's reports decide by the margin that was set after it."""
    rows = ["| data | with | without | verdict by a margin of 7 % |", "|---|---|---|---|"]
    for place, title in DATA_SETS.items():
        arms = reference_arms(place, source)
        if WITH not in arms or WITHOUT not in arms:
            rows.append(f"| {title} | {NOT_RUN} | | |")
            continue
        means = [
            f"{arm_interval(arms[arm], METRIC).mean:.3f}, {len(arms[arm])} run{'s' * (len(arms[arm]) > 1)}"
            for arm in (WITH, WITHOUT)
        ]
        rows.append(f"| {title} | {' | '.join(means)} | {_of_first_trial(arms).short} |")
    return "\n".join(rows) + "\n"


def _of_first_trial(arms: Mapping[str, Sequence[Report]]) -> Decision:
    return decide(arms[WITH], arms[WITHOUT], METRIC, MARGIN)


def _gain(source: Path, figures: Path, dial: Mapping[float, Gain], budget: Budget) -> str:
    sets: dict[str, Gain | None] = {}
    for place, title in DATA_SETS.items():
        label = title.removeprefix("Amazon, ").removesuffix(", 2018")
        lines = {line.name: line for line in verdict_lines(verdict_arms(source, place, budget), budget)}
        decision, first = lines[WITH].decision, reference_arms(place, source)
        if decision is None and WITH in first and WITHOUT in first:
            decision, label = _of_first_trial(first), f"{label}\n(first trial)"
        sets[label] = gain_of(decision) if decision else None
    path = figures / "verdict-gain.png"
    return f"![{gain_figure(dial, sets, path)}]({figures.name}/{path.name})\n"


def _compute(source: Path, place: str, figures: Path) -> str:
    curve = read_curve(source / "results" / "compute" / place / "compute-curve-0.json")
    without = verdict_arms(source, place, TARGETS).get(WITHOUT, [])
    beside = without, tuned_baselines(place, source)[:BASELINES]
    path = figures / f"verdict-compute-{place}.png"
    alt = compute_figure(curve, *beside, path)
    return (f"![{alt}]({figures.name}/{path.name})\n\n" if alt else "") + compute_table(curve, *beside)
