"""``rrec evaluate``: rank the catalogue for held-out users, beside baselines."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrec_lib.cli.checks import file_to_write, seed, with_adapter
from rrec_lib.cli.recommend import STAGES
from rrec_lib.core.profiles import Profile
from rrec_lib.evaluation.own import load_factory, make_recommender

if TYPE_CHECKING:  # torch takes seconds to import; mistakes in the arguments show before
    from datasets import DatasetDict

    from rrec_lib.evaluation.evaluate import Recommender

SUMMARY = "rank the catalogue for held-out users, beside baselines (notebook 07)"
EXAMPLES = (
    "rrec evaluate", "rrec evaluate --stage warmup --split valid --sample 200",
    "rrec evaluate --adapter run/recpo-adapter --sample all --out report.json",
    "rrec evaluate --recommender my_module:MyRecommender --sample all --out report.json",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--stage", default="recpo", help=STAGES)
    weights.add_argument("--adapter", type=Path, help="folder of an adapter, such as OUT/recpo-adapter of rrec train")
    weights.add_argument("--recommender", metavar="MODULE:FACTORY", help="one of your own: a class or function that is "
                         "given the training and valid rows and makes an object with scores(examples)")  # fmt: skip
    parser.add_argument("--split", default="test", choices=["valid", "test"], help="(default: test)")
    parser.add_argument("--sample", help="how many rows, or 'all' (default: the profile's sample, capped per user)")
    parser.add_argument("--sample-seed", type=seed, default=0, help="of the sample and the intervals (default: 0)")
    parser.add_argument(
        "--name", help="of the model in tables; runs with several seeds share it (default: its weights)"
    )
    parser.add_argument("--out", type=file_to_write, help="also write the reports to this JSON file, for rrec compare")


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Rank the catalogue for held-out users with the model and the baselines, print the table, write the reports."""
    settings = profile.evaluation
    rows = None if arguments.sample == "all" else _rows(arguments.sample, settings.sample_size)
    if arguments.adapter is not None:
        profile = with_adapter(profile, arguments.adapter)
    if arguments.recommender is not None:
        load_factory(arguments.recommender)  # mistakes show before the data is read
    from rrec_lib.baselines import fitted_baselines
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.evaluation.evaluate import evaluate, sample_examples, training_counts
    from rrec_lib.evaluation.reports import data_hash, save_reports

    dataset = prepare_profile(profile)
    seed = arguments.sample_seed  # not that of the run, so that runs with several seeds see the same rows
    own = _trained(arguments, profile, dataset) if arguments.recommender is None else _made(arguments, dataset)
    examples = list(dataset[arguments.split])
    if rows is not None:
        examples = sample_examples(examples, rows, settings.max_rows_per_user, seed)
    counts = training_counts(dataset["train"], len(dataset["items"]))
    findings = own.check(examples)
    rivals = fitted_baselines(dataset)
    if own.name in rivals:  # before anything is ranked
        raise ValueError(f"{own.name!r} is a baseline's name; give another with --name")
    reports = [evaluate(one, examples, name, settings.bootstrap_samples, seed, counts) for name, one in rivals.items()]
    reports.append(evaluate(own.model, examples, own.name, settings.bootstrap_samples, seed, counts, findings=findings))
    print(f"{len(examples)} rows of {arguments.split}, {len(set(reports[0].users.tolist()))} users, ", end="")
    print(f"{reports[0].repeats} repeats; mean with its 95 % interval over users")
    width = max(len(report.name) for report in reports)
    for report in reports:
        found = report.figures()["metrics"]
        cells = [f"{metric} {_with_interval(found[metric])}" for metric in ("hit@20", "ndcg@20")]
        print(f"  {report.name:{width}}  {'   '.join(cells)}")
    for report in reports:
        for line in report.warnings:
            print(f"note on {report.name}: {line}")
    if arguments.out is not None:  # behind the table, which a full disk then leaves
        save_reports(arguments.out, reports, profile.name, data_hash(dataset), own.seed, **own.notes)
        print(f"wrote {arguments.out}")


@dataclass(frozen=True)
class _Own:
    """What is evaluated beside the baselines: its name, the seed of its training, its own checks, notes for reports."""

    model: "Recommender"
    name: str
    seed: int
    check: Callable[[Sequence[Any]], Sequence[Any]] = lambda examples: ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def _trained(arguments: argparse.Namespace, profile: Profile, dataset: "DatasetDict") -> _Own:
    """The language model, with its adapter or as published."""
    from rrec_lib.recommend.films import load_recommender
    from rrec_lib.training.run_folder import settings_of
    from rrec_lib.training.stages import adapter_card

    recommender = load_recommender(profile, arguments.stage, arguments.seed, dataset)
    stage = recommender.stage
    card = adapter_card(profile, stage) if stage != "base" else {"seed": arguments.seed}
    reading = settings_of(profile)["profile"]
    settings = {name: reading[name] for name in ("model", "data", "rollouts", "reward")}
    notes = {"settings": {**settings, "trained": card.get("settings")}}  # seeds of one arm have the same
    name = arguments.name or f"R²ec ({stage if arguments.adapter is None else arguments.adapter.name})"
    return _Own(
        recommender.model,
        name,
        card["seed"],
        lambda rows: recommender.model.check(rows, name, trained=stage != "base"),
        notes,
    )


def _made(arguments: argparse.Namespace, dataset: "DatasetDict") -> _Own:
    """A recommender of the reader's own, fitted by its factory; what its ``parameters`` say stands in the report."""
    import random

    import numpy as np
    import torch

    from rrec_lib.baselines.registry import Splits

    random.seed(arguments.seed)
    np.random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    model, digest = make_recommender(arguments.recommender, Splits.of(dataset))
    name, chosen = arguments.name or arguments.recommender.partition(":")[2], getattr(model, "parameters", {})
    notes = {
        "settings": {"recommender": arguments.recommender, "source": digest},
        "made": {name: {"parameters": chosen if isinstance(chosen, dict) else {}}},  # a torch module's is a function
    }
    return _Own(model, name, arguments.seed, notes=notes)


def _with_interval(found: Mapping[str, float | None]) -> str:
    bounds = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"  # of one user there is none
    return f"{found['mean']:.3f}{bounds}"


def _rows(given: str | None, default: int) -> int:
    if given is None:
        return default
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"--sample takes a number of rows from 1 up, or 'all', got {given!r}")
    return int(given)
