"""The leaderboard: all reports on a recorded set's whole test split in one ranking.

What the project has recorded is read where it lies. What was added lies in ``results/leaderboard/DATASET-PROFILE/``, or
below another folder, one file a run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.core import paths
from rrec_lib.evaluation.compare import SAMPLES, Arm, Comparison, compare_arms
from rrec_lib.evaluation.intervals import Interval
from rrec_lib.evaluation.reports import Report
from rrec_lib.experiments.reference import (
    ARMS,
    FIRST_TRIAL,
    METRIC,
    SECOND_TRIAL,
    read_arms,
    reference_arms,
    tuned_baselines,
)
from rrec_lib.experiments.tables import DATA_SETS

HIT = "hit@20"
NOT_APART = "≈"
AGAIN = ", second trial"  # behind an arm's name
LEGEND = f"{NOT_APART} no difference to the first line can be shown"


@dataclass(frozen=True)
class Line:
    """A recommender on the board.

    Attributes:
        rank: 1 for the highest mean; equal means share one.
        name: of the recommender.
        arm: its reports, one a run.
        ndcg: mean NDCG@20 with its interval over users, and over runs where there are several.
        hit: mean Hit@20.
        difference: from the first line, paired; None for that line itself.
    """

    rank: int
    name: str
    arm: Arm
    ndcg: Interval
    hit: float
    difference: Comparison | None

    @property
    def apart(self) -> bool:
        """Whether its paired interval from the first line excludes 0."""
        return self.difference is None or self.difference.verdict in ("better", "worse")

    @property
    def place(self) -> str:
        """Its rank, marked where it can't be told apart from the first."""
        return f"{self.rank}{'' if self.apart else f' {NOT_APART}'}"

    @property
    def against(self) -> str:
        """The difference from the first line, in a sentence."""
        return "the first" if self.difference is None else self.difference.sentence

    @property
    def minus_first(self) -> str:
        """The difference from the first line in figures; what is told apart from zero is not printed as zero."""
        if self.difference is None:
            return ""
        i, shown = self.difference.interval, self.difference.verdict in ("better", "worse")
        near = min(abs(i.low), abs(i.high))
        digits = next(places for places in range(3, 20) if not shown or round(near, places))
        return re.sub(r"-(?=0\.0+\b)", "", f"{i:.{digits}f}").replace("-", "−")

    @property
    def chosen(self) -> str:
        """The parameters that valid chose, where a report says."""
        return _each([", ".join(f"{key} {value}" for key, value in made["parameters"].items()) for made in self._made])

    @property
    def recorded(self) -> str:
        """Commit and day of each run."""
        return _each([f"{made['commit'] or 'no commit'}, {made['time'][:10]}" for made in self._made])

    @property
    def _made(self) -> list[dict[str, Any]]:
        return [made_by(report) for report in self.arm]


def recorded_arms(place: str, root: Path | None = None) -> dict[str, list[Report]]:
    """What the project has recorded on a set, by the names of tables: tuned baselines and the arms of both trials.

    Args:
        place: a key of :data:`~rrec_lib.experiments.tables.DATA_SETS`.
        root: that has ``results/``; None takes the project's.
    """
    baselines = {report.name: [report] for report in tuned_baselines(place, root)}
    first, second = (reference_arms(place, root, trial) for trial in (FIRST_TRIAL, SECOND_TRIAL))
    again = {f"{ARMS[name]}{AGAIN}": arm for name, arm in second.items()}
    return baselines | {ARMS[name]: arm for name, arm in first.items()} | again


def added_arms(place: str, board: Path) -> dict[str, list[Report]]:
    """What was added to a board, by name."""
    return read_arms(board / place)


def project_board() -> Path:
    """The project's own board, which need not exist yet.

    Raises:
        ValueError: if the library is installed without its repository.
    """
    if paths.REPOSITORY is None:
        raise ValueError("there is no repository here to keep a board in; name a folder with --board")
    return paths.REPOSITORY / "results" / "leaderboard"


