"""The ceiling: what a reasoning is worth when it need not be written.

A skill's text, computed and not generated, is given behind every prompt, and the states are trained behind it, on the
same targets in the same order as behind the bare prompt. A skill that doesn't help when it is given without a fault
can't help when it is written. A control that cheats, by naming the target's own genres, shows whether states read text
at all. Fixed beforehand: NDCG@20 on all of valid, margin 7 % of the bare prompt's, two one-sided tests at 5 %.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from rrec_lib.core.profiles import load_profile
from rrec_lib.core.reading import check_same
from rrec_lib.core.results import describe_run
from rrec_lib.data.examples import Example, prepare_profile
from rrec_lib.evaluation.equivalence import decide
from rrec_lib.evaluation.evaluate import evaluate_scores
from rrec_lib.evaluation.reports import Report, data_hash, load_reports, save_reports
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.experiments.ablations import NOT_RUN
from rrec_lib.experiments.reference import METRIC
from rrec_lib.experiments.runner import SETTINGS, WINDOW, Options
from rrec_lib.experiments.verdict import MARGIN
from rrec_lib.model.frozen_states import FrozenStates, kept_frozen
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.model.prompts import MARKER, encode_items, encode_users
from rrec_lib.recommend.controls import cheat
from rrec_lib.training.callbacks import SPENT, TARGETS
from rrec_lib.training.run_folder import settings_of
from rrec_lib.training.skills import SKILLS, World, world_of
from rrec_lib.training.stages import warm_up

BARE, CHEAT = "bare prompt", "the target's genres (cheats)"
GIVEN = (BARE, "association", CHEAT, "taste", "drift", "idle")  # in the order of the runs; if time ends, the last go
STEPS = 150

Text = Callable[[Example], str]


def run_ceiling(options: Options, names: Sequence[str] = GIVEN, steps: int = STEPS, seed: int = 0) -> None:
    """Train states behind each text, or go on with them, and write their reports on all of valid.

    Args:
        options: profile, overrides and folders; its hours don't count.
        names: of :data:`GIVEN`.
        steps: optimiser steps of each.
        seed: of LoRA weights and order.

    Raises:
        ValueError: if a report or a folder is of a run with other settings.
    """
    print(describe_run(options.profile), flush=True)
    states_alone = {
        "model.dtype": "float32",
        "data.window": WINDOW,
        "warmup.token_weight": 0,
        "warmup.token_share": 0,
        "warmup.skills": [],
        "training.item_softmax": "batch",
    }
    profile = load_profile(options.profile, {**SETTINGS, **states_alone, **options.overrides})
    dataset = prepare_profile(profile)
    world = world_of(dataset)
    with kept_frozen(options.runs) as kept:
        for name in names:
            path, settings = _report(options.out, profile, name, seed), settings_of(profile, steps=steps)
            if path.is_file():
                check_same(
                    path, load_reports(path)[0].run.get("settings"), settings, "give the same ones, or move it away"
                )
                continue
            folder = options.runs / profile.name / f"{_slug(name)}-{seed}"
            policy = load_policy(profile.model, seed)
            text = text_of(name, world)
            trainer = warm_up(
                policy, dataset, profile, folder, seed, frozen=kept, texts=[text] if text else [], max_steps=steps
            )
            report, seconds = evaluate_given(policy, dataset, profile, trainer.frozen, name, text, seed)
            spent = next(row for row in reversed(trainer.state.log_history) if TARGETS in row)
            spent = {SPENT: spent[SPENT], TARGETS: spent[TARGETS]}
            made = {"settings": settings, **spent, "evaluation_cpu_seconds": seconds}
            save_reports(path, [report], profile.name, data_hash(dataset), seed, **made)
            print(f"{name}: valid NDCG@20 {report.interval(METRIC):.3f}", flush=True)


def text_of(name: str, world: World) -> Text | None:
    """The text that stands behind a prompt; None for the bare prompt."""
    if name == BARE:
        return None
    return partial(cheat if name == CHEAT else SKILLS[name], world=world)


def evaluate_given(
    policy: Policy, dataset: DatasetDict, profile: Any, frozen: FrozenStates, name: str, text: Text | None, seed: int
) -> tuple[Report, float]:
    """Report on all of valid, behind texts that are given, and the CPU seconds that it took."""
    start, items, valid = time.process_time(), list(dataset["items"]), list(dataset["valid"])
    table = frozen.encode(policy, encode_items(policy.tokenizer, items))
    endings = [f"{text(example)}\n{MARKER}" if text else MARKER for example in valid]
    said = policy.tokenizer(endings, add_special_tokens=False)["input_ids"]
    prompts = [a + b for a, b in zip(encode_users(policy.tokenizer, valid, items), said, strict=True)]
    states = FrozenStates(policy).encode(policy, prompts, description=f"valid behind {name}")
    scores = score_items(states, table, profile.reward.temperature)
    samples = profile.evaluation.bootstrap_samples
    return evaluate_scores(scores, valid, name, samples, seed), time.process_time() - start


def ceiling_table(source: Path, place: str = "movielens-cpu") -> str:
    """Each text's NDCG@20 on valid with its interval, and what is decided against the bare prompt, as Markdown.

    Args:
        source: the repository.
        place: data set and profile.
    """
    paths = {name: source / "results" / "ceiling" / place / f"{_slug(name)}-0.json" for name in GIVEN}
    found = {name: load_reports(path)[0] if path.is_file() else None for name, path in paths.items()}
    lines = ["| given behind the prompt | NDCG@20 on valid | 95 % | against the bare prompt |", "|---|---|---|---|"]
    bare = found[BARE]
    for name, report in found.items():
        if report is None:
            lines.append(f"| {name} | {NOT_RUN} | | |")
            continue
        interval = report.interval(METRIC)
        against = "" if name == BARE or bare is None else decide([report], [bare], METRIC, MARGIN).short
        lines.append(f"| {name} | {interval.mean:.3f} | {interval:.3f to} | {against} |")
    return "\n".join(lines) + "\n"


def _report(out: Path, profile: Any, name: str, seed: int) -> Path:
    return out / f"{Path(profile.data.dataset).name}-{profile.name}" / f"{_slug(name)}-{seed}.json"


def _slug(name: str) -> str:
    return name.split(" (")[0].replace("'", "").replace(" ", "-")
