"""``rrec recommend``: film titles in, a reasoning and a ranked list out."""

import argparse
import shutil
import textwrap
from pathlib import Path

from rrec_lib.cli.checks import with_adapter
from rrec_lib.core.console import print_json
from rrec_lib.core.profiles import Profile

SUMMARY = "write a reasoning about a history, and list films"
EXAMPLES = (
    'rrec recommend "Alien (1979)" "Blade Runner (1982)" -k 5', 'rrec recommend "Alien=2.5" Amelie --json',
    'rrec recommend "Heat" --stage base  # the language model as published',
)  # fmt: skip
STAGES = "base, warmup or recpo (default: recpo; without a recorded adapter, the stage before it)"


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("titles", nargs="*", metavar="TITLE", help='oldest first: "Alien (1979)", or rated "Alien=4.5"')
    parser.add_argument("-k", type=int, default=5, help="how many films (default: 5)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--stage", default="recpo", help=STAGES)
    weights.add_argument("--adapter", type=Path, metavar="DIR", help="adapter of your own, which rrec train has saved")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Print what it read, what it wrote, and the list."""
    titles, ratings = _rated(arguments.titles)
    if not titles:
        raise ValueError('the history is empty; name at least one film, such as: rrec recommend "Alien (1979)"')
    if arguments.k < 1:
        raise ValueError(f"-k must be at least 1, got {arguments.k}")
    if arguments.adapter is not None:
        profile = with_adapter(profile, arguments.adapter)
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
