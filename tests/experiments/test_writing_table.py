"""What RecPO wrote: the first and the last steps of each log in a folder."""

import pytest

from rrec_lib.core.results import log_lines
from rrec_lib.experiments.verdict import or_not_run
from rrec_lib.experiments.writing_table import SPAN, writing_table
from rrec_lib.training.skills import SKILLS

COLUMNS = 5 + 1 + 6  # skills and none, truth, and run, steps, reward, spread, entropy, tokens


def logged(step, taste, true=1.0, statements=2.0):
    shares = {f"{skill}_share": 0.0 for skill in SKILLS} | {"taste_share": taste, "none_share": 1 - taste}
    figures = {"reward": 0.2, "reward_std_in_group": 0.05, "entropy": 0.5, "reasoning_tokens": 20.0}
    return {"step": step, "statements": statements, "true_statements": true, **shares, **figures}


@pytest.mark.parametrize(
    ("steps", "spans"), [(60, ["1 to 25", "36 to 60"]), (30, ["1 to 25", "26 to 30"]), (9, ["1 to 9"])]
)
def test_the_first_and_the_last_steps_are_averaged(tmp_path, steps, spans):
    half = [logged(step, 1.0 if step <= SPAN else 0.25, 1.0 if step <= SPAN else 1.5) for step in range(1, steps + 1)]
    log_lines([*half, {"step": steps, "train_runtime": 1.0}], tmp_path / "without-R_d-3-recpo.jsonl")
    log_lines([logged(1, 0.0)], tmp_path / "without-R_d-3-warmup.jsonl")
    lines = writing_table(tmp_path).splitlines()
    assert {line.count("|") for line in lines} == {COLUMNS + 1}
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[:3] for row in cells] == [
        ["without R_d, seed 3", span, share] for span, share in zip(spans, ["100%", "25%"], strict=False)
    ]
    assert [row[-5:] for row in cells] == [[true, "0.200", "0.050", "0.50", "20"] for true in ("50%", "75%")][
        : len(cells)
    ]


def test_no_log_is_no_row_and_nothing_stated_says_so(tmp_path):
    assert or_not_run(writing_table(tmp_path)) == "Not run yet.\n"
    log_lines([logged(1, 0.0, 0.0, 0.0)], tmp_path / "with-reasoning-0-recpo.jsonl")
    assert "| nothing stated |" in writing_table(tmp_path)
