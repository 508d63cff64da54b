"""A data card: what a prepared set holds, whom it is about, how it was cut, and what it must not be used for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from rrec_lib.core.plotting import OKABE_ITO
from rrec_lib.data.examples import SPLITS
from rrec_lib.data.faults import fault_lines

QUANTILES = (0.1, 0.5, 0.9, 1.0)
TOP_SHARES = (0.01, 0.1, 0.2)
LICENCES = {
    "movielens": "GroupLens (University of Minnesota): research use with acknowledgement, redistribution under the "
    "same conditions, no commercial use without permission.",
    "amazon": "Amazon Reviews 2023 is published for research without a licence to redistribute: keep the files and "
    "every row of this set to yourself; aggregate figures may be published.",
    "csv": "The terms are those of the files' owner.",
}


def data_card(dataset: DatasetDict, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Count what a reader of results wants to know about a prepared set.

    Args:
        dataset: the splits of :func:`rrec_lib.data.examples.prepare`, or those of the official recipe.
        manifest: what ``manifest.json`` says.

    Returns:
        Plain numbers and texts: ``source``, ``licence``, ``users``, ``items``, ``examples`` and ``density`` (examples
        over users times items). By split ``rows``, ``users``, ``first`` and ``last`` target (dates, UTC), ``history``
        (quantiles of its length), ``repeats`` (share of targets that the user had before), ``busiest`` (share of rows
        of the five busiest users), and but for training ``cold_items`` and ``cold_users`` (shares of rows whose target
        or user training knows nothing of). ``popularity``: the share of training targets that the most popular items
        take, and the Gini coefficient. ``faults`` and ``dropped`` are the manifest's.
    """
    form = _Form(dataset)
    parts = {name: form.columns(dataset[name]) for name in SPLITS}
    known_items = np.zeros(form.catalogue + form.first_id, dtype=bool)
    known_items[parts["train"]["target"]] = True
    for array in dataset["train"].with_format("arrow")[:].column(form.history).chunks:
        known_items[pc.unique(array.flatten()).to_numpy(zero_copy_only=False)] = True
    users = pc.unique(pa.chunked_array([chunk for name in SPLITS for chunk in parts[name]["user"].chunks]))
    counts = np.bincount(parts["train"]["target"], minlength=len(known_items))[form.first_id :]
    rows = sum(split.num_rows for name, split in dataset.items() if name in SPLITS)
    return {
        "source": _source(manifest),
        "licence": LICENCES[_origin(manifest)],
        "users": len(users),
        "items": form.catalogue,
        "examples": rows,
        "density": rows / max(len(users) * form.catalogue, 1),
        "splits": {name: _split(part, parts["train"], known_items, name) for name, part in parts.items()},
        "popularity": {**{f"top {share:.0%}": _top(counts, share) for share in TOP_SHARES}, "gini": gini(counts)},
        "faults": dict(manifest.get("faults") or {}),
        "dropped": dict(manifest.get("dropped") or manifest.get("counts", {}).get("removals") or {}),
    }


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of (N,) counts: 0 where all are equal, towards 1 where one has all; 0 without any.

    Source: mean absolute difference over twice the mean, computed from the sorted counts.
    """
    ordered, size = np.sort(np.asarray(counts, dtype=np.float64)), len(counts)
    total = ordered.sum()
    return float(2 * (np.arange(1, size + 1) * ordered).sum() / (size * total) - (size + 1) / size) if total else 0.0


def card_markdown(card: Mapping[str, Any], title: str = "Data card") -> str:
    """The card as a Markdown page."""
    facts = [f"| {name} | {value} |" for name, value in _overview(card)]
    splits = ["| | " + " | ".join(SPLITS) + " |", "|---|" + "---|" * len(SPLITS)]
    splits += [f"| {label} | " + " | ".join(cells) + " |" for label, cells in _split_rows(card)]
    records = [f"- {line}" for line in _record_lines(card)] or ["- none"]
    return "\n".join([f"# {title}", "", "| | |", "|---|---|", *facts, "", "## Splits", "", *splits, "",
                      "## Records dropped, repaired or counted", "", *records, "",
                      "## Licence", "", card["licence"], ""])  # fmt: skip


def card_text(card: Mapping[str, Any]) -> str:
    """The card for a terminal."""
    lines = [f"{name:<22}{value}" for name, value in _overview(card)]
    table = [("", list(SPLITS)), *_split_rows(card)]
    width = max(len(cell) for _, cells in table for cell in cells) + 2
    lines += ["", *(f"{label:<22}" + "".join(f"{cell:>{width}}" for cell in cells) for label, cells in table)]
    records = _record_lines(card)
    lines += ["", "records", *(f"  {line}" for line in records)] if records else []
    return "\n".join([*lines, "", f"licence: {card['licence']}"])


def card_figure(dataset: DatasetDict) -> tuple[Figure, str]:
    """Draw how popularity is shared and when targets fall.

    Returns:
        The figure, and an alternative text that states what it shows.
    """
    import matplotlib.pyplot as plt

    form = _Form(dataset)
    parts = {name: form.columns(dataset[name]) for name in SPLITS}
    counts = np.sort(np.bincount(parts["train"]["target"], minlength=form.catalogue + form.first_id)[form.first_id :])
    shares = np.concatenate(([0], np.cumsum(counts[::-1]) / max(counts.sum(), 1)))
    figure, (left, right) = plt.subplots(1, 2)
    left.plot(np.linspace(0, 1, len(shares)), shares)
    left.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel=f"share of items, most popular first (n = {form.catalogue:,})", ylabel="share of training targets")
    edges = np.linspace(int(parts["train"]["time"].min()), int(parts["test"]["time"].max()), 41)
    days, bottom = edges.astype("datetime64[s]"), np.zeros(len(edges) - 1)
    for colour, hatch, (name, part) in zip(OKABE_ITO, ("", "//", ".."), parts.items(), strict=False):
        heights = np.histogram(part["time"], edges)[0]
        right.bar(days[:-1], heights, np.diff(days), bottom, align="edge", color=colour, hatch=hatch, label=name)
        bottom += heights
    locator = AutoDateLocator(minticks=3)
    right.xaxis.set_major_locator(locator)
    right.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    right.set(xlabel="time of the target", ylabel="examples", ylim=(0, 1.05 * bottom.max()))
    right.legend()
    top = _top(counts, TOP_SHARES[1])
    apart = parts["test"]["time"].min() > max(parts[name]["time"].max() for name in ("train", "valid"))
    return figure, (
        f"The most popular tenth of {form.catalogue:,} items takes {top:.0%} of the training targets; test targets "
        f"begin on {_day(parts['test']['time'].min())}{', after all of training and validation' if apart else ''}."
    )


class _Form:
    """What the columns are called: this project's form, or the official recipe's, whose item 0 pads."""

    def __init__(self, dataset: DatasetDict) -> None:
        self.official = "item_info" in dataset
        self.history = "history_item_id" if self.official else "history"
        self.first_id = 1 if self.official else 0
        items = dataset["item_info" if self.official else "items"]
        ids = pc.unique(items.with_format("arrow")[:].column("item_id"))
        self.catalogue = len(ids) - self.first_id

    def columns(self, split: Dataset) -> dict[str, Any]:
        """A split's users, targets, times in seconds, history lengths and repeats."""
        table: pa.Table = split.with_format("arrow")[:]
        target = table.column("item_id" if self.official else "target").to_numpy()
        time = table.column("timestamp" if self.official else "target_timestamp").to_numpy() // (
            1000 if self.official else 1
        )
        length = pc.list_value_length(table.column(self.history)).to_numpy()
        found = {"user": table.column("user_id"), "target": target, "time": time, "length": length}
        return {**found, "repeat": self._repeats(table, target)}

    def _repeats(self, table: pa.Table, target: np.ndarray) -> np.ndarray:
        if "repeat" in table.column_names:
            return table.column("repeat").to_numpy(zero_copy_only=False)
        past = table.column(self.history if self.official else "seen")  # the official form knows its window alone
        repeat, done = np.zeros(len(target), dtype=bool), 0
        for chunk in past.chunks:
            rows = pc.list_parent_indices(chunk).to_numpy() + done
            repeat[rows[chunk.flatten().to_numpy() == target[rows]]] = True
            done += len(chunk)
        return repeat


