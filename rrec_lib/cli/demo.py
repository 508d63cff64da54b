"""``rrec demo``: a page in the browser to talk to the model."""

import argparse
import importlib.util
import json
from pathlib import Path

from rrec_lib.cli.checks import with_adapter
from rrec_lib.cli.recommend import STAGES
from rrec_lib.core.profiles import Profile

SUMMARY = "talk to the model in the browser, on this machine alone (make demo-env)"
EXAMPLES = (
    "rrec demo", "rrec demo --port 8000", "rrec demo --dataset games --adapter run/recpo-adapter",
)  # fmt: skip
MISSING = (
    "the page needs Gradio, which has an environment of its own, since its bounds and the book's differ: `make demo`"
    " makes .venv-demo and opens the page"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860 on)")
    parser.add_argument("--dataset", dest="set", action="append", type=lambda text: f"data.dataset={json.dumps(text)}",
                        metavar="DIR", help="data that rrec prepare has written")  # fmt: skip
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--stage", default="recpo", help=STAGES)
    weights.add_argument("--adapter", type=Path, metavar="DIR", help="adapter of your own, which rrec train has saved")


def run(arguments: argparse.Namespace, profile: Profile) -> None:
    """Serve the page until Ctrl+C."""
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise ValueError(f"--port takes a number from 1 to 65535, got {arguments.port}")
    if arguments.adapter is not None:
        profile = with_adapter(profile, arguments.adapter)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(MISSING)
    from rrec_lib.demo.page import serve

    serve(profile, arguments.stage, arguments.seed, arguments.port)
