"""Train states behind texts that are given, not written, and compare them on valid; it goes on where it stopped.

Reports stand in results/ceiling/DATASET-PROFILE/. See ``rrec_lib/experiments/ceiling.py``.

    python scripts/ceiling.py --given "bare prompt" association
"""

from pathlib import Path

from rrec_lib.core.console import script
from rrec_lib.experiments.ceiling import GIVEN, STEPS, run_ceiling
from rrec_lib.experiments.runner import Options, options_of, options_parser


@script
def main() -> None:
    parser = options_parser(__doc__, Options(0.0, 0, Path("runs/ceiling"), Path("results/ceiling")))
    parser.add_argument("--given", nargs="+", default=list(GIVEN), choices=list(GIVEN))
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run_ceiling(options_of(arguments), arguments.given, arguments.steps, arguments.seed)


if __name__ == "__main__":
    main()
