"""The command line: ``rrec recommend``, ``prepare``, ``train`` and ``evaluate``."""

import argparse
import json
import os
import sys
from pathlib import Path

from rrec_lib.profiles import Profile, available_profiles, load_profile


def main(argv: list[str] | None = None) -> int:
    """Run one command; a mistake prints one sentence and returns 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = _parser().parse_args(argv)
    try:
        profile = load_profile(arguments.profile)
        arguments.run(arguments, profile)
    except (ValueError, FileNotFoundError, FileExistsError) as problem:
        print(f"rrec: error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rrec: interrupted; checkpoints stay, and the same command goes on from the last one", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        sys.stdout = None  # type: ignore[assignment]
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rrec",
        description="Reasoning recommenders, rebuilt.",
        epilog='example: rrec recommend "Alien (1979)" "Blade Runner (1982)" -k 5',
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    recommend = _command(commands, "recommend", _recommend, "a reasoning and a list of films for a history")
    recommend.add_argument("titles", nargs="*", metavar="TITLE", help='oldest first: "Alien (1979)", or "Alien=4.5"')
    recommend.add_argument("-k", type=int, default=5, help="how many films (default: 5)")
    recommend.add_argument("--stage", help="base, warmup or recpo (default: the last that is recorded)")
    recommend.add_argument("--json", action="store_true", help="print JSON, for programs")

    prepare = _command(commands, "prepare", _prepare, "write the prepared data of a profile to a folder")
    prepare.add_argument("--out", type=Path, required=True, help="new folder, or one of prepared data to replace")

    train = _command(commands, "train", _train, "run or resume the format warm-up, RecPO, or both")
    train.add_argument("--out", type=Path, required=True, help="folder of checkpoints and adapters")
    train.add_argument("--stage", default="both", choices=["warmup", "recpo", "both"], help="(default: both)")

    evaluate = _command(commands, "evaluate", _evaluate, "rank the catalogue for test users, beside simple baselines")
    evaluate.add_argument("--stage", help="base, warmup or recpo (default: the last that is recorded)")
    evaluate.add_argument("--adapter", type=Path, help="folder of an adapter, such as OUT/recpo-adapter of rrec train")
    evaluate.add_argument("--split", default="test", choices=["valid", "test"], help="(default: test)")
    evaluate.add_argument("--sample", help="rows, or 'all' (default: the profile's capped sample)")
    evaluate.add_argument("--out", type=Path, help="also write the report to this JSON file")
    return parser


def _command(commands, name, run, summary):  # type: ignore[no-untyped-def]
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.add_argument("--profile", default="cpu", help=f"{', '.join(available_profiles())} (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.set_defaults(run=run)
    return parser


def _recommend(arguments: argparse.Namespace, profile: Profile) -> None:
    titles, ratings = _rated(arguments.titles)
    if not titles:
        raise ValueError('name at least one film, such as: rrec recommend "Alien (1979)"')
    from rrec_lib.recommend import FilmRecommender

    answer = FilmRecommender(profile, stage=arguments.stage, seed=arguments.seed).recommend(
        titles, ratings, arguments.k
    )
    if arguments.json:
        print(json.dumps(answer.as_dict(), indent=1, ensure_ascii=False))
        return
    print("You saw       " + "; ".join(answer.history))
    print(f"It wrote      {answer.reasoning or '(nothing)'}{'' if answer.finished else ' [unfinished]'}")
    print("It recommends")
    for place, film in enumerate(answer.films, 1):
        print(f"  {place:>3}  {film.score:8.3f}  {film.title}")


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


def _prepare(arguments: argparse.Namespace, profile: Profile) -> None:
    from dataclasses import asdict

    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.data.store import save_prepared

    dataset = prepare_profile(profile)
    folder = save_prepared(dataset, arguments.out, asdict(profile.data))
    print(f"{folder}: " + ", ".join(f"{len(split):,} {name}" for name, split in dataset.items()))


def _train(arguments: argparse.Namespace, profile: Profile) -> None:
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.training import make_adapters

    stages = ("warmup", "recpo") if arguments.stage == "both" else (arguments.stage,)
    make_adapters(profile, prepare_profile(profile), arguments.out, arguments.seed, stages)


def _evaluate(arguments: argparse.Namespace, profile: Profile) -> None:
    from dataclasses import replace

    from rrec_lib.baselines import fitted_baselines
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.evaluation import evaluate, evaluate_scores, sample_examples
    from rrec_lib.recommend import FilmRecommender
    from rrec_lib.results import provenance, write_json

    dataset = prepare_profile(profile)
    stage = arguments.stage
    if arguments.adapter is not None:
        stage = "recpo"
        profile = replace(profile, adapters={**profile.adapters, stage: str(arguments.adapter)})
    examples = list(dataset[arguments.split])
    if arguments.sample != "all":
        rows = profile.evaluation.sample_size if arguments.sample is None else int(arguments.sample)
        examples = sample_examples(examples, rows, profile.evaluation.max_rows_per_user, arguments.seed)
    draws, seed = profile.evaluation.bootstrap_samples, arguments.seed
    reports = [evaluate(b, examples, name, draws, seed) for name, b in fitted_baselines(dataset).items()]
    film = FilmRecommender(profile, dataset, stage, seed)
    reports.append(evaluate_scores(film.model.scores(examples), examples, f"R²ec ({film.stage})", draws, seed))
    print(f"{len(examples)} rows of {arguments.split}, {len(set(reports[0].users))} users, 95 % intervals over users")
    for report in reports:
        hit, ndcg = report.interval("hit@20"), report.interval("ndcg@20")
        print(
            f"  {report.name:18} Hit@20 {hit.mean:.3f} [{hit.low:.3f}, {hit.high:.3f}]"
            f"  NDCG@20 {ndcg.mean:.3f} [{ndcg.low:.3f}, {ndcg.high:.3f}]"
        )
    if arguments.out is not None:
        figures = {report.name: report.figures() for report in reports}
        write_json(arguments.out, {"profile": profile.name, **provenance(seed), "figures": figures})
        print(f"wrote {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
