"""Letting a report into a leaderboard: it is checked first, and a board that refuses it stays as it was."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.baselines import BASELINES
from rrec_lib.core.paths import replacing
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import write_json
from rrec_lib.evaluation.compare import Arm, group_reports
from rrec_lib.evaluation.reports import MASKING, Report, load_reports, same_events
from rrec_lib.experiments.leaderboard import added_arms, made_by, recorded_arms
from rrec_lib.experiments.reference import ARMS
from rrec_lib.experiments.tables import DATA_SETS

NAME = re.compile(r"\w[\w .,:;+()'@-]{0,59}")


def add_report(
    path: Path, board: Path, name: str | None = None, rename: str | None = None, replaced: bool = False,
    root: Path | None = None,
) -> tuple[str, str, Path]:  # fmt: skip
    """Let one report of a file into a board; nothing is written before all is checked.

    Args:
        path: a file that `rrec evaluate --out` or `rrec baselines` has written.
        board: folder, in which each set has one.
        name: of the report; not needed if the file has one, or one that is none of the project's baselines.
        rename: the line's name, if it is to be another.
        replaced: let it take the place of the line of that name, with all its runs.
        root: that has ``results/``; None takes the project's.

    Returns:
        The set, the line's name, and the file written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none, of other data or other rows, can't be right, or its name is taken.
    """
    reports = load_reports(path)
    place, recorded = _set_of(reports[0], root)
    added = added_arms(place, board)
    report = _pick(reports, name, {*recorded, *BASELINES}, path)
    content = read_json(path)
    check_report(report, content["figures"][report.name], next(iter(recorded.values()))[0])
    line = rename or report.name
    target = _free_file(replace(report, name=line), recorded, added, board / place, replaced)
    alone = {key: {line: content[key][report.name]} for key in ("ranks", "figures")}
    alone["made"] = {line: content.get("made", {}).get(report.name, {})}
    with replacing(target) as temporary:
        write_json(temporary, {**content, **alone})
        for old in added.get(line, []) if replaced else []:
            _file(board / place, old).unlink(missing_ok=True)
    return place, line, target


def check_report(report: Report, figures: Mapping[str, Any], like: Report) -> None:
    """Require what every line of a board has: the set's test rows and protocol, and figures that can be right.

    Args:
        report: to be let in; of the board's data.
        figures: its finished figures, as they stand in the file.
        like: a report of the board's.

    Raises:
        ValueError: naming what is wrong.
    """
    name, rows = report.name, len(like.users)
    if (report.examples, report.n_items) != (like.examples, like.n_items) or not np.array_equal(
        report.users, like.users
    ):
        raise ValueError(
            f"{name} was evaluated on {len(report.users)} rows of {report.n_items} items, the board is of all {rows} "
            f"test rows of {like.n_items}; evaluate it with --split test --sample all"
        )
    if figures.get("masking") != MASKING:
        raise ValueError(f"{name}: items were masked otherwise ({figures.get('masking')!r}); evaluate it again")
    try:
        means = {metric: float(values.mean()) for metric, values in report.values.items()}
    except AssertionError as problem:
        raise ValueError(f"{name}: {problem}") from problem
    stated = {metric: _dict(_dict(figures.get("metrics")).get(metric)).get("mean") for metric in means}
    for metric, mean in means.items():
        told = stated[metric]
        if not 0 <= mean <= 1 or not isinstance(told, float | int) or not abs(told - mean) <= 1e-6:  # nan is none
            raise ValueError(f"{name}: the file says {metric} is {stated[metric]}, its ranks give {mean:.6f}")
    if not any(finding.check == "blind" and finding.passed is True for finding in report.findings):
        raise ValueError(f"{name}: it wasn't shown that its scores don't follow the target, because they were given or "
                         "differ from call to call; make them repeatable and evaluate it again")  # fmt: skip
    said = made_by(report)
    kinds = {"parameters": dict, "time": str, "commit": str | None}  # outside a repository there is no commit
    if not all(key in said and isinstance(said[key], kind) for key, kind in kinds.items()):
        raise ValueError(f"{name}: the file doesn't say by which code it was made and when, or with which parameters; "
                         "evaluate it again")  # fmt: skip


def _dict(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _set_of(report: Report, root: Path | None) -> tuple[str, dict[str, list[Report]]]:
    """The set that a report is of, by the hash of its data, and what is recorded there."""
    hashes = {}
    for place in DATA_SETS:
        arms = recorded_arms(place, root)
        if arms:
            hashes[place] = next(iter(arms.values()))[0].run["data"]
            if same_events(hashes[place], report.run.get("data")):
                return place, arms
    known = ", ".join(f"{place} {data}" for place, data in hashes.items()) or "none"
    raise ValueError(f"{report.name} was evaluated on data with the hash {report.run.get('data')}, of which there is "
                     f"no board ({known}); `rrec compare` compares reports on any data")  # fmt: skip


def _pick(reports: Sequence[Report], name: str | None, ours: set[str], path: Path) -> Report:
    """The one report of a file that is meant; `rrec evaluate` puts baselines beside it."""
    named = {report.name: report for report in reports}
    if name is not None:
        if name not in named:
            raise ValueError(f"{path} has no report {name!r}; choose one of {', '.join(named)}")
        return named[name]
    new = [report for report in reports if report.name not in ours] if len(reports) > 1 else list(reports)
    if len(new) != 1:
        raise ValueError(f"{path} has {len(reports)} reports, {len(new)} of them none of the project's own; say with "
                         f"--name which is meant: {', '.join(named)}")  # fmt: skip
    return new[0]


def _free_file(
    report: Report, recorded: Mapping[str, Arm], added: Mapping[str, list[Report]], folder: Path, replaced: bool
) -> Path:
    """Where a report may be written: its name is none of others', and its runs are of one recommender."""
    name = report.name
    if not NAME.fullmatch(name):
        raise ValueError(f"a line's name has at most 60 letters, digits, spaces and .,:;+()'@-, got {name!r}; give "
                         "another with --as")  # fmt: skip
    if name.casefold() in {other.casefold() for other in (*recorded, *ARMS)}:
        raise ValueError(f"{name!r} is one of the project's own lines, which stay as recorded; give another name with "
                         "--as")  # fmt: skip
    target, mine = _file(folder, report), added.get(name, [])
    others = {_file(folder, other): other.name for arm in added.values() for other in arm if other.name != name}
    if target in others:
        raise ValueError(f"{name!r} would share a file with {others[target]!r}; give another name with --as")
    if replaced or not mine:
        return target
    if any(_same(report, other) for other in mine):
        raise ValueError(f"{name!r} is on the board with a run of the same seed or the same ranks; give --replace to "
                         "take its place, or another name with --as")  # fmt: skip
    group_reports([*mine, report])  # other code or settings are no further run
    return target


def _same(report: Report, other: Report) -> bool:
    ranks = zip((report.n_greater, report.n_equal), (other.n_greater, other.n_equal), strict=True)
    return report.run.get("seed") == other.run.get("seed") or all(np.array_equal(*pair) for pair in ranks)


def _file(folder: Path, report: Report) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", report.name.lower()).strip("-") or "line"
    return folder / f"{slug}-{report.run.get('seed')}.json"
