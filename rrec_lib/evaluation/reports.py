"""Reports: what a recommender reached on a set of examples, in memory and as JSON that can be compared later."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict

from rrec_lib.core.results import plain, provenance, write_json
from rrec_lib.data.prepared import split_hash
from rrec_lib.evaluation.checks import Finding
from rrec_lib.evaluation.intervals import Interval, bootstrap_mean_interval, bootstrap_mean_intervals, paired_bootstrap
from rrec_lib.evaluation.metrics import expected_hit, expected_ndcg, expected_reciprocal_rank

CUTOFFS = (1, 5, 10, 20, 50)
SLICE_METRICS = ("hit@20", "ndcg@20", "mrr")
MASKING = "whole catalogue; items the user has seen are taken out, the target itself never"
REPORT_FORMAT = 1
OF_WINDOW = ("history", "history_ratings", "history_timestamps")  # columns that `data.window` cuts out of a log


@dataclass(frozen=True)
class Report:
    """What one recommender reached on one set of examples.

    Attributes:
        name: of the recommender, or of the arm of an experiment.
        n_greater: (E,) items ranked above the target.
        n_equal: (E,) items that tie with it, itself included; 0 where it could not be recommended.
        users: (E,) user of each example, as an index; intervals resample users, not rows.
        repeats: how many targets their user had already seen.
        samples: bootstrap resamples of each interval.
        seed: of the bootstrap.
        n_items: size of the catalogue.
        examples: hash of the examples, so that only like is compared with like.
        lists: ``coverage@k``, and ``popularity@k`` if training counts were given; see
            :mod:`rrec_lib.evaluation.exposure`.
        slices: per way of splitting and band, (E,) booleans; from a file, its finished tables.
        findings: what the evaluation's checks of itself saw.
        run: of a report read from a file: command, commit, profile, seed, device, hash of the data and the rest.
    """

    name: str
    n_greater: np.ndarray
    n_equal: np.ndarray
    users: np.ndarray
    repeats: int
    samples: int
    seed: int
    n_items: int
    examples: str
    lists: Mapping[str, Any] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    run: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """Per metric, such as ``"ndcg@20"``, (E,) values, one per example, all from the target's rank."""
        greater, equal = torch.from_numpy(self.n_greater), torch.from_numpy(self.n_equal)
        values = {}
        for k in CUTOFFS:
            values[f"hit@{k}"] = expected_hit(greater, equal, k).numpy()
            values[f"ndcg@{k}"] = expected_ndcg(greater, equal, k).numpy()
            # One target per example: a discounted gain above the hit rate means the metric code is broken.
            assert (values[f"ndcg@{k}"] <= values[f"hit@{k}"] + 1e-9).all(), f"NDCG@{k} exceeds Hit@{k}"
        values["mrr"] = expected_reciprocal_rank(greater, equal).numpy()
        return values

    @property
    def warnings(self) -> list[str]:
        """Lines of the checks that did not pass."""
        return [finding.line for finding in self.findings if finding.passed is False]

    def metric(self, name: str) -> np.ndarray:
        """(E,) values of a metric.

        Raises:
            ValueError: for an unknown metric.
        """
        if name not in self.values:
            raise ValueError(f"unknown metric {name!r}; choose one of {', '.join(self.values)}")
        return self.values[name]

    def interval(self, metric: str) -> Interval:
        """Mean of a metric with its 95 % interval over users."""
        return bootstrap_mean_interval(self.metric(metric), self.users, self.samples, self.seed)

    def difference(self, other: "Report", metric: str) -> Interval:
        """Mean of self − other on the same examples, with its 95 % interval (paired bootstrap over users)."""
        check_same_examples(self, other)
        return paired_bootstrap(self.metric(metric), other.metric(metric), self.users, self.samples, self.seed)

    def figures(self) -> dict[str, Any]:
        """Means, intervals, lists, slices and checks as plain numbers, for :func:`rrec_lib.core.results.record`."""
        return {
            "rows": len(self.users),
            "users": len(np.unique(self.users)),
            "items": self.n_items,
            "repeats": self.repeats,
            "masking": MASKING,
            "metrics": self._table(np.ones(len(self.users), dtype=bool), list(self.values)),
            "lists": dict(self.lists),
            "slices": {way: self._bands(bands) for way, bands in self.slices.items()},
            "checks": [asdict(finding) for finding in self.findings],
            "bootstrap": {"samples": self.samples, "seed": self.seed, "level": 0.95, "over": "users"},
        }

    def _bands(self, bands: Mapping[str, Any]) -> dict[str, Any]:
        return {
            label: rows if isinstance(rows, Mapping) else self._band(np.asarray(rows)) for label, rows in bands.items()
        }

    def _band(self, rows: np.ndarray) -> dict[str, Any]:
        users = len(np.unique(self.users[rows]))
        return {"rows": int(rows.sum()), "users": users, "metrics": self._table(rows, SLICE_METRICS)}

    def _table(self, rows: np.ndarray, metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
        values, users = np.stack([self.values[metric][rows] for metric in metrics], 1), self.users[rows]
        if len(np.unique(users)) < 2:  # a mean can be shown, an interval over users can't
            return {
                m: {"mean": float(v), "low": None, "high": None} for m, v in zip(metrics, values.mean(0), strict=True)
            }
        found = bootstrap_mean_intervals(values, users, self.samples, self.seed)
        return {m: {"mean": i.mean, "low": i.low, "high": i.high} for m, i in zip(metrics, found, strict=True)}


def data_hash(dataset: DatasetDict) -> str:
    """Two digests of a prepared dataset with a dash between: of its events and items, and of what the window shows.

    Who shows a model ten lines of a log ranks the same items for the same rows as who shows five: reports on the same
    events can be compared, while a run goes on only where both digests are the same.
    """
    events: list[str] = []
    shown: list[str] = []
    for name, split in sorted(dataset.items()):
        windows = [column for column in OF_WINDOW if column in split.column_names]
        events.append(f"{name} {split_hash(split.remove_columns(windows))}")
        shown += [f"{name} {split_hash(split.select_columns(windows))}"] if windows else []
    whole, window = (hashlib.sha256("\n".join(parts).encode()).hexdigest() for parts in (events, shown))
    return f"{whole[:16]}-{window[:8]}"


def same_events(ours: str | None, theirs: str | None) -> bool:
    """Whether two hashes of :func:`data_hash` are of the same events and items, whatever the window shows of them."""
    return (ours or "").partition("-")[0] == (theirs or "").partition("-")[0]


def check_same_examples(*reports: Report) -> None:
    """Require that reports can be compared row by row.

    Raises:
        ValueError: if they were made on different data or different examples.
    """
    first = reports[0]
    for other in reports[1:]:
        ours, theirs = first.run.get("data"), other.run.get("data")
        if ours and theirs and not same_events(ours, theirs):
            raise ValueError(
                f"{_origin(first)} and {_origin(other)} were evaluated on different data (hashes {ours} and {theirs}); "
                "evaluate both on the same prepared data"
            )
        if first.examples != other.examples or first.n_items != other.n_items:
            raise ValueError(
                f"{_origin(first)} and {_origin(other)} were evaluated on different examples ({len(first.users)} rows "
                f"of {first.n_items} items, {len(other.users)} of {other.n_items}); use the same split, sample and seed"
            )


def save_reports(
    path: Path, reports: Sequence[Report], profile: str, data: str, seed: int | None = None, **notes: Any
) -> None:
    """Write reports on the same examples to one JSON file, atomically.

    The file holds figures, and each row's rank and user as bare indices: enough for paired comparisons, and no id,
    title or text of the data.

    Args:
        path: the file.
        reports: at least one, with different names.
        profile: the profile they were made on.
        data: hash of the prepared data.
        seed: of the run, such as that of the training.
        notes: more about the run, such as its settings; read back as part of :attr:`Report.run`.

    Raises:
        ValueError: if there is none, two share a name, or they were made on different examples.
    """
    names = [report.name for report in reports]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a file takes at least one report and each name once, got {names}")
    check_same_examples(*reports)
    first = reports[0]
    content = {
        "format": REPORT_FORMAT,
        "profile": profile,
        **provenance(seed),
        **plain(notes, path.name),
        "data": data,
        "examples": first.examples,
        "items": first.n_items,
        "users": _pack(first.users),
        "ranks": {r.name: {"greater": _pack(r.n_greater), "equal": _pack(r.n_equal)} for r in reports},
        "figures": plain({report.name: report.figures() for report in reports}, path.name),
    }
    write_json(path, content)


def load_reports(path: Path) -> list[Report]:
    """Read a file of :func:`save_reports`; slices come back as finished tables.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a report, or its parts don't fit each other.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no report {path}; `rrec evaluate --out {path}` writes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != REPORT_FORMAT:
            raise ValueError(f"format {content['format']}, this version reads {REPORT_FORMAT}")
        return [_report(content, name) for name in content["ranks"]]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as problem:
        raise ValueError(
            f"{path} can't be read as a report ({type(problem).__name__}: {problem}); write it again with "
            f"`rrec evaluate --out {path}`"
        ) from problem


def _report(content: Mapping[str, Any], name: str) -> Report:
    figures, ranks, users = content["figures"][name], content["ranks"][name], _unpack(content["users"])
    greater, equal = _unpack(ranks["greater"]), _unpack(ranks["equal"])
    if not len(users) == len(greater) == len(equal) == figures["rows"]:
        raise ValueError(f"{name}: {len(users)} users, {len(greater)} and {len(equal)} ranks, {figures['rows']} rows")
    made = (content.get("made") or {}).get(name, {})  # where each report was made by a call of its own
    n_items, seed = content["items"], made.get("seed", content.get("seed"))
    if not (seed is None or type(seed) is int):  # it becomes a file's name
        raise ValueError(f"the seed is {seed!r}, no whole number")
    possible = (
        (greater >= 0) & (equal >= 0) & (greater <= n_items) & (greater + equal > 0) & (greater + equal <= n_items)
    )
    if not possible.all():
        row = int(np.flatnonzero(~possible)[0])
        raise ValueError(f"{name}: row {row} has {greater[row]} items above the target and {equal[row]} equal to it, "
                         f"which can't be among {n_items}")  # fmt: skip
    return Report(
        name=name,
        n_greater=greater,
        n_equal=equal,
        users=users,
        repeats=figures["repeats"],
        samples=figures["bootstrap"]["samples"],
        seed=figures["bootstrap"]["seed"],
        n_items=n_items,
        examples=content["examples"],
        lists=figures["lists"],
        slices=figures["slices"],
        findings=tuple(Finding(**finding) for finding in figures["checks"]),
        run={
            **{key: value for key, value in content.items() if key not in ("ranks", "figures", "users")},
            **{key: made[key] for key in ("seed", "commit", "time") if key in made},
        },
    )


def _pack(numbers: np.ndarray) -> str:
    return " ".join(map(str, numbers.tolist()))


def _unpack(text: str) -> np.ndarray:
    return np.array([int(number) for number in text.split()], dtype=np.int64)


def _origin(report: Report) -> str:
    seed = report.run.get("seed")
    return report.name if seed is None else f"{report.name} (seed {seed})"
