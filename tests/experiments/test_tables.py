"""The tables of recorded runs: figures where a file is, and *not run yet* where none is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrec_lib.evaluation.compare import detectable_difference, user_spread
from rrec_lib.evaluation.reports import Report, save_reports
from rrec_lib.experiments import tables

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmarks_table_shows_what_is_recorded_and_says_what_is_not(tmp_path):
    assert tables.benchmarks_table(tmp_path).count("not measured yet") == len(tables.BENCHMARKS)
    run = {"ratio": 2.5, "spread": [2.4, 2.75], "rounds": 5, "commit": "abc", "device": "CPU", "time": "2026-01-02T03"}
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    (tmp_path / "results" / "benchmarks" / "rollouts.json").write_text(json.dumps(run))
    table = tables.benchmarks_table(tmp_path)
    assert "| `rollouts` | 2.50 | 2.40 to 2.75 | 5 |" in table
    assert "commit abc, CPU, 2026-01-02" in table
    assert table.count("not measured yet") == len(tables.BENCHMARKS) - 1


def recorded(name, greater, examples="e"):
    ranks = np.array(greater)
    return Report(name, ranks, np.ones_like(ranks), np.arange(len(ranks)) // 2, 0, 200, 0, 100, examples)


def test_the_reference_table_shows_what_was_run_and_names_what_was_not(tmp_path):
    def movielens():
        return tables.reference_tables(tmp_path, tmp_path).split("## ")[1]

    empty = tables.reference_tables(tmp_path, tmp_path)
    assert empty.count("not run yet") == 4 * len(tables.DATA_SETS)
    folder = tmp_path / "results" / "reference" / "movielens-cpu"
    good, poor = [0, 0, 1, 0, 0, 2, 0, 0], [30, 9, 40, 50, 8, 60, 20, 12]
    for seed in (0, 1):
        save_reports(folder / f"with-{seed}.json", [recorded("with reasoning", [*good[:7], seed])], "cpu", "d", seed)
    assert "| R²ec with reasoning | 2 | 0." in movielens()
    assert "| R²ec without reasoning | not run yet |" in movielens()
    assert "With against without" not in movielens()
    save_reports(folder / "without-0.json", [recorded("without reasoning", poor)], "cpu", "d", 0)
    rivals = tmp_path / "results" / "baselines" / "movielens-cpu" / "reports.json"
    save_reports(rivals, [recorded("EASE", [1] * 8), recorded("weak", poor), recorded("chance", [70] * 8)], "cpu", "d")
    table = movielens()
    assert "| EASE, the best tuned baseline | 1 |" in table
    assert "![NDCG@20, best first: R²ec with reasoning 0." in table
    assert (tmp_path / "reference-movielens-cpu.png").read_bytes().startswith(b"\x89PNG")
    (weak,) = [line for line in table.splitlines() if line.startswith("| weak |  | 0.")]  # no search of it stands there
    assert "better by 0." in weak
    assert table.count("With against without reasoning: better by 0.") == 2  # all rows, and capped
    (without,) = [line for line in table.splitlines() if line.startswith("| R²ec without")]
    assert "worse by" in without
    assert "seed 1: 8 rows of 4 users" in table
    spread = user_spread(
        recorded("", [1] * 8).metric("ndcg@20") - recorded("", poor).metric("ndcg@20"), np.arange(8) // 2
    )
    assert "*Detectable*: 8 rows of 4 users. Between the best baseline and each of the next 2 the" in table
    assert f"true difference of 0.000 to {detectable_difference(4, spread):.3f} is then shown" in table
    save_reports(folder / "without-1.json", [recorded("without reasoning", poor, "other")], "cpu", "d", 1)
    with pytest.raises(ValueError, match="different examples"):
        tables.reference_tables(tmp_path, tmp_path)


def test_the_baselines_table_shows_the_recorded_searches(tmp_path):
    assert tables.baselines_table(tmp_path, "movielens-cpu").count("not run yet") == len(tables.BASELINES)
    table = tables.baselines_table(ROOT, "movielens-cpu")
    (ease,) = [line for line in table.splitlines() if line.startswith("| EASE |")]
    recorded = json.loads((ROOT / "results/baselines/movielens-cpu/ease.json").read_text())["trials"]
    best = max(recorded, key=lambda trial: trial["valid"])["parameters"]
    assert ease.endswith(f"| {len(recorded)} | l2 {best['l2']}, length {best['length']} |")


def test_how_language_models_were_ranked_is_told():
    beams, exact, longer = {"hours": 0.5, "beams": 50}, {"hours": 0.5, "beams": 0}, {"hours": 1.0, "beams": 50}
    made: Any = {"EASE": {"commit": "a"}, "D3": beams, "S-DPO": beams, "LLaRA": exact, "BigRec": beams, "SPRec": longer}
    assert tables._ways_of_ranking(made) == ["", "D3, S-DPO: trained for 0.5 CPU hours and ranked by 50 beams; "
        "LLaRA: trained for 0.5 CPU hours and ranked exactly; BigRec: trained for 0.5 CPU hours; "
        "SPRec: trained for 1 CPU hours and ranked by 50 beams."]  # fmt: skip
    assert tables._ways_of_ranking({"EASE": {"commit": "a"}}) == []
