"""NDCG@20 of 1, 2, 4, 8 and 16 sampled reasonings averaged, and the CPU seconds of a recommendation by each.

It goes on where it stopped. The record stands in results/compute/DATASET-PROFILE/. See
``rrec_lib/experiments/compute_curve.py``.

    python scripts/compute_curve.py --adapter runs/trial/movielens-cpu/with-reasoning-0/recpo-adapter --test-rows 8
"""

from rrec_lib.core.console import script
from rrec_lib.experiments.compute_curve import SAMPLES, TIMED_ROWS, run_curve
from rrec_lib.experiments.readings import reading_parser, what_to_read


@script
def main() -> None:
    parser = reading_parser(__doc__, "compute")
    parser.add_argument("--samples", nargs="+", type=int, default=list(SAMPLES), help="(default: 1 2 4 8 16)")
    parser.add_argument("--timed-rows", type=int, default=TIMED_ROWS, help="rows whose seconds count (%(default)s)")
    parser.add_argument("--baselines", nargs="*", help="timed too (default: EASE and the best two on test)")
    chosen = parser.parse_args()
    of_curve = chosen.samples, chosen.timed_rows, chosen.baselines
    run_curve(*what_to_read(chosen), chosen.seed, chosen.test_rows, *of_curve)


if __name__ == "__main__":
    main()
