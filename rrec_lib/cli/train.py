"""``rrec train``: run or resume the warm-up, RecPO, or both."""

import argparse

from rrec_lib.cli.checks import folder_to_write
from rrec_lib.core.profiles import Profile

SUMMARY = "run or resume the warm-up, RecPO, or both (notebook 06)"
EXAMPLES = (
    "rrec train --profile smoke --out run", "rrec train --out run --stage warmup",
    "rrec train --out run  # interrupted? the same command goes on from the last checkpoint",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", type=folder_to_write, required=True, help="folder of checkpoints and adapters")
    parser.add_argument(
        "--stage",
        default="both",
        choices=["warmup", "recpo", "both"],
        help="(default: both); recpo alone starts from the warm-up in --out, or from the recorded one",
    )
    parser.add_argument("--restart", action="store_true", help="delete the checkpoints in OUT and start anew")


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Train the stages and save their adapters."""
    from rrec_lib.core.processes import check_launch
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.training.stages import STAGES, make_adapters

    check_launch()
    stages = STAGES if arguments.stage == "both" else (arguments.stage,)
    make_adapters(profile, prepare_profile(profile), arguments.out, arguments.seed, stages, arguments.restart)


def remains(arguments: argparse.Namespace) -> str:
    """What an interrupted run leaves behind."""
    if arguments.out.is_dir():
        from rrec_lib.training.checkpoints import last_checkpoint

        found = [last_checkpoint(arguments.out / stage) for stage in ("recpo", "warmup")]
        if any(found):
            return f"{next(filter(None, found))} remains, and the same command goes on from there"
    return "there is no checkpoint yet, so the same command starts over"
