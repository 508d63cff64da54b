"""The ablations of RecPO on MovieLens: every line from the same warm-up, with the same budget of CPU time.

Each line turns one knob of RecPO and trains from the warm-up of the reference run, a quarter of that run's budget long.
Two go on with the warm-up in RecPO's place: *warm-up goes on* as it was, *without reasoning* with the state behind the
bare prompt. *Without warm-up* has the warm-up's budget on top of its own. *Warm-up alone* is where all start. It trains
nothing, and nor do *shipped adapter* and the controls, which read it with something else before the marker. Both
adapters come with the project. Stopped and started again, the script goes on from the last evaluation. Reports, on a
few test rows of each user, stand in results/ablations/DATASET-PROFILE/, which notebook 08 reads.

    python scripts/ablations.py --lines full RLOO "G = 2"
"""

import argparse
from pathlib import Path
from typing import Any

from reference_run import (
    ENDLESS,
    EVERY,
    OF_ARM,
    SETTINGS,
    WARMUP_SHARE,
    finished,
    judge,
    place,
    train_states,
    valid_rows,
    write_report,
)

from rrec_lib.core.console import forgive_terminals
from rrec_lib.core.paths import REPOSITORY, resource
from rrec_lib.core.profiles import available_profiles, load_profile, parse_overrides
from rrec_lib.core.results import describe_run
from rrec_lib.data.examples import prepare_profile
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.experiments.ablations import FULL, SHIPPED
from rrec_lib.model.adapters import load_adapter
from rrec_lib.model.policy import load_policy
from rrec_lib.training.run_folder import settings_of
from rrec_lib.training.stages import save_stage, train_recpo

WITHOUT, GOES_ON, WARM_UP, FROM_NOTHING = "without reasoning", "warm-up goes on", "warm-up alone", "without warm-up"
OVER_BATCH = {"training.item_softmax": "batch", "training.item_negatives": 0}
# Profile values. A batch keeps its number of reasonings.
LINES: dict[str, dict[str, Any]] = {
    FULL: {},
    WITHOUT: OF_ARM["none"],
    GOES_ON: OF_ARM["own"],
    "contrastive only": {"training.token_weight": 0.0},
    "without R_d": {"reward.beta": 1.0},
    "without R_c": {"reward.beta": 0.0},
    "RLOO": {"training.advantage": "rloo"},
    "G = 2": {"rollouts.group_size": 2, "training.users_per_step": 16},
    "G = 8": {"rollouts.group_size": 8, "training.users_per_step": 4},
    "temperature 0.7": {"rollouts.temperature": 0.7},
    "temperature 1.5": {"rollouts.temperature": 1.5},
    "in-batch softmax": OVER_BATCH,
    "logQ correction": {**OVER_BATCH, "training.logq_correction": True},
    FROM_NOTHING: {},
}
# Stage of the adapter that is read, and what stands before the marker.
READ = {
    WARM_UP: ("warmup", "own"), SHIPPED: ("recpo", "own"), "random text": ("recpo", "random"),
    "another user's reasoning": ("recpo", "other"), "shuffled history": ("recpo", "shuffled"),
}  # fmt: skip


def main() -> None:
    forgive_terminals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another profile value")
    parser.add_argument("--lines", nargs="+", default=[*LINES, *READ], choices=[*LINES, *READ])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=0.25, help="CPU hours of training a line (default: 0.25)")
    parser.add_argument("--every", type=int, default=EVERY[1], help="steps between evaluations (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=300, help="rows of valid that decide (default: 300)")
    parser.add_argument("--test-rows", type=int, default=8, help="test rows of a user at most (default: 8)")
    parser.add_argument(
        "--warmup-hours", type=float, default=WARMUP_SHARE, help="what the warm-up had (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=Path, help="adapter that lines start from (default: the shipped one)")
    parser.add_argument("--recpo", type=Path, help="adapter that controls read (default: the shipped one)")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="checkpoints (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=(REPOSITORY or Path()) / "results" / "ablations")
    arguments = parser.parse_args()
    print(describe_run(arguments.profile), flush=True)
    shipped = load_profile(arguments.profile).adapters
    for stage in {READ[line][0] if line in READ else "warmup" for line in arguments.lines}:
        folder = getattr(arguments, stage) or (resource(shipped[stage]) if shipped.get(stage) else None)
        if folder is None or not folder.is_dir():
            parser.error(f"no adapter {folder or 'is shipped for this profile'}; name one with --{stage}")
        setattr(arguments, stage, folder)
    for line in arguments.lines:
        run(line, arguments)


def run(line: str, arguments: argparse.Namespace) -> None:
    """Train one line, or go on with it, and write its report."""
    knobs = LINES.get(line, {})
    profile = load_profile(arguments.profile, {**SETTINGS, **parse_overrides(arguments.set), **knobs})
    runs, name = arguments.runs / place(profile), f"{line.replace(' ', '-')}-{arguments.seed}"
    stage, control = READ.get(line, ("warmup", "none" if line == WITHOUT else "own"))
    hours = arguments.hours + (arguments.warmup_hours if line == FROM_NOTHING else 0)
    report, folder = arguments.out / place(profile) / f"{name}.json", runs / name
    settings = settings_of(
        profile, hours=hours, every=arguments.every, rows=arguments.rows, test_rows=arguments.test_rows
    )
    adapter, shipped = getattr(arguments, stage), profile.adapters.get(stage)
    if line != FROM_NOTHING and adapter != (resource(shipped) if shipped else None):
        settings["adapter"] = "/".join(adapter.absolute().parts[-2:])
    if not finished(folder, report, settings):
        dataset = prepare_profile(profile)
        policy = load_policy(profile.model, arguments.seed)
        catalogue = catalogue_hash(dataset["items"])
        if line != FROM_NOTHING:
            load_adapter(policy, adapter, catalogue)
        if line not in READ:
            valid = valid_rows(profile, dataset, arguments.rows, arguments.seed)
            stop = judge(policy, profile, dataset, valid, control, arguments.every, 3600 * hours)
            print(f"{line}, seed {arguments.seed}: training", flush=True)
            trainer: Any
            if line in (WITHOUT, GOES_ON):
                trainer = train_states(policy, dataset, profile, folder / "training", arguments.seed, stop)
            else:
                output = folder / "training"
                trainer = train_recpo(policy, dataset, profile, output, arguments.seed, stop=stop, max_steps=ENDLESS)
            save_stage(policy, trainer, folder / "adapter", dataset, profile, arguments.seed)
        write_report(
            report,
            policy,
            profile,
            dataset,
            line,
            control,
            arguments.seed,
            folder,
            settings,
            rows_per_user=arguments.test_rows,
        )
    print(f"{line}, seed {arguments.seed}: {report}", flush=True)


if __name__ == "__main__":
    main()
