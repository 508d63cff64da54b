"""Run the ablations of RecPO on MovieLens: every line from the same warm-up, with the same budget of CPU time.

Their table is in ``rrec_lib/experiments/ablations.py``. The adapters they start from come with the project. Stopped and
started again, the script goes on from the last evaluation. Reports, on a few test rows of each user, stand in
results/ablations/DATASET-PROFILE/, which notebook 09 reads.

    python scripts/ablations.py --lines full RLOO "G = 2"
"""

from pathlib import Path

from rrec_lib.core.console import script
from rrec_lib.experiments.ablations import RUNNABLE, run_ablations
from rrec_lib.experiments.reference import EVERY, WARMUP_SHARE
from rrec_lib.experiments.runner import Options, options_of, options_parser


@script
def main() -> None:
    parser = options_parser(__doc__, Options(0.25, EVERY[1], Path("runs/ablations"), Path("results/ablations")))
    parser.add_argument("--lines", nargs="+", default=RUNNABLE, choices=RUNNABLE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-rows", type=int, default=8, help="test rows of a user at most (default: 8)")
    parser.add_argument(
        "--warmup-hours", type=float, default=WARMUP_SHARE, help="what the warm-up had (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=Path, help="adapter that lines start from (default: the shipped one)")
    parser.add_argument("--recpo", type=Path, help="adapter that controls read (default: the shipped one)")
    chosen = parser.parse_args()
    adapters = {"warmup": chosen.warmup, "recpo": chosen.recpo}
    run_ablations(options_of(chosen), chosen.lines, chosen.seed, chosen.test_rows, chosen.warmup_hours, adapters)


if __name__ == "__main__":
    main()
