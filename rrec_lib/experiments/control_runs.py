"""Controls of an adapter: the same weights read with something else before the marker, a report each.

Beside the report of swapped titles stands what the swap moves: the ranks of the title that came and went, those of
their neighbours, and how much of the list stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from torch import Tensor

from rrec_lib.core.reading import check_same, read_json
from rrec_lib.core.results import describe_run, plain, provenance, write_json
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.chunks import CHUNK, in_chunks
from rrec_lib.evaluation.compare import arm_interval, compare, group_reports, on_shared_seeds
from rrec_lib.evaluation.intervals import Interval, bootstrap_mean_interval
from rrec_lib.evaluation.reports import Report, load_reports
from rrec_lib.evaluation.scoring import mask_items
from rrec_lib.experiments.readings import load_of_seed, load_read, reading
from rrec_lib.experiments.reference import METRIC
from rrec_lib.experiments.runner import Options, Run, carry_out, chunk_key, reasoned, test_rows_of
from rrec_lib.experiments.verdict import NOTHING, not_run_yet
from rrec_lib.model.policy import Policy
from rrec_lib.recommend.controls import REASONING_CONTROLS, SWAPPED, TitleSwap, swap_titles
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.skills import World, world_of

TOP = 20
SWAP_RANKS = {
    "the title put in": "added", "neighbours of the title put in": "added's neighbours",
    "the title taken out": "removed", "neighbours of the title taken out": "removed's neighbours",
}  # fmt: skip


def run_controls(
    options: Options,
    adapter: Path,
    controls: Sequence[str] = tuple(REASONING_CONTROLS),
    seed: int = 0,
    test_rows: int | None = None,
) -> None:
    """Write a report for each control, or go on with them; and for swapped titles what the swap moves.

    Args:
        options: of :func:`rrec_lib.experiments.readings.what_to_read`.
        adapter: folder of the adapter.
        controls: of ``REASONING_CONTROLS``; ``"own"`` is what the others are compared with.
        seed: of the adapter's run.
        test_rows: of a user at most; None takes all.

    Raises:
        ValueError: if a report is of a run with other settings, or others in the folder are of another adapter of this
            seed, or of other rows.
    """
    print(describe_run(options.profile), flush=True)

    def load(run: Run, policy: Policy, dataset: DatasetDict) -> None:
        load_of_seed(policy, adapter, dataset, run)

    runs = [reading(options, control, control, seed, adapter, test_rows) for control in controls]
    for run in runs:
        _check_beside(run)
    for run in runs:
        carry_out(run, load)
        if run.name == SWAPPED and not swap_file(run).is_file():
            _write_swaps(run, adapter)


def _check_beside(run: Run) -> None:
    """Require that what stands in a report's folder can stand in one table with it."""
    for path in sorted(run.report.parent.glob("*.json")):
        kept = load_reports(path)[0].run
        alike = run.settings if kept["seed"] == run.seed else {**run.settings, "adapter": kept["settings"]["adapter"]}
        check_same(path, kept["settings"], alike, "give the same ones, or another --out")


def swap_file(run: Run) -> Path:
    """Where it stands what swapped titles move."""
    return run.below(run.options.out / "swaps", ".json")


def _write_swaps(run: Run, adapter: Path) -> None:
    policy, dataset = load_read(run, adapter)
    items, world = list(dataset["items"]), world_of(dataset)
    recommender = ReasoningRecommender(policy, items, run.profile, world=world)
    test = test_rows_of(run, dataset)

    def compute(chunk: list[Example]) -> dict[str, Tensor]:
        written, _ = reasoned(recommender, chunk, run.options.runs / "written")
        swaps = swap_titles(written.texts, chunk, world)
        # Both texts are read the same way, so that nothing differs but the title.
        texts = written.texts, [swap.text for swap in swaps]
        before, after = (recommender.score_states(recommender.states_behind(chunk, text)).cpu() for text in texts)
        return swap_effects(before, after, chunk, swaps, world)

    folder = run.below(run.options.runs) / "swaps"
    rows = in_chunks(test, compute, chunk_key(recommender, "swap effects"), folder, CHUNK, "swaps")
    users = np.array([str(example["user_id"]) for example in test])
    found = swap_figures(rows, users, run.profile.evaluation.bootstrap_samples, run.seed)
    head = {"name": run.name, "profile": run.profile.name, **provenance(run.seed), "settings": run.settings}
    writing = {"cpu_seconds_per_row": float(rows["seconds"].mean())}
    write_json(swap_file(run), {**head, "rows": len(test), "writing": writing, "figures": plain(found, run.name)})
    print(f"what swapped titles move: {swap_file(run)}", flush=True)


