"""Time and peak memory of Amazon's two recipes, in fresh processes, and how both grow with the number of reviews.

The ratio is how much longer the recipe clean takes on the largest size than on the smallest, over how many more reviews
there are: 1 is linear growth, less is better. ``--full`` goes on from 1,000,000 to 10,000,000 reviews, once.
"""

import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from make_raw import CATEGORY, make_raw

RECIPES = ("clean", "official")
ITEMS_PER_REVIEW = 0.2
SIZES = [100_000, 1_000_000]
FULL = 10_000_000
QUICK = [2_000, 5_000]
LIMITS = {1_000_000: (15.0, 1500.0), FULL: (150.0, 4000.0)}  # seconds and MB on 2 cores
KIB_PER_MB = 1e6 / 1024


def prepare_once(recipe: str, raw: str) -> None:
    """Prepare on disk, then print this process's peak resident memory in MB."""
    from rrec_lib.data.amazon.raw import raw_files

    with tempfile.TemporaryDirectory(dir=raw) as folder:
        if recipe == "clean":
            from rrec_lib.data.amazon.clean import CleanRecipe, save_clean

            save_clean(raw_files(raw, CATEGORY), CleanRecipe(), Path(folder, "out"))
        else:
            from rrec_lib.data.official.recipe import OfficialRecipe, save_official

            save_official(raw_files(raw, CATEGORY), OfficialRecipe(), Path(folder, "out"))
        print(peak_mb())


def peak_mb() -> float:
    """Peak resident memory of this program; Linux would let ``ru_maxrss`` start at that of the program before it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / KIB_PER_MB  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / KIB_PER_MB


def measure(recipe: str, raw: Path) -> tuple[float, float]:
    """Seconds of a whole process, imports and writing included, and its peak memory in MB."""
    from common import in_fresh_process

    start = time.perf_counter()
    peak = in_fresh_process(__file__, "--prepare", recipe, str(raw))
    return time.perf_counter() - start, peak


def main() -> None:
    if "--prepare" in sys.argv:
        prepare_once(*sys.argv[-2:])
        return
    from common import finish, options, spread  # not in the process that is measured

    full = "--full" in sys.argv
    if full:
        sys.argv.remove("--full")
    chosen = options(__doc__)
    sizes = QUICK if chosen.quick else [*SIZES, *([FULL] if full else [])]
    runs: dict[tuple[str, int], list[tuple[float, float]]] = {(r, size): [] for r in RECIPES for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            make_raw(Path(folder, str(size)), size, int(size * ITEMS_PER_REVIEW))
        for number in range(1, chosen.rounds + 1):
            for recipe, size in runs:
                if size == FULL and number > 1:  # once is long enough
                    continue
                runs[recipe, size].append(measure(recipe, Path(folder, str(size))))
                seconds, peak = runs[recipe, size][-1]
                print(f"round {number}, {recipe}, {size:,} reviews: {seconds:.1f} s, {peak:.0f} MB", flush=True)
    figures: dict[str, dict[str, Any]] = {
        recipe: {
            str(size): {
                "items": int(size * ITEMS_PER_REVIEW),
                "seconds": spread([seconds for seconds, _ in runs[recipe, size]]),
                "peak_mb": spread([peak for _, peak in runs[recipe, size]]),
                "limits_seconds_mb": LIMITS.get(size),
            }
            for size in sizes
        }
        for recipe in RECIPES
    }
    for recipe in RECIPES:
        by_size = [figures[recipe][str(size)] for size in sizes]
        figures[recipe]["slope"] = {
            what: slope(sizes, [found[what]["median"] for found in by_size]) for what in ("seconds", "peak_mb")
        }
    clean = {size: [run[0] for run in runs["clean", size]] for size in sizes}
    least, most = sizes[0], sizes[-1]
    pairs = zip(clean[least], clean[most] * (chosen.rounds if most == FULL else 1), strict=True)
    finish("prepare", [large / small / (most / least) for small, large in pairs], figures, chosen)


def slope(sizes: list[int], values: list[float]) -> float:
    """Of the straight line through both logarithms: 1 where values grow as sizes do."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


if __name__ == "__main__":
    main()
