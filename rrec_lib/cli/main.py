"""The command line, `rrec COMMAND`: what each command takes, and how mistakes are reported."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rrec_lib.cli.baselines import baselines_options, run_baselines
from rrec_lib.cli.evaluate import compare_options, evaluate_options, run_compare, run_evaluate
from rrec_lib.cli.prepare import add_prepare, run_prepare
from rrec_lib.core.console import TrainingError, forgive_terminals, print_json
from rrec_lib.core.paths import replacing
from rrec_lib.core.profiles import Profile, available_profiles, load_profile, parse_overrides

Run = Callable[[argparse.Namespace, Profile], None]


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
        _parser().parse_args(argv, arguments)
        arguments.run(arguments, load_profile(arguments.profile, parse_overrides(arguments.set)))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, TrainingError) as problem:
        print(f"rrec: error: {' '.join(str(problem).split())}", file=sys.stderr)
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
    _recommend_options(
        _command(
            commands, "recommend", _recommend, "write a reasoning about a history, and list films",
            'rrec recommend "Alien (1979)" "Blade Runner (1982)" -k 5', 'rrec recommend "Alien=2.5" Amelie --json',
            'rrec recommend "Heat" --stage base  # the language model as published',
        )
    )  # fmt: skip
    add_prepare(
        _command(
            commands, "prepare", run_prepare,
            "write prepared data to a folder: a profile's MovieLens, a category of Amazon, or CSV files",
            "rrec prepare --out prepared", "rrec prepare --profile smoke --out prepared-smoke",
            "rrec prepare amazon --category Video_Games --out games", "rrec prepare csv --help",
        )
    )  # fmt: skip
    inspect = _command(
        commands, "inspect", _inspect, "show what a prepared folder holds: its data card (notebook 02)",
        "rrec inspect prepared", "rrec inspect prepared --markdown card.md --figure card.png",
    )  # fmt: skip
    inspect.add_argument("folder", type=Path, metavar="DIR", help="folder that rrec prepare has written")
    inspect.add_argument("--markdown", type=Path, help="also write the card as a Markdown page to this file")
    inspect.add_argument("--figure", type=Path, help="also draw popularity and time to this PNG file")
    train = _command(
        commands, "train", _train, "run or resume the warm-up, RecPO, or both (notebook 05)",
        "rrec train --profile smoke --out run", "rrec train --out run --stage warmup",
        "rrec train --out run  # interrupted? the same command goes on from the last checkpoint",
    )  # fmt: skip
    train.add_argument("--out", type=Path, required=True, help="folder of checkpoints and adapters")
    train.add_argument("--stage", default="both", choices=["warmup", "recpo", "both"], help="(default: both)")
    train.add_argument("--restart", action="store_true", help="delete the checkpoints in OUT and start anew")
    evaluate_options(
        _command(
            commands, "evaluate", run_evaluate, "rank the catalogue for held-out users, beside baselines (notebook 06)",
            "rrec evaluate", "rrec evaluate --stage warmup --split valid --sample 200",
            "rrec evaluate --adapter run/recpo-adapter --sample all --out report.json",
        ),
        _STAGES,
    )  # fmt: skip
    baselines_options(
        _command(
            commands, "baselines", run_baselines, "tune every baseline on valid and report them on test",
            "rrec baselines --out baselines", "rrec baselines --only EASE --only SASRec --trials 40 --out baselines",
        )
    )  # fmt: skip
    compare_options(
        _command(
            commands, "compare", lambda arguments, _: run_compare(arguments),
            "compare reports on the same rows, with intervals over users and seeds",
            "rrec compare report.json", "rrec compare seed0.json seed1.json --metric hit@10 --figure compare.png",
            profiled=False,
        )
    )  # fmt: skip
    _plan_options(
        _command(
            commands, "plan", _plan, "estimate memory, tokens and hours of a run on GPUs",
            "rrec plan --profile paper --gpus 4 --users-at-once 1",
            "rrec plan --profile paper --gpus 4 --model Qwen/Qwen2.5-3B-Instruct --full",
        )
    )  # fmt: skip
    return parser


def _command(  # type: ignore[no-untyped-def]
    commands, name: str, run: Run, summary: str, *examples: str, profiled: bool = True
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, profile="cpu", set=[])
    if not profiled:
        return parser
    parser.add_argument("--profile", default="cpu", help=f"{', '.join(available_profiles())} (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change one value of the profile, such as training.steps=100; may be repeated",
    )  # fmt: skip
    return parser


_STAGES = "base, warmup or recpo (default: recpo; without a recorded adapter, the stage before it)"


def _recommend_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("titles", nargs="*", metavar="TITLE", help='oldest first: "Alien (1979)", or rated "Alien=4.5"')
    parser.add_argument("-k", type=int, default=5, help="how many films (default: 5)")
    parser.add_argument("--stage", default="recpo", help=_STAGES)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _plan_options(parser: argparse.ArgumentParser) -> None:
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


def _plan(arguments: argparse.Namespace, profile: Profile) -> None:
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


def _recommend(arguments: argparse.Namespace, profile: Profile) -> None:
    titles, ratings = _rated(arguments.titles)
    if not titles:
        raise ValueError('the history is empty; name at least one film, such as: rrec recommend "Alien (1979)"')
    if arguments.k < 1:
        raise ValueError(f"-k must be at least 1, got {arguments.k}")
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.recommend.films import load_recommender, typed_example
    from rrec_lib.recommend.titles import find_items

    dataset = prepare_profile(profile)
    typed_example(find_items(titles, list(dataset["items"])), ratings)  # mistakes show before the model is loaded
    recommender = load_recommender(profile, arguments.stage, arguments.seed, dataset)
    answer = recommender.recommend(titles, ratings, arguments.k)
    if arguments.json:
        print_json(answer.as_dict())
        return
    fallback = "" if answer.stage == arguments.stage else f" (profile {profile.name} has no {arguments.stage} adapter)"
    left = len(titles) - len(answer.history)
    _say("It read", "; ".join(answer.history) + (f" (the last {len(answer.history)} of {len(titles)})" if left else ""))
    _say("It wrote", (answer.reasoning or "(nothing)") + ("" if answer.finished else " [unfinished]"))
    _say("Weights", answer.stage + fallback)
    print(f"\n{'rank':>4}  {'score':>8}  film")
    for place, item in enumerate(answer.items, 1):
        print(f"{place:>4}  {item.score:8.3f}  {item.name}")


def _say(label: str, text: str) -> None:
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    print(textwrap.fill(f"{label:<10}{text}", width, subsequent_indent=" " * 10))


def _rated(arguments: list[str]) -> tuple[list[str], list[float]]:
    titles, ratings = [], []
    for argument in arguments:
        title, equals, rating = argument.rpartition("=")
        try:
            ratings.append(float(rating) if equals else 4.0)
            titles.append(title if equals else argument)
        except ValueError:  # a title with an equals sign in it
            ratings.append(4.0)
            titles.append(argument)
    return titles, ratings


def _inspect(arguments: argparse.Namespace, profile: Profile) -> None:
    from rrec_lib.data.cards import card_markdown, card_text, data_card
    from rrec_lib.data.prepared import load_any, read_manifest

    dataset = load_any(arguments.folder)
    card = data_card(dataset, read_manifest(arguments.folder))
    print(card_text(card))
    if arguments.markdown is not None:
        with replacing(arguments.markdown) as page:
            page.write_text(card_markdown(card, f"Data card: {card['source']}"), encoding="utf-8")
        print(f"wrote {arguments.markdown}")
    if arguments.figure is not None:
        from rrec_lib.core.plotting import save, use_style
        from rrec_lib.data.cards import card_figure

        use_style()
        figure, alt = card_figure(dataset)
        save(figure, arguments.figure)
        print(f"wrote {arguments.figure}: {alt}")


def _train(arguments: argparse.Namespace, profile: Profile) -> None:
    from rrec_lib.core.processes import check_launch
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.training.stages import STAGES, make_adapters

    check_launch()
    stages = STAGES if arguments.stage == "both" else (arguments.stage,)
    make_adapters(profile, prepare_profile(profile), arguments.out, arguments.seed, stages, arguments.restart)


def _remains(arguments: argparse.Namespace) -> str:
    """What an interrupted command leaves behind."""
    if arguments.command == "baselines":
        return "finished trials and reports remain, and the same command goes on from there"
    if arguments.command != "train":
        return "nothing was written"
    if arguments.out.is_dir():
        from rrec_lib.training.checkpoints import last_checkpoint

        found = [last_checkpoint(arguments.out / stage) for stage in ("recpo", "warmup")]
        if any(found):
            return f"{next(filter(None, found))} remains, and the same command goes on from there"
    return "there is no checkpoint yet, so the same command starts over"
