"""The lab's dial: what reasoning is worth between a world of memory and one of inference, and other ways to think.

Written down before the first recorded run:

- **The dial.** A share p of the users follows a habit, which item follows the last one, and the rest the sums
  (:mod:`rrec_lib.lab.world`). Compared is *text*, arm full, with *none*, which answers at once, both from the same
  taught policy, if on the same processor, and at equal processor time behind its lessons. Expected: text is better at p
  = 0, and at p = 1 equal. Beside it stands the share of tallies in what is written for each kind of user, before RecPO
  and after it: nothing rewards tallies for a habit user. All texts are as long, so idle words are the cheap choice, not
  short ones.
- **The chain.** The same at p = 0 with 2 and 6 items summed.
- **The ways.** At p = 0 text against *latent*, *pause*, *none* and *distilled* (:data:`rrec_lib.lab.settings.LAB_WAYS`)
  at equal processor time, and all but the last at equal targets. Distilled has text's whole run before its own, so it
  has twice the time; added after the first runs: none with twice the time, too. The lessons, in tallies, are of use to
  text above all; no way is shown what to compute within.
- **The verdict.** Hit@1 on the test users. The margin is 7 % of the other arm's mean, by two one-sided tests at 5 %
  (:func:`rrec_lib.evaluation.equivalence.decide`); three seeds, five if time allows. No figure here was used to choose
  a knob: they are those of the lab's recorded run, with half of RecPO's steps and twice the valid users. The rate is
  that which was chosen for the arm without reasoning; latent and pause were not searched.
- **Equal.** Text ends by its rules, after W steps of warm-up and R of RecPO. Another way then gets so many steps for
  each of these (:data:`STEPS_FOR_ONE`, measured before) that it takes about as long; the files hold what it took. At
  equal targets it gets as many as have as many.

Each cell of the plan leaves one file of reports, which ``rrec compare`` reads, with its curves and processor seconds.
Started again, a run goes on behind the last file, and on the same processor ends with the same figures.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from rrec_lib.core.console import say
from rrec_lib.core.reading import check_same
from rrec_lib.evaluation.reports import load_reports, save_reports
from rrec_lib.lab import LabConfig, LabRun, run_arm, run_silent
from rrec_lib.lab.world import HISTORY

DIAL = LabConfig(steps=100, valid_users=512, test_users=2048)
STEPS_FOR_ONE = {"none": 3.2, "latent": 1.2, "pause": 1.4, "distilled": 1.3}  # of text's, at equal processor time
SHARES, CHAINS = (0.0, 0.25, 0.5, 0.75, 1.0), (2, HISTORY, 6)
FOLDER = Path("results/lab/dial")
CELL_SAMPLES = 1000  # of the bootstrap within a file; tables draw their own


@dataclass(frozen=True)
class Cell:
    """One run of the plan."""

    habits: float  # p
    way: str  # key of LAB_WAYS
    seed: int
    chain: int = HISTORY
    equal: str = "time"  # to text's, or "targets"; "twice" has twice its time

    @property
    def file(self) -> str:
        """Its file's name; all seeds' differ in the last number alone."""
        return f"{self.group}-{self.seed}.json"

    @property
    def group(self) -> str:
        equal = "" if self.equal == "time" else f"-{self.equal}"
        return f"p{round(100 * self.habits):03d}-chain{self.chain}-{self.way}{equal}"

    def config(self, config: LabConfig) -> LabConfig:
        return replace(config, habits=self.habits, chain=self.chain)


def _pairs(shares: Sequence[float], seeds: Sequence[int], chain: int = HISTORY) -> tuple[Cell, ...]:
    return tuple(Cell(p, way, seed, chain) for seed in seeds for p in shares for way in ("text", "none"))


STAGES = {  # in the order in which they say most
    "first": _pairs((0.0, 0.5, 1.0), [0]),
    "seeds": _pairs((0.0, 0.5, 1.0), [1, 2]),
    "ways": tuple(Cell(0.0, way, seed) for seed in range(3) for way in ("latent", "pause", "distilled")),
    "between": _pairs((0.25, 0.75), range(3)),
    "chain": tuple(cell for seed in range(3) for chain in (2, 6) for cell in _pairs((0.0,), [seed], chain)),
    "targets": tuple(Cell(0.0, way, seed, equal="targets") for seed in range(3) for way in ("none", "latent", "pause")),
    "twice": tuple(Cell(0.0, "none", seed, equal="twice") for seed in range(3)),
    "more seeds": _pairs(SHARES, [3, 4]),
}


def run_dial(stages: Sequence[str], out: Path, config: LabConfig = DIAL) -> None:
    """Run the cells of some of :data:`STAGES`; a cell that is finished stays as it is.

    Raises:
        ValueError: if a finished cell is of other knobs.
    """
    cells = [cell for stage in stages for cell in STAGES[stage]]
    for number, cell in enumerate(cells, 1):
        run_cell(cell, out, config)
        say(f"{number}/{len(cells)}: {out / cell.file}")


def run_cell(cell: Cell, out: Path, config: LabConfig = DIAL) -> None:
    """Run one cell, and text's first where it is not there yet, unless its file is."""
    path, own = out / cell.file, cell.config(config)
    if path.is_file():
        kept = load_reports(path)[0].run.get("settings")
        check_same(path, kept, asdict(own), "give the same ones, or another folder")
        return
    text = replace(cell, way="text", equal="time")
    if cell != text:
        run_cell(text, out, config)
    clock, wall = time.process_time(), time.monotonic()
    if cell == text:
        run = _text(own, cell.seed)
        steps: dict[str, int] = {"warm-up": -int(run.curves["step"][0]), "RecPO": own.steps}
        targets = steps["warm-up"] * own.warmup_rows + own.steps * own.users
    else:
        of_text = load_reports(out / text.file)[0].run
        steps = {"training": silent_steps(of_text["steps"], of_text["targets"], cell, own)}
        targets = steps["training"] * own.warmup_rows
        teacher = _text(own, cell.seed) if cell.way == "distilled" else None
        run = run_silent(own, cell.way, cell.seed, steps["training"], teacher)
        if run.lessons != of_text["lessons"]:
            say(f"note: the lessons ended with {run.lessons}, text's with {of_text['lessons']}, which were had on "
                "another processor or release of torch")  # fmt: skip
    reports = [
        replace(report, name=cell.way if read == "own" else f"{cell.way}, read: {read}", samples=CELL_SAMPLES)
        for read, report in run.final.items()
    ]
    spent = {"process": time.process_time() - clock, "wall": time.monotonic() - wall}
    save_reports(
        path, reports, "lab", reports[0].examples, cell.seed, cell=asdict(cell), settings=asdict(own), steps=steps,
        targets=targets, lessons=run.lessons, seconds=run.seconds | spent, curves=run.curves,
    )  # fmt: skip


def silent_steps(of_text: dict[str, int], targets: int, cell: Cell, config: LabConfig) -> int:
    """Steps of a way that writes nothing, from the steps and targets that text took."""
    if cell.equal == "targets":
        return -(-targets // config.warmup_rows)
    return round(sum(of_text.values()) * STEPS_FOR_ONE[cell.way] * (2 if cell.equal == "twice" else 1))


@lru_cache(maxsize=16)
def _text(config: LabConfig, seed: int) -> LabRun:
    """Trained once a process: what is distilled needs its weights."""
    return run_arm(config, "full", seed)
