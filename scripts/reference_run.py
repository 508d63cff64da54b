"""Train R²ec with and without reasoning, several seeds, each with the same CPU time; it goes on where it stopped.

Each run's adapters stand in its folder, its test report and its logs in results/reference/DATASET-PROFILE/. See
``rrec_lib/experiments/reference.py``.

    python scripts/reference_run.py --hours 1 --seeds 0 1 2
"""

from pathlib import Path

from rrec_lib.core.console import script
from rrec_lib.experiments.reference import ARMS, EVERY, run_reference
from rrec_lib.experiments.runner import Options, options_of, options_parser


@script
def main() -> None:
    parser = options_parser(__doc__, Options(1.0, EVERY, Path("runs/reference"), Path("results/reference")))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    run_reference(options_of(arguments), arguments.arms, arguments.seeds)


if __name__ == "__main__":
    main()
