"""``rrec prepare``: MovieLens as a profile asks for it, a category of Amazon Reviews 2023, or any two CSV files."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrec_lib.cli.checks import folder_to_write
from rrec_lib.core.profiles import USUAL, Profile

SEEDED = False
SUMMARY = "write prepared data to a folder: a profile's MovieLens, a category of Amazon, or CSV files"
EXAMPLES = (
    "rrec prepare --out prepared", "rrec prepare --profile smoke --out prepared-smoke",
    "rrec prepare amazon --category Video_Games --out games", "rrec prepare csv --help",
)  # fmt: skip
CSV_COLUMNS = ("user", "item", "rating", "time", "title", "year", "genres", "description")
_OUT = "new folder, or one of prepared data to replace"


def options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options, and the two sources that have options of their own."""
    parser.add_argument("--out", type=folder_to_write, help=_OUT)
    sources = parser.add_subparsers(metavar="amazon | csv", dest="source")
    raw = argparse.RawDescriptionHelpFormatter
    _amazon_options(
        sources.add_parser(
            "amazon",
            help="a category of Amazon Reviews 2023, from the published files",
            description="Prepare a category of Amazon Reviews 2023. Without --raw-dir its two files are downloaded.",
            epilog="examples:\n  rrec prepare amazon --category Video_Games --out games\n"
            "  rrec prepare amazon --category Musical_Instruments --raw-dir raw --recipe official --out instruments",
            formatter_class=raw,
        )
    )
    _csv_options(
        sources.add_parser(
            "csv",
            help="any log: one CSV of events, one of items",
            description="Prepare two CSV files, plain or gzipped: events with user, item, rating and time, and items "
            "with a title and, where known, year, genres (parted by |) and description. RecBole's atomic files and "
            "MovieLens' are read as they are.",
            epilog="examples:\n  rrec prepare csv --events plays.csv --items albums.csv --kind album "
            "--time-column played_at --out albums\n"
            "  rrec prepare csv --events ratings.dat --items movies.dat --encoding cp1252 --kind film --out films",
            formatter_class=raw,
        )
    )


def _amazon_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--category", required=True,
                        help="such as Video_Games; with --raw-dir any name whose two files lie there")  # fmt: skip
    parser.add_argument("--recipe", default="clean", choices=["clean", "official"],
                        help="clean, or official: row for row what its script yields (default: clean)")  # fmt: skip
    parser.add_argument("--raw-dir", type=Path, help="folder with NAME.csv.gz and meta_NAME.jsonl.gz")
    parser.add_argument("--start", default="2022-10", help="first month (default: 2022-10)")
    parser.add_argument("--end", default="2023-10", help="month whose first moment ends it (default: 2023-10)")
    _filters(parser)
    parser.add_argument("--with-crawl-time-popularity", action="store_true",
                        help="clean: keep average rating and number of buyers, which know the future")  # fmt: skip
    parser.add_argument("--description-words", type=int, metavar="N",
                        help="clean: keep N words of a description; fewer cost less (default: all)")  # fmt: skip
    parser.set_defaults(prepare=prepare_amazon)


