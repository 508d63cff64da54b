"""Train the arms of the trial of reasoning, at equal targets and at equal CPU time; it goes on where it stopped.

Reports stand in results/verdict/BUDGET/DATASET-PROFILE/. See ``rrec_lib/experiments/trial.py``. What finished stages
of unfinished arms left stands in results/stages/; after ``cp -r results/stages/. runs/trial`` a run goes on from it.

    python scripts/trial.py --seeds 0 --arms "with reasoning" "without reasoning"
"""

from pathlib import Path

from rrec_lib.core.console import script
from rrec_lib.experiments.reference import WITH, WITHOUT
from rrec_lib.experiments.runner import Options, options_of, options_parser
from rrec_lib.experiments.trial import ARMS, EQUAL_TARGETS, EQUAL_TIME, RECPO_STEPS, WARMUP_STEPS, run_trial


@script
def main() -> None:
    parser = options_parser(__doc__, Options(0.0, 0, Path("runs/trial"), Path("results/verdict")))
    parser.add_argument("--arms", nargs="+", default=[WITH, WITHOUT], choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--budgets", nargs="+", default=[EQUAL_TARGETS, EQUAL_TIME], choices=[EQUAL_TARGETS, EQUAL_TIME]
    )
    parser.add_argument("--steps", nargs=2, type=int, default=[WARMUP_STEPS, RECPO_STEPS], metavar=("WARMUP", "RECPO"))
    arguments = parser.parse_args()
    run_trial(options_of(arguments), arguments.arms, arguments.seeds, arguments.budgets, tuple(arguments.steps))


if __name__ == "__main__":
    main()
