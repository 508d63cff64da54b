"""``rrec inspect``: the data card of a prepared folder."""

import argparse
from pathlib import Path

from rrec_lib.cli.checks import figure_to_write, file_to_write
from rrec_lib.core.paths import replacing
from rrec_lib.core.profiles import Profile

PROFILED = False
SUMMARY = "show what a prepared folder holds: its data card (notebook 02)"
EXAMPLES = ("rrec inspect prepared", "rrec inspect prepared --markdown card.md --figure card.png")


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that rrec prepare has written")
    parser.add_argument("--markdown", type=file_to_write, help="also write the card as a Markdown page to this file")
    parser.add_argument(
        "--figure", type=figure_to_write, help="also draw popularity and time to this file, such as card.png"
    )


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Print the card, and write it where it is asked for."""
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
