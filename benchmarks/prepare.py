"""Time and peak memory of Amazon's official recipe, in fresh processes, and how both grow with the number of reviews.

The ratio is time per review at 1,000,000 reviews over that at 100,000: 1 is linear growth, less is better. ``--full``
goes on to 10,000,000 reviews, and its ratio is between the last two sizes.
"""

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from make_raw import CATEGORY, make_raw

ITEMS_PER_REVIEW = 0.2
SIZES = [100_000, 1_000_000]
FULL = 10_000_000
QUICK = [2_000, 5_000]
LIMITS = {1_000_000: (15.0, 1500.0), FULL: (150.0, 4000.0)}  # seconds and MB on 2 cores
KIB_PER_MB = 1e6 / 1024


def prepare_once(raw: str) -> None:
    """Prepare on disk, then print this process's peak resident memory in MB."""
    from rrec_lib.data.amazon_official import OfficialRecipe, prepare_official

    with tempfile.TemporaryDirectory(dir=raw) as folder:
        prepare_official(raw, CATEGORY, OfficialRecipe("2022-10", "2023-10"), folder)
        print(peak_mb())


def peak_mb() -> float:
    """Peak resident memory of this program; Linux would let ``ru_maxrss`` start at that of the program before it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / KIB_PER_MB  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / KIB_PER_MB


def measure(raw: Path) -> tuple[float, float]:
    """Seconds of a whole process, imports and writing included, and its peak memory in MB."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--prepare", str(raw)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return time.perf_counter() - start, float(output[-1])


def main() -> None:
    if "--prepare" in sys.argv:
        prepare_once(sys.argv[-1])
        return
    from common import finish, options, spread  # not in the process that is measured

    full = "--full" in sys.argv
    if full:
        sys.argv.remove("--full")
    chosen = options(__doc__)
    sizes = QUICK if chosen.quick else [*SIZES, *([FULL] if full else [])]
    runs: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            make_raw(Path(folder, str(size)), size, int(size * ITEMS_PER_REVIEW))
        for number in range(1, chosen.rounds + 1):
            for size in sizes:
                runs[size].append(measure(Path(folder, str(size))))
                seconds, peak = runs[size][-1]
                print(f"round {number}, {size:,} reviews: {seconds:.1f} s, {peak:.0f} MB",
                      flush=True)  # fmt: skip
    figures = {
        str(size): {
            "items": int(size * ITEMS_PER_REVIEW),
            **{name: spread([run[at] for run in runs[size]]) for at, name in enumerate(("seconds", "peak_mb"))},
            "limits_seconds_mb": LIMITS.get(size),
        }
        for size in sizes
    }
    small, large = sizes[-2:]
    ratios = [big[0] / large / (less[0] / small) for less, big in zip(runs[small], runs[large], strict=True)]
    finish("prepare", ratios, figures, chosen)


if __name__ == "__main__":
    main()
