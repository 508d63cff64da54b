"""An audit of sampled reasonings: what an adapter writes for test users, parsed and checked, as a record."""

import time
from collections.abc import Sequence
from pathlib import Path

from rrec_lib.core.reading import check_same, read_json
from rrec_lib.core.results import plain, provenance, write_json
from rrec_lib.evaluation.evaluate import sample_examples
from rrec_lib.evaluation.reports import data_hash
from rrec_lib.experiments.readings import load_read, reading
from rrec_lib.experiments.runner import Options
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.skill_audit import audit
from rrec_lib.training.skills import world_of

ROWS = 300


def run_audit(options: Options, adapter: Path, seed: int = 0, rows: int = ROWS) -> Sequence[str]:
    """Sample a reasoning for each of some test rows, audit them, and write the figures; no text is kept.

    Args:
        options: of :func:`rrec_lib.experiments.readings.what_to_read`.
        adapter: folder of the adapter.
        seed: of the rows and of sampling.
        rows: how many, spread over the users as evenly as they allow.

    Returns:
        The bars that are missed, in words.

    Raises:
        ValueError: if the record is of a run with other settings.
    """
    run = reading(options, "audit", "own", seed, adapter, audited_rows=rows)
    if run.report.is_file():
        kept = read_json(run.report, "settings", "figures")
        check_same(run.report, kept["settings"], run.settings, "give the same ones, or move it away")
        print(f"{run.report} is there already; {_told(kept['figures']['missed'])}")
        return kept["figures"]["missed"]
    policy, dataset = load_read(run, adapter)
    test, world = list(dataset["test"]), world_of(dataset)
    examples = sample_examples(test, rows, _even_cap(test, rows), seed)
    recommender, start = ReasoningRecommender(policy, list(dataset["items"]), run.profile), time.process_time()
    written = recommender.reason(examples, run.profile.rollouts.temperature, seed)
    writing = {"cpu_seconds_per_row": (time.process_time() - start) / len(examples)}
    found = audit(written.texts, examples, world)
    head = {"name": run.name, "profile": run.profile.name, **provenance(seed), "data": data_hash(dataset)}
    figures = {**found.figures(), "finished_share": written.finished_fraction}
    write_json(
        run.report,
        {
            **head,
            "settings": run.settings,
            "rows": len(examples),
            "writing": writing,
            "figures": plain(figures, run.name),
        },
    )
    print(f"{found.texts} reasonings, {_told(found.missed)}: {run.report}", flush=True)
    return found.missed


def _told(missed: Sequence[str]) -> str:
    return f"bars missed: {', '.join(missed)}" if missed else "every bar is reached"


def _even_cap(examples: Sequence[dict], rows: int) -> int:
    """The smallest number of rows a user at which there are as many as asked for, if there are."""
    owned: dict[object, int] = {}
    for example in examples:
        owned[example["user_id"]] = owned.get(example["user_id"], 0) + 1
    most = max(owned.values())
    return next((cap for cap in range(1, most) if sum(min(cap, own) for own in owned.values()) >= rows), most)
