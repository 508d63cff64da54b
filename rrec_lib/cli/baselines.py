"""``rrec baselines``: tune every baseline on valid, and report the tuned ones on test."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rrec_lib.cli.checks import folder_to_write
from rrec_lib.core.profiles import Profile

SUMMARY = "tune every baseline on valid and report them on test"
EXAMPLES = (
    "rrec baselines --out baselines", "rrec baselines --only EASE --only SASRec --trials 40 --out baselines",
    "rrec baselines --only BigRec --hours 1 --out baselines",
)  # fmt: skip
DEFAULT_TRIALS = 20


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="a baseline; may be repeated. The others' reports are kept (default: all but those that need a language"
        " model, most of which take hours)",
    )
    parser.add_argument("--trials", type=int, help=f"points drawn from each search space (default: {DEFAULT_TRIALS}, "
                        "or all of them with --minutes)")  # fmt: skip
    parser.add_argument("--minutes", type=float, help="CPU minutes for each baseline's search, those of an earlier "
                        "call included; no trial is started after them")  # fmt: skip
    parser.add_argument("--hours", type=float, default=1.0, help="CPU hours that a language model is trained for, at "
                        "each point of its search (default: 1)")  # fmt: skip
    parser.add_argument("--every", type=int, default=50, help="steps between its looks at valid (default: 50)")
    parser.add_argument("--beams", type=int, default=50, help="of the search by which it ranks; 0 ranks exactly "
                        "(default: 50)")  # fmt: skip
    parser.add_argument("--out", type=folder_to_write, required=True, help="folder of the searches, of reports.json "
                        "and of checkpoints; what stands there is gone on with")  # fmt: skip


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Tune, evaluate on all rows of test, print the table and write the reports."""
    trials, minutes = arguments.trials, arguments.minutes
    if trials is not None and trials < 1:
        raise ValueError(f"--trials takes a number from 1 up, got {trials}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"--minutes takes a number above 0, got {minutes}")
    if not arguments.hours > 0 or arguments.every < 1 or arguments.beams < 0:
        raise ValueError("--hours takes a number above 0, --every one from 1 and --beams one from 0 up, got "
                         f"{arguments.hours:g}, {arguments.every} and {arguments.beams}")  # fmt: skip
    if trials is None and minutes is None:
        trials = DEFAULT_TRIALS
    from rrec_lib.baselines import BASELINES
    from rrec_lib.baselines.registry import Means, Splits
    from rrec_lib.baselines.tuning import fit_tuned, known, search_file, tune
    from rrec_lib.core.paths import one_at_a_time
    from rrec_lib.core.results import provenance
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.evaluation.checks import check_blind
    from rrec_lib.evaluation.evaluate import BLIND_ROWS, evaluate, training_counts
    from rrec_lib.evaluation.reports import save_reports

    names = arguments.only or [name for name, one in BASELINES.items() if not one.only_named]
    for name in names:
        known(name)
    dataset, seed = prepare_profile(profile), arguments.seed
    means = Means(profile, arguments.out, arguments.hours, arguments.every, arguments.beams or None)
    splits, test = Splits.of(dataset, means), list(dataset["test"])
    if len({row["user_id"] for row in test}) < 2:
        raise ValueError("all rows of test are one user's, and intervals are over users; prepare data of more")
    counts = training_counts(dataset["train"], splits.n_items)
    path = arguments.out / "reports.json"
    _earlier(path, splits.data)  # before any work
    width = max(map(len, names))
    print(f"{len(test)} rows of test; NDCG@20 with its 95 % interval over users, and what valid chose")
    for name in names:
        tuned = tune(name, splits, trials, seed, arguments.out / search_file(name), minutes)
        model, findings = fit_tuned(tuned, splits, seed), []
        if BASELINES[name].trains_language_model:
            from rrec_lib.baselines.generative.recommender import kept_scores

            findings = [check_blind(model.scores, test[:BLIND_ROWS], name)]  # what is kept would repeat itself
            model = kept_scores(model, name, tuned.parameters, splits, seed)
        report = evaluate(model, test, name, profile.evaluation.bootstrap_samples, seed, counts, findings=findings)
        chosen = ", ".join(f"{key} {value}" for key, value in tuned.parameters.items())
        print(f"  {name:{width}}  {report.interval('ndcg@20'):.4f}  {chosen}", flush=True)
        one = {"parameters": tuned.parameters, **{key: provenance(seed)[key] for key in ("commit", "time", "seed")}}
        if BASELINES[name].trains_language_model:
            one |= {"hours": arguments.hours, "beams": arguments.beams}
        arguments.out.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(arguments.out):  # another may have written meanwhile
            reports, made = _earlier(path, splits.data)
            reports[name], made[name] = replace(report, run={"data": splits.data}), one
            save_reports(path, list(reports.values()), profile.name, splits.data, seed, made=made)
    print(f"wrote {path}; compare with: rrec compare {path} ...")


def _earlier(path: Path, data: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reports that a file holds, and how each was made; both empty if there is none.

    Raises:
        ValueError: if they are of other data.
    """
    from rrec_lib.evaluation.reports import load_reports

    reports = {report.name: report for report in load_reports(path)} if path.exists() else {}
    if any(report.run.get("data") != data for report in reports.values()):
        raise ValueError(f"{path} is of other data; give another folder with --out")
    return reports, {name: report.run.get("made", {}).get(name, {}) for name, report in reports.items()}


def remains(arguments: argparse.Namespace) -> str:
    """What an interrupted search leaves behind."""
    return "finished trials and reports remain, and the same command goes on from there"
