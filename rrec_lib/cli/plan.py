"""``rrec plan``: what a run on GPUs will take."""

import argparse

from rrec_lib.core.console import print_json
from rrec_lib.core.profiles import Profile

SEEDED = False
SUMMARY = "estimate memory, tokens and hours of a run on GPUs"
EXAMPLES = (
    "rrec plan --profile paper --gpus 4 --users-at-once 1",
    "rrec plan --profile paper --gpus 4 --model Qwen/Qwen2.5-3B-Instruct --full",
)


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--gpus", type=int, default=1, help="(default: 1)")
    parser.add_argument("--zero", type=int, default=2, help="DeepSpeed's ZeRO stage, 0 to 3 (default: 2)")
    parser.add_argument("--model", help="another model: a name, hub id or folder (default: the profile's)")
    parser.add_argument("--full", action="store_true", help="train all weights instead of LoRA")
    parser.add_argument("--users-at-once", type=int, help="users in one pass on one GPU (default: the profile's)")
    parser.add_argument("--prompt-tokens", type=int, help="length of a prompt (default: a guess from the window)")
    parser.add_argument("--optimizer-bits", type=int, default=32, help="32, or 8 for bitsandbytes (default: 32)")
    parser.add_argument("--item-tokens", type=int, help="length of an item's prompt (default: a film's)")
    parser.add_argument("--dtype", help="float16 for GPUs without bfloat16, or float32 (default: the profile's)")
    for verb in ("sampled", "trained"):
        parser.add_argument(f"--{verb}-tokens-per-second", type=float, metavar="RATE", help="of one GPU; for the hours")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Print the plan."""
    from rrec_lib.plan.estimate import make_plan, plan_table, with_model

    profile = with_model(profile, arguments.model, arguments.full, arguments.dtype)
    names = ("users_at_once", "prompt_tokens", "item_tokens", "optimizer_bits")
    options = {name: getattr(arguments, name) for name in names}
    given = arguments.sampled_tokens_per_second, arguments.trained_tokens_per_second
    if (given[0] is None) != (given[1] is None):
        raise ValueError("hours need both --sampled-tokens-per-second and --trained-tokens-per-second")
    plan = make_plan(profile, arguments.gpus, arguments.zero, rates=None if given[0] is None else given, **options)
    if arguments.json:
        print_json(plan.as_dict())
    else:
        print(plan_table(plan, profile, arguments.gpus, arguments.zero))
