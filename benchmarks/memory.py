"""Peak memory of one RecPO step against TRL's stock step; every step has a process of its own."""

import sys

from common import finish, in_fresh_process, load, machine, options, spread

from rrec_lib.core.hardware import choose_dtype, peak_memory_mb


def measure(rival: str, quick: bool) -> float:
    """Peak resident memory in MB of a fresh process that loads the model and makes one step."""
    return in_fresh_process(__file__, "--step", rival, *(["--quick"] if quick else []))


def one_step(rival: str, quick: bool) -> None:
    from recpo_step import Steps  # not in the process that only waits

    getattr(Steps(*load(quick), quick), rival)()
    print(peak_memory_mb())


def main() -> None:
    if "--step" in sys.argv:
        at = sys.argv.index("--step")
        rival = sys.argv[at + 1]
        del sys.argv[at : at + 2]
        one_step(rival, options(__doc__).quick)
        return
    chosen = options(__doc__)
    megabytes: dict[str, list[float]] = {"ours": [], "stock": []}
    for _ in range(chosen.rounds):
        for rival, values in megabytes.items():
            values.append(measure(rival, chosen.quick))
            print(f"{rival}: {values[-1]:.0f} MB", flush=True)
    ours = spread(megabytes["ours"])["median"]
    figures = {
        "peak_mb": {name: spread(values) for name, values in megabytes.items()},
        "machine": machine(choose_dtype(), chosen.quick),
        "lever_packed_update": measure("apart", chosen.quick) / ours,
        "lever_softmax_in_chunks": measure("whole_softmax", chosen.quick) / ours,
    }
    ratios = [own / stock for own, stock in zip(*megabytes.values(), strict=True)]
    finish("memory", ratios, figures, chosen)


if __name__ == "__main__":
    main()
