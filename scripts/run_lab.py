"""Run all arms of the lab, one seed after the other, into recorded results; it goes on where it stopped.

python scripts/run_lab.py --search 3e-4 1e-3 3e-3   # rate of the arm without reasoning, on valid users, seed 0
python scripts/run_lab.py --seeds 0 1 2 3 4
"""

import argparse
from pathlib import Path

import torch

from rrec_lib.cli.checks import threads
from rrec_lib.core.console import script
from rrec_lib.core.profiles import parse_overrides
from rrec_lib.evaluation.compare import SAMPLES
from rrec_lib.experiments.lab_runs import LAB_LINES, run_lab, search_rate
from rrec_lib.lab import LabConfig


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="(default: 0 to 4)")
    parser.add_argument("--lines", nargs="+", default=list(LAB_LINES), choices=list(LAB_LINES), help="default: all")
    parser.add_argument("--out", type=Path, default=Path("results/lab"), help="(default: results/lab)")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/lab"), help="finished lines (default: runs/lab)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KNOB=VALUE", help="knobs of LabConfig")
    parser.add_argument("--search", type=float, nargs="+", metavar="RATE", help="only try these, into search.json")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the bootstrap (default: 10000)")
    parser.add_argument("--threads", type=threads, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        config = LabConfig(**parse_overrides(chosen.set))
    except (TypeError, ValueError) as problem:
        parser.error(f"--set: {problem}")
    if chosen.search:
        search_rate(config, chosen.search, chosen.out / "search.json")
    else:
        run_lab(config, chosen.seeds, chosen.lines, chosen.out, chosen.checkpoints, chosen.samples)


if __name__ == "__main__":
    main()