def _csv_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=Path, required=True, help="CSV of user, item, rating, time")
    parser.add_argument("--items", type=Path, required=True, help="CSV of item, title, and year, genres, description")
    parser.add_argument("--kind", default="item", help='what prompts call an item, such as "album" (default: item)')
    parser.add_argument("--best-rating", type=float, default=5.0, help="highest of the scale (default: 5)")
    parser.add_argument("--time-unit", default="auto", choices=["auto", "s", "ms", "us", "ns", "iso"],
                        help="(default: that of most events)")  # fmt: skip
    parser.add_argument("--delimiter", metavar="SIGN",
                        help="what parts fields, such as ; or tab (default: found by the header)")  # fmt: skip
    parser.add_argument("--encoding", metavar="NAME", help="such as cp1252 (default: UTF-8; others are refused)")
    parser.add_argument("--integer-ids", action="store_true", help="take ids such as 34.0 and 00034 for 34")
    for name in CSV_COLUMNS:
        parser.add_argument(f"--{name}-column", metavar="NAME", help=f"what the file calls its column of {name}")
    parser.add_argument("--items-item-column", metavar="NAME",
                        help="what the file of items calls that of item (default: as in the other)")  # fmt: skip
    _filters(parser)
    parser.set_defaults(prepare=prepare_csv)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k-core", type=int, default=0, help="fewest events of a user and an item (default: 0)")
    parser.add_argument("--window", type=int, default=20, help="events in a history (default: 20)")
    parser.add_argument("--min-target-rating", type=float, default=0.0,
                        help="lowest rating of a target, out of 5 (default: 0; not with official)")  # fmt: skip
    parser.add_argument("--max-faults", type=float, default=0.01,
                        help="share of a file's records that may be malformed (default: 0.01)")  # fmt: skip
    parser.add_argument("--out", type=folder_to_write, default=argparse.SUPPRESS, help=_OUT)  # or before the source


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Run the command."""
    if arguments.out is None:
        raise ValueError("name the folder to write with --out DIR; see `rrec prepare --help`")
    if arguments.source is not None and (arguments.set or arguments.profile != USUAL):
        raise ValueError("a profile's sizes are MovieLens'; for other sources give --window, --k-core and the like")
    from rrec_lib.data.prepared import check_replaceable

    check_replaceable(arguments.out)
    if arguments.source is None:
        prepare_movielens(arguments, profile)
    else:
        arguments.prepare(arguments)
    print(f"next: rrec inspect {arguments.out}")


def prepare_movielens(arguments: argparse.Namespace, profile: Profile) -> None:
    """What a profile asks for."""
    from rrec_lib.data.examples import save_profile

    dataset = save_profile(profile, arguments.out)
    print(f"{arguments.out}: " + ", ".join(f"{len(split):,} {name}" for name, split in dataset.items()))


def prepare_amazon(arguments: argparse.Namespace) -> None:
    """A category, by either recipe."""
    from rrec_lib.data.amazon.clean import CleanRecipe, save_clean
    from rrec_lib.data.amazon.raw import raw_files
    from rrec_lib.data.amazon.sources import category_files
    from rrec_lib.data.faults import Faults
    from rrec_lib.data.official.recipe import OfficialRecipe, save_official

    a = arguments
    official = a.recipe == "official"
    if official and (a.with_crawl_time_popularity or a.min_target_rating or a.description_words is not None):
        raise ValueError("--with-crawl-time-popularity, --min-target-rating and --description-words belong to the "
                         "recipe clean; the official one keeps everything")  # fmt: skip
    Faults(a.max_faults)
    window = (a.start, a.end, a.k_core, a.window)
    recipe = OfficialRecipe(*window) if official else CleanRecipe(
        *window, a.min_target_rating, a.with_crawl_time_popularity, a.description_words
    )  # fmt: skip
    raw = raw_files(a.raw_dir, a.category) if a.raw_dir else category_files(a.category)
    if isinstance(recipe, OfficialRecipe):
        manifest = save_official(raw, recipe, a.out, a.max_faults)
    else:
        manifest = save_clean(raw, recipe, a.out, a.max_faults)
    _report(a.out, manifest)
    if official:
        windows = manifest["counts"]["windows_tried"]
        print(f"window: {len(windows)} tried, from {windows[-1]['start']}; load it with datasets.load_from_disk")


def prepare_csv(arguments: argparse.Namespace) -> None:
    """Two CSV files."""
    from rrec_lib.data.csv.files import Columns, CsvSource, save_csv
    from rrec_lib.data.event_log import Filters

    a = arguments
    given = {name: getattr(a, f"{name}_column") for name in (*CSV_COLUMNS, "items_item")}
    columns = Columns(**{name: value for name, value in given.items() if value})
    source = CsvSource(a.events, a.items, columns, a.kind, a.best_rating, a.time_unit,
                       {"tab": "\t", "\\t": "\t"}.get(a.delimiter, a.delimiter), a.encoding, a.integer_ids)  # fmt: skip
    manifest = save_csv(source, Filters(a.k_core, a.window, a.min_target_rating), a.out, a.max_faults)
    _report(a.out, manifest)
    print(f"times read as {manifest['arguments']['time_unit']}, UTC")


def remains(arguments: argparse.Namespace) -> str:
    """What an interrupted preparation leaves behind: of a download what has come."""
    if arguments.source == "amazon" and not arguments.raw_dir:
        return "no folder was written, and the same command goes on with what was downloaded"
    return "nothing was written"


def _report(out: Path, manifest: Mapping[str, Any]) -> None:
    from rrec_lib.data.faults import fault_lines

    names = [name for name in ("train", "valid", "test", "items", "item_info") if name in manifest["rows"]]
    print(f"{out}: " + ", ".join(f"{manifest['rows'][name]:,} {name}" for name in names))
    dropped = manifest.get("dropped") or manifest.get("counts", {}).get("removals") or {}
    if any(dropped.values()):
        print("dropped: " + ", ".join(f"{count:,} {why}" for why, count in dropped.items() if count))
    for line in fault_lines(manifest["faults"]):
        print(line)
