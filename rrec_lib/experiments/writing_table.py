"""What RecPO chose to write while it trained: skills, truth and reward, from the logs of the trial's runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrec_lib.core.reading import read_json_lines
from rrec_lib.training.skills import SKILLS

SPAN = 25  # steps that a line averages
NAMED = "-recpo.jsonl"  # behind an arm and its seed
HEADS = (
    "run",
    "steps",
    *SKILLS,
    "none",
    "statements that are true",
    "reward",
    "spread in a group",
    "entropy",
    "tokens",
)


def writing_table(folder: Path) -> str:
    """Markdown table: of each run's log in a folder its first and its last :data:`SPAN` steps; no rows without logs."""
    rows = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    for path in sorted(folder.glob(f"*{NAMED}")):
        steps = [row for row in read_json_lines(path) if f"{next(iter(SKILLS))}_share" in row]
        arm, _, seed = path.name.removesuffix(NAMED).rpartition("-")
        for part in (steps[:SPAN], steps[SPAN:][-SPAN:]):
            if part:
                told = f"{arm.replace('-', ' ')}, seed {seed}", f"{part[0]['step']} to {part[-1]['step']}"
                rows.append(f"| {' | '.join([*told, *_cells(part)])} |")
    return "\n".join(rows) + "\n"


def _cells(part: Sequence[Mapping[str, Any]]) -> list[str]:
    mean = {name: float(np.mean([row[name] for row in part])) for name in part[0] if isinstance(part[0][name], float)}
    shares = [f"{mean[f'{skill}_share']:.0%}" for skill in (*SKILLS, "none")]
    true = f"{mean['true_statements'] / mean['statements']:.0%}" if mean["statements"] else "nothing stated"
    others = [f"{mean[name]:.{digits}f}" for name, digits in
              (("reward", 3), ("reward_std_in_group", 3), ("entropy", 2), ("reasoning_tokens", 0))]  # fmt: skip
    return [*shares, true, *others]