def leaderboard_lines(arms: Mapping[str, Arm], samples: int = SAMPLES) -> list[Line]:
    """Rank recommenders by mean NDCG@20, and compare each with the first.

    Args:
        arms: reports by name, all on the same rows; several of one name are its runs.
        samples: bootstrap resamples.

    Raises:
        ValueError: if examples or data differ.
    """
    means = {name: _mean(arm, METRIC) for name, arm in arms.items()}
    order = sorted(arms, key=lambda name: (-means[name], name))
    table = compare_arms({name: arms[name] for name in order}, METRIC, samples) if order else {}
    ranks = {name: 1 + sum(mean > means[name] for mean in means.values()) for name in order}
    return [
        Line(ranks[name], name, arms[name], interval, _mean(arms[name], HIT), difference)
        for name, (interval, difference) in table.items()
    ]


def board_lines(place: str, board: Path, root: Path | None = None, samples: int = SAMPLES) -> list[Line]:
    """All lines of a set, recorded and added; arguments as above.

    Raises:
        ValueError: if a recorded line has the name of one that was added earlier.
    """
    recorded, added = recorded_arms(place, root), added_arms(place, board)
    if both := recorded.keys() & added.keys():
        raise ValueError(f"{', '.join(sorted(both))} has been recorded by now; take its files out of {board / place}")
    return leaderboard_lines({**recorded, **added}, samples)


def leaderboard_tables(source: Path) -> str:
    """Markdown: the board of each set as the book shows it."""
    board = source / "results" / "leaderboard"
    tables = {title: board_table(board_lines(place, board, source), place, board) for place, title in DATA_SETS.items()}
    return "\n".join(f"## {title}\n\n{table}" for title, table in tables.items())


def board_table(lines: Sequence[Line], place: str, board: Path) -> str:
    """Markdown: one set's lines, and what they rest on; or *not run yet*."""
    if not lines:
        return "Not run yet.\n"
    heads = ("rank", "method", "runs", "NDCG@20 [95\u00a0%]", "Hit@20", "minus the first [95\u00a0%]")
    ranking = [
        (one.place, one.name, len(one.arm), _whole(f"{one.ndcg:.3f}"), f"{one.hit:.3f}", _whole(one.minus_first))
        for one in lines
    ]
    origins = _rows(("method", "valid chose", "recorded"), [(one.name, one.chosen, one.recorded) for one in lines])
    kinds = ["baselines", FIRST_TRIAL, *[SECOND_TRIAL] * any(one.name.endswith(AGAIN) for one in lines)]
    files = [f"`results/{kind}/{place}/`" for kind in kinds]
    if added := added_arms(place, board):
        files.append(f"{', '.join(added)}: `{board.name}/{place}/`")
    i = lines[0].ndcg
    return "\n".join(
        [
            *_rows(heads, ranking),
            "",
            f"{i.rows} rows of {i.users} users. {LEGEND}. Reports: {'; '.join(files)}.",
            "",
            "<details><summary>Where each line is from</summary>",
            "",
            *origins,
            "",
            "</details>",
            "",
        ]
    )


def _whole(interval: str) -> str:
    """With brackets that no line's end parts."""
    return interval.replace(", ", ",\u00a0")


def _rows(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> list[str]:
    """A table; names and parameters are whoever's, so nothing in them is markup."""
    cells = [[escape(str(cell), quote=False).replace("|", "\\|") for cell in line] for line in lines]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def _mean(arm: Arm, metric: str) -> float:
    return float(np.mean([report.metric(metric).mean() for report in arm]))


def made_by(report: Report) -> dict[str, Any]:
    """Commit, time and parameters of a report: of its own run, where its file holds several."""
    made = report.run.get("made")
    return {"parameters": {}, **report.run, **(made.get(report.name, {}) if isinstance(made, dict) else {})}


def _each(parts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, parts)))
