"""The command line, `rrec COMMAND`: what each command takes, and how mistakes are reported."""

import argparse
import os
import sys
from typing import Any, NoReturn

from rrec_lib.cli import baselines, compare, demo, evaluate, inspect, leaderboard, plan, prepare, recommend, train
from rrec_lib.cli.checks import seed
from rrec_lib.core.console import TrainingError, forgive_terminals, sentence
from rrec_lib.core.profiles import USUAL, available_profiles, load_profile, parse_overrides

# A command is a module: SUMMARY, EXAMPLES, options(parser), run(arguments, profile); remains(arguments), where an
# interruption leaves something; PROFILED = False where no profile is read, SEEDED = False where nothing is drawn.
COMMANDS = {
    "recommend": recommend, "prepare": prepare, "inspect": inspect, "train": train, "evaluate": evaluate,
    "baselines": baselines, "compare": compare, "leaderboard": leaderboard, "plan": plan, "demo": demo,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments; those of the process if not given.

    Returns:
        0; 2 after a mistake, which prints one sentence; 130 after an interruption, which says what remains.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    forgive_terminals()
    arguments = argparse.Namespace(command=None)
    try:
        _, rest = _parser().parse_known_args(argv, arguments)
        if rest:
            raise ValueError(f"unrecognized arguments: {' '.join(rest)}; see `rrec {arguments.command} --help`")
        arguments.run(arguments, load_profile(arguments.profile, parse_overrides(arguments.set)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, TrainingError) as problem:
        print(f"rrec: error: {sentence(problem)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"rrec: interrupted; {_remains(arguments)}", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Mistakes in the arguments are reported as all others are: one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rrec",
        description="Reasoning recommenders, rebuilt: a language model that writes before it ranks.",
        epilog='example:\n  rrec recommend "Alien (1979)" "Blade Runner (1982)" -k 5\n\n'
        "`rrec COMMAND --help` has more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for name, module in COMMANDS.items():
        _add(commands, name, module)
    return parser


def _add(commands: Any, name: str, module: Any) -> None:
    parser = commands.add_parser(
        name,
        help=module.SUMMARY,
        description=module.SUMMARY[0].upper() + module.SUMMARY[1:] + ".",
        epilog="\n  ".join(["examples:", *module.EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=module.run, profile=USUAL, set=[])
    if getattr(module, "PROFILED", True):
        names = ", ".join(available_profiles())
        parser.add_argument("--profile", default=USUAL, help=f"{names} (default: {USUAL})")
        if getattr(module, "SEEDED", True):
            parser.add_argument("--seed", type=seed, default=0, help="(default: 0)")
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE",
            help="change one value of the profile, such as training.steps=100; may be repeated",
        )  # fmt: skip
    module.options(parser)


def _remains(arguments: argparse.Namespace) -> str:
    """What an interrupted command leaves behind."""
    module: Any = COMMANDS.get(arguments.command)
    return module.remains(arguments) if hasattr(module, "remains") else "nothing was written"
