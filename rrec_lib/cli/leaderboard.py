"""``rrec leaderboard``: the recorded sets' rankings, and a report of one's own in them."""

import argparse
from pathlib import Path

from rrec_lib.cli.checks import file_to_write
from rrec_lib.core.profiles import Profile

SUMMARY = "rank all reports on the recorded sets, or add one"
EXAMPLES = (
    "rrec leaderboard show --dataset movielens-cpu", "rrec leaderboard add report.json",
    "rrec leaderboard add report.json --board our-class",
)  # fmt: skip
PROFILED = False


def options(parser: argparse.ArgumentParser) -> None:
    """Give the command its two actions."""
    actions = parser.add_subparsers(metavar="show | add", dest="action", required=True)
    show = actions.add_parser("show", help="print the rankings", description="Print the rankings of the recorded sets.")
    show.add_argument("--dataset", help="one set, such as movielens-cpu (default: all)")
    show.add_argument(
        "--out", type=file_to_write, metavar="FILE", help="also write them as a Markdown page to this file"
    )
    show.set_defaults(act=show_board)
    add = actions.add_parser(
        "add",
        help="let a report in",
        description="Let a report in that rrec evaluate --sample all --out has written. It is checked first.",
    )
    add.add_argument("report", type=Path, metavar="REPORT", help="the file")
    add.add_argument("--name", help="which report, if the file has several that are none of the project's baselines")
    add.add_argument("--as", dest="rename", metavar="NAME", help="the line's name, if it is to be another")
    add.add_argument("--replace", action="store_true", help="take the place of the line of that name and all its runs")
    add.set_defaults(act=add_line)
    for action in (show, add):
        action.add_argument("--board", type=Path, metavar="DIR", help="folder of a board of your own; the project's "
                            "recorded lines stand in it as well (default: results/leaderboard)")  # fmt: skip


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Show a board, or add to it."""
    from rrec_lib.experiments.leaderboard import project_board

    arguments.act(arguments, arguments.board or project_board())


def show_board(arguments: argparse.Namespace, board: Path) -> None:
    """Print each set's lines."""
    from rrec_lib.core.paths import replacing
    from rrec_lib.experiments.leaderboard import LEGEND, board_lines, board_table
    from rrec_lib.experiments.tables import DATA_SETS

    if arguments.dataset is not None and arguments.dataset not in DATA_SETS:
        raise ValueError(f"there is no board of {arguments.dataset!r}; choose one of {', '.join(DATA_SETS)}")
    if arguments.board is not None and not board.is_dir():
        raise FileNotFoundError(f"no board {board}; `rrec leaderboard add REPORT --board {board}` makes one")
    page = ["# Leaderboard\n"]
    for place, title in DATA_SETS.items():
        if arguments.dataset not in (None, place):
            continue
        lines = board_lines(place, board)
        page.append(f"## {title}\n\n{board_table(lines, place, board)}")
        if not lines:
            print(f"{title} ({place}): not run yet")
            continue
        i = lines[0].ndcg
        print(f"{title} ({place}): {i.rows} test rows of {i.users} users; NDCG@20, with its 95 % interval over users")
        print(f"and runs, and Hit@20; {LEGEND}")
        width = max(len(line.name) for line in lines)
        for line in lines:
            runs = f"{len(line.arm)} run{'s' if len(line.arm) > 1 else ''}"
            print(f"  {line.place:<4}  {line.name:{width}}  {runs:>6}  {line.ndcg:.3f}  {line.hit:.3f}  "
                  f"{line.against}  ({line.recorded})")  # fmt: skip
    if arguments.out is not None:
        with replacing(arguments.out) as file:
            file.write_text("\n".join(page), encoding="utf-8")
        print(f"wrote {arguments.out}")


def add_line(arguments: argparse.Namespace, board: Path) -> None:
    """Check a report, let it in, and print its line."""
    from rrec_lib.experiments.leaderboard import board_lines
    from rrec_lib.experiments.leaderboard_add import add_report

    place, name, path = add_report(arguments.report, board, arguments.name, arguments.rename, arguments.replace)
    lines = board_lines(place, board)
    (line,) = [line for line in lines if line.name == name]
    print(f"{place}: rank {line.place} of {len(lines)}, {name}, NDCG@20 {line.ndcg:.3f}; {line.against}")
    if line.chosen:
        print(f"valid chose {line.chosen}")
    print(f"wrote {path}, made by commit {line.recorded}")
