"""Rank test rows by a recorded baseline that writes, exactly and by beams, and write what beams miss.

python scripts/beams.py D3 --hours 0.5 --every 75 --set warmup.targets_per_user=8 --set warmup.users_per_step=4
python scripts/beams.py TIGER --all-rows --out tiger-beams.json
"""

import argparse
from pathlib import Path

from rrec_lib.baselines.registry import WRITE
from rrec_lib.core.console import script
from rrec_lib.core.profiles import available_profiles, load_profile, parse_overrides
from rrec_lib.experiments.beams import compare_beams

RESULTS = Path(__file__).resolve().parents[1] / "results"


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", choices=WRITE)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the profile")
    parser.add_argument("--searches", type=Path, default=RESULTS / "baselines" / "movielens-cpu",
                        help="folder of the recorded search and of its checkpoints")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=1.0, help="as the recorded run had (default: 1)")
    parser.add_argument("--every", type=int, default=50, help="as the recorded run had (default: 50)")
    parser.add_argument("--beams", type=int, nargs="+", default=[50, 10, 5])
    parser.add_argument("--rows", type=int, default=100, help="of test (default: 100)")
    parser.add_argument("--all-rows", action="store_true")
    parser.add_argument("--out", type=Path, help="default: results/trials/SEARCHES-BASELINE-beams.json")
    chosen = parser.parse_args()
    name = f"{chosen.searches.resolve().name}-{chosen.baseline.lower()}-beams.json"
    compare_beams(
        chosen.baseline, load_profile(chosen.profile, parse_overrides(chosen.set)), chosen.searches,
        chosen.out or RESULTS / "trials" / name, chosen.seed, chosen.hours, chosen.every, chosen.beams,
        None if chosen.all_rows else chosen.rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
