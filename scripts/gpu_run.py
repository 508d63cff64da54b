"""Ask a GPU what it is asked once it is at hand: tests, notebooks, benchmarks, a reference run; each leaves a record.

    make gpu-run                                       # in .venv, 20 minutes
    make gpu-run PY=python3 ARGS="--minutes 10"        # in an environment that has the packages already
    make gpu-run ARGS="--model-parts FOLDER"           # offline, the model's file in parts (scripts/model_parts.py)

A stage's record is results/gpu/DEVICE/STAGE.json; what it printed, and what it goes on from, is in _build/gpu/DEVICE.
Called again, killed or out of time, the script goes on with what has no record of a good end: keep both folders. Delete
a record to have its stage run again.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from rrec_lib.core.console import script
from rrec_lib.experiments.gpu_run import ROOT, run_stages
from rrec_lib.experiments.model_parts import join

sys.path.insert(0, str(ROOT / "tools"))
from execute import kernel_environment


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these stages, such as tests or notebook-06")
    parser.add_argument("--minutes", type=float, default=20.0, help="after which nothing runs on (default: 20)")
    parser.add_argument("--profile", default="cpu", help="of the notebooks and the reference run (default: cpu)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this script without one")
    parser.add_argument("--model-parts", type=Path, metavar="FOLDER", help="the model's file in parts")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu", help="records (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "gpu", help="all else (default: %(default)s)")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA is asked for the first time, and for every stage
    if chosen.model_parts:
        os.environ["RREC_MODEL_FILE"] = str(join(chosen.model_parts))
    offline = partial(kernel_environment, "cpu")  # no network, a kernel of this environment
    places = chosen.out, chosen.work, chosen.profile, chosen.minutes
    code = run_stages(*places, offline, chosen.only, needs_gpu=chosen.device == "cuda")
    sys.exit(code)


if __name__ == "__main__":
    main()
