"""What a recommendation costs, beside what it brings."""

import json

from experiments.test_tables import recorded  # tests/ is on the path

from rrec_lib.evaluation.reports import save_reports
from rrec_lib.experiments.asking import BIGREC, EXACTLY, PUBLIC, asking_table


def test_what_a_recommendation_costs_stands_beside_what_it_brings(tmp_path):
    assert asking_table(tmp_path) == "Not measured yet.\n"
    spent = {"cpu_seconds": {"median": 2.345}, "of_each": [1.0, 2.345, 3.0], "tokens": 41.6}
    both = {"alone": spent, "together": spent}
    found = {"EASE": both, EXACTLY: both, BIGREC: both, PUBLIC: {"alone": spent}}
    run = {"figures": {"together": 32, "catalogue": 500, "recommendations": found},
           "commit": "abc", "device": "CPU", "time": "2026-01-02T03"}  # fmt: skip
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    (tmp_path / "results" / "benchmarks" / "asking.json").write_text(json.dumps(run))
    place = tmp_path / "results" / "baselines" / "movielens-cpu"
    trials = [{"valid": 0.1, "seconds": 900.0}, {"valid": 0.2, "seconds": 12.3}]
    reports = [recorded("EASE", [0] * 8), recorded("D3", [1, 9] * 4)]
    save_reports(place / "reports.json", reports, "cpu", "d", made={"EASE": {}, "D3": {"hours": 0.5}})
    (place / "ease.json").write_text(json.dumps({"trials": trials}))
    table = asking_table(tmp_path, tmp_path / "drawn")
    assert "| EASE | 2.3 | 42 | 2.3 | 12 s | 1.000 |" in table
    assert f"| {EXACTLY} | 2.3 | 42 | 2.3 | 0.5 h | 0.4" in table
    assert f"| {BIGREC} | 2.3 | 42 | 2.3 |  | not run yet |" in table
    assert f"| {PUBLIC} | 2.3 | 42 |  |  |  |" in table
    assert "Medians of 3 users" in table
    assert "of one recommendation: EASE 1.000 for 2.3 s, D3 0.4" in table
    assert (tmp_path / "drawn" / "asking.png").is_file()
    assert "drawn/asking.png" not in asking_table(tmp_path)
