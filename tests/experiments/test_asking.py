"""What a recommendation costs, beside what it brings."""

import json
from pathlib import Path

from experiments.test_tables import recorded  # tests/ is on the path

from rrec_lib.core.paths import resource
from rrec_lib.evaluation.reports import save_reports
from rrec_lib.experiments.asking import BIGREC, EXACTLY, OURS, PUBLIC, SEARCHED, asking_table

PAGE = Path(__file__).resolve().parents[2] / "book" / "cost.md"


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
    reports = [recorded("EASE", [0] * 8), recorded("S-DPO", [1, 9] * 4)]
    save_reports(place / "reports.json", reports, "cpu", "d", made={"EASE": {}, "S-DPO": {"hours": 0.5}})
    (place / "ease.json").write_text(json.dumps({"trials": trials}))
    table = asking_table(tmp_path, tmp_path / "drawn")
    assert "| EASE | 2.3 | 42 | 2.3 | 12 s | 1.000 |" in table
    assert f"| {EXACTLY} | 2.3 | 42 | 2.3 | 0.5 h | 0.4" in table
    assert f"| {BIGREC} | 2.3 | 42 | 2.3 |  | not run yet |" in table
    assert f"| {PUBLIC} | 2.3 | 42 |  |  |  |" in table
    assert "Medians of 3 users" in table
    assert "of one recommendation: EASE 1.000 for 2.3 s, S-DPO 0.4" in table
    assert (tmp_path / "drawn" / "asking.png").is_file()
    assert "drawn/asking.png" not in asking_table(tmp_path)


def test_the_page_says_what_the_files_hold():
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    asking, trie = (json.loads(resource(f"results/benchmarks/{name}.json").read_text())["figures"]
                    for name in ("asking", "trie"))  # fmt: skip
    alone = {name: way["alone"]["cpu_seconds"]["median"] for name, way in asking["recommendations"].items()}
    took = {name: span["median"] for name, span in trie["seconds_per_prompt"].items()}
    for sentence in (
        f"({said(alone[SEARCHED], 2)} s against {said(alone[OURS], 1)})",
        f"free writing takes {said(alone[BIGREC] / alone[OURS], 1)} times",
        f"`generate` {said(alone[PUBLIC] / alone[OURS], 0)} times",
        f"ranks {trie['items']} of them exactly in {said(took['trie'], 0)} s by one walk",
        f"{trie['nodes_with_a_choice']} of {trie['nodes']:,} nodes and takes {said(took['trie_constrained'], 1)} s",
        f"then takes {said(took['beams_constrained'], 1)} s, and {said(took['beams'], 1)} s where every token counts",
    ):
        assert sentence in page


def said(number, digits):
    return f"{number:.{digits}f}".lstrip("0")