def swap_effects(
    before: Tensor, after: Tensor, examples: Sequence[Example], swaps: Sequence[TitleSwap], world: World
) -> dict[str, Tensor]:
    """What a swap moves, row by row; NaN where no title was swapped, or there is no such neighbour.

    Args:
        before: (E, N) scores behind the text as it was.
        after: (E, N) scores behind the text with the swap.
        examples: E rows with ``seen``, which is taken out of the ranking.
        swaps: E swaps.
        world: whose neighbours count.

    Returns:
        (E,) each: rank, 1 the best, of the ``added`` and the ``removed`` title and, as a mean, of the unseen neighbours
        of either, ``before`` and ``after``; and ``overlap``, the share of the first 20 that stays.
    """
    names = [f"{of} {when}" for of in ("added", "removed", "added's neighbours", "removed's neighbours")
             for when in ("before", "after")]  # fmt: skip
    found = {name: torch.full((len(swaps),), float("nan")) for name in (*names, "overlap")}
    seen = [example["seen"] for example in examples]
    orders = {when: mask_items(scores, seen).argsort(dim=1, descending=True, stable=True)
              for when, scores in (("before", before), ("after", after))}  # fmt: skip
    for row, swap in enumerate(swaps):
        if swap.added is None or swap.removed is None:
            continue
        had = set(seen[row])
        tops = [set(order[row, :TOP].tolist()) for order in orders.values()]
        found["overlap"][row] = len(tops[0] & tops[1]) / len(tops[0])
        for when, order in orders.items():
            ranks = order[row].argsort() + 1
            for of, item in (("added", swap.added), ("removed", swap.removed)):
                near = [other for other in world.neighbours[item] if other not in had]
                if item not in had:
                    found[f"{of} {when}"][row] = float(ranks[item])
                if near:
                    found[f"{of}'s neighbours {when}"][row] = float(ranks[near].float().mean())
    return found


def swap_figures(rows: Mapping[str, Tensor], users: np.ndarray, samples: int, seed: int) -> dict[str, Any]:
    """Means over the rows that :func:`swap_effects` has figures of, with 95 % intervals over users.

    Args:
        rows: its result.
        users: (E,) whose row it is.
        samples: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        The share of rows in which a title was ``swapped``, and per figure its interval; ``… moved`` is the rank after
        less that before, negative where the item rose. None where fewer than two users have such a row.
    """
    moved = {name.replace(" after", " moved"): value - rows[name.replace(" after", " before")]
             for name, value in rows.items() if name.endswith(" after")}  # fmt: skip
    found: dict[str, Any] = {"swapped": float((~rows["overlap"].isnan()).double().mean())}
    for name, value in {**rows, **moved}.items():
        if name == "seconds":
            continue
        there = ~value.isnan().numpy()
        values, own = value.double().numpy()[there], users[there]
        several = len(np.unique(own)) > 1
        found[name] = asdict(bootstrap_mean_interval(values, own, samples, seed)) if several else None
    return found


def controls_table(folder: Path) -> str:
    """Markdown table of the controls that stand in a folder, each against the same adapters' own reasonings.

    Where those were not read, each is held against nothing before the marker.

    Args:
        folder: ``results/controls/DATASET-PROFILE``; what it lacks is named below. Beside it stand ``swaps``.
    """
    reports = [report for path in sorted(folder.glob("*.json")) for report in load_reports(path)]
    arms = group_reports(reports) if reports else {}
    if not arms:
        return f"{NOTHING}\n"
    base, called = ("own", "its own") if "own" in arms else ("none", "nothing")
    rows = [f"| before the marker | runs | NDCG@20, 95 % | minus {called}, 95 % |", "|---|---|---|---|"]
    for control, arm in ((control, arms[control]) for control in REASONING_CONTROLS if control in arms):
        i, against = arm_interval(arm, METRIC), ""
        if control != base and (pair := on_shared_seeds(arm, arms.get(base, []))):
            against = f"{compare(*pair, METRIC, paired=True).interval:.3f}"
        rows.append(f"| {REASONING_CONTROLS[control]} | {len(arm)} | {i.mean:.3f}, {i:.3f to} | {against} |")
    missing = [what for control, what in REASONING_CONTROLS.items() if control not in arms]
    return "\n".join([*rows, *not_run_yet(missing), *_below(folder, reports)]) + "\n"


def _below(folder: Path, reports: Sequence[Report]) -> list[str]:
    """What was read, and what swapped titles moved."""
    first = reports[0]
    read = sorted({(one.run["seed"], one.run["settings"]["adapter"]) for one in reports})
    adapters = ", ".join(f"{digest} (seed {seed})" for seed, digest in read)
    window = first.run["settings"]["profile"]["data"]["window"]
    lines = ["", f"{len(first.users)} rows of {len(np.unique(first.users))} users, {window} lines of history; "
             f"adapters by the hash of their weights: {adapters}."]  # fmt: skip
    for path in sorted((folder.parent / "swaps" / folder.name).glob("*.json")):
        kept = read_json(path, "figures", "seed")
        figures = kept["figures"]
        lines += ["", f"Seed {kept['seed']}: a title could be swapped in {figures['swapped']:.0%} of the texts, the "
                  "others are read as they were."]  # fmt: skip
        ranks = [(what, *(figures.get(f"{of} {when}") for when in ("before", "after", "moved")))
                 for what, of in SWAP_RANKS.items()]  # fmt: skip
        ranks = [(what, *spans) for what, *spans in ranks if all(spans)]
        if ranks:
            lines[-1] += f" Of the first {TOP}, {Interval(**figures['overlap']):.2f} stay; mean ranks, 1 the best:"
            lines += ["", "| of | rows | before | after | moved, 95 % |", "|---|---|---|---|---|"]
        for what, before, after, moved in ranks:
            lines.append(f"| {what} | {moved['rows']} | {before['mean']:.1f} | {after['mean']:.1f} "
                         f"| {Interval(**moved):.1f} |")  # fmt: skip
    return lines
