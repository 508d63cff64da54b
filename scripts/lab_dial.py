"""Run the lab's dial into recorded results, stage by stage; it goes on behind the last finished cell.

python scripts/lab_dial.py                              # all stages, in the order in which they say most
python scripts/lab_dial.py --stages first --out /tmp/x  # p = 0, 1/2 and 1 with seed 0
"""

import argparse
from pathlib import Path

import torch

from rrec_lib.cli.checks import threads
from rrec_lib.core.console import script
from rrec_lib.core.paths import REPOSITORY
from rrec_lib.experiments.lab_dial import FOLDER, STAGES, run_dial


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES), help="(default: all)")
    parser.add_argument("--out", type=Path, default=(REPOSITORY or Path()) / FOLDER, help=f"(default: {FOLDER})")
    parser.add_argument("--threads", type=threads, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    run_dial(chosen.stages, chosen.out)


if __name__ == "__main__":
    main()