def _split(part: dict[str, Any], train: dict[str, Any], known_items: np.ndarray, name: str) -> dict[str, Any]:
    owned = np.sort(pc.value_counts(part["user"]).field("counts").to_numpy())[::-1]
    found = {
        "rows": len(part["target"]),
        "users": len(owned),
        "first": _day(part["time"].min()),
        "last": _day(part["time"].max()),
        "history": {f"{q:.0%}": int(np.quantile(part["length"], q, method="higher")) for q in QUANTILES},
        "repeats": float(part["repeat"].mean()),
        "busiest": float(owned[:5].sum() / owned.sum()),
    }
    if name == "train":
        return found
    cold_users = pc.invert(pc.is_in(part["user"], value_set=pc.unique(train["user"])))
    cold_items = ~known_items[part["target"]]
    return {**found, "cold_items": float(cold_items.mean()), "cold_users": float(pc.mean(cold_users).as_py())}


def _overview(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    popularity = card["popularity"]
    tops = ", ".join(f"{name} of items take {share:.0%}" for name, share in popularity.items() if name != "gini")
    return [
        ("source", card["source"]),
        ("users", f"{card['users']:,}"),
        ("items", f"{card['items']:,}"),
        ("examples", f"{card['examples']:,} ({card['density']:.3%} of users × items)"),
        ("training targets", f"{tops}; Gini {popularity['gini']:.2f}"),
    ]


def _split_rows(card: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    splits = [card["splits"][name] for name in SPLITS]
    length = {q: [f"{split['history'][f'{q:.0%}']}" for split in splits] for q in QUANTILES}

    def shares(name: str) -> list[str]:
        return [f"{split[name]:.1%}" if name in split else "–" for split in splits]

    return [
        ("examples", [f"{split['rows']:,}" for split in splits]),
        ("users", [f"{split['users']:,}" for split in splits]),
        ("first target", [split["first"] for split in splits]),
        ("last target", [split["last"] for split in splits]),
        ("history, median", length[0.5]),
        ("history, 90 % up to", length[0.9]),
        ("repeats", shares("repeats")),
        ("five busiest users", shares("busiest")),
        ("cold items", shares("cold_items")),
        ("cold users", shares("cold_users")),
    ]


def _record_lines(card: Mapping[str, Any]) -> list[str]:
    dropped = [f"dropped, {reason}: {count:,}" for reason, count in card["dropped"].items()]
    return dropped + fault_lines(card["faults"])


def _origin(manifest: Mapping[str, Any]) -> str:
    if manifest.get("category"):
        return "amazon"
    return "movielens" if manifest["arguments"].get("dataset") == "movielens" else "csv"


def _source(manifest: Mapping[str, Any]) -> str:
    arguments = manifest["arguments"]
    if manifest.get("category"):
        months = f"{arguments.get('start')} to {arguments.get('end')}"
        return f"{manifest['category']}, recipe {manifest.get('recipe')}, {months}"
    return "MovieLens latest-small, October 2016" if _origin(manifest) == "movielens" else "CSV files"


def _top(counts: np.ndarray, share: float) -> float:
    ordered = np.sort(counts)[::-1]
    return float(ordered[: max(1, round(share * len(ordered)))].sum() / max(ordered.sum(), 1))


def _day(seconds: np.integer | int) -> str:
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%d}"
