"""Read an adapter with something else before the marker: a report for each control, and what a swapped title moves.

It goes on where it stopped. Reports stand in results/controls/DATASET-PROFILE/. See
``rrec_lib/experiments/control_runs.py``.

    python scripts/controls.py --test-rows 8 --controls own other "skill association" "title swapped" cheat
"""

from rrec_lib.core.console import script
from rrec_lib.experiments.control_runs import run_controls
from rrec_lib.experiments.readings import reading_parser, what_to_read
from rrec_lib.recommend.controls import REASONING_CONTROLS


@script
def main() -> None:
    parser = reading_parser(__doc__, "controls")
    parser.add_argument("--controls", nargs="+", default=list(REASONING_CONTROLS), choices=list(REASONING_CONTROLS))
    chosen = parser.parse_args()
    run_controls(*what_to_read(chosen), chosen.controls, chosen.seed, chosen.test_rows)


if __name__ == "__main__":
    main()
