"""The verdict's tables, ledger and figures on made-up reports, and what must not be compared."""

import json

import numpy as np
import pytest

from rrec_lib.evaluation.compare import cap_rows, detectable_difference, user_spread
from rrec_lib.evaluation.equivalence import decide
from rrec_lib.evaluation.reports import Report, load_reports, save_reports
from rrec_lib.experiments import verdict_figures as figures
from rrec_lib.experiments import verdict_page
from rrec_lib.experiments.verdict import (
    CPU_TIME,
    MARGIN,
    TARGETS,
    VERDICT_ARMS,
    ledger,
    ledger_table,
    verdict_arms,
    verdict_lines,
    verdict_table,
    verdict_tables,
)
from rrec_lib.experiments.verdict_page import verdict_fragments

USERS = np.repeat(np.arange(40), 3)


def made_up(name, shift=0, noise=0, seed=0):
    """Ranks around ten, ``shift`` places further down, with ``noise`` of their own."""
    base = np.random.default_rng(7).integers(0, 20, len(USERS))
    own = np.random.default_rng([seed, noise, shift % 97]).integers(-noise, noise + 1, len(USERS))
    ranks = np.maximum(base + shift + own, 0)
    return Report(name, ranks, np.ones_like(ranks), USERS, 0, 50, 0, 100, "e")


def write(root, folder, report, seed=0, **spent):
    path = root / "results" / "verdict" / folder / "movielens-cpu" / f"{report.name.replace(' ', '-')}-{seed}.json"
    save_reports(path, [report], "cpu", "d", seed, settings={"hours": 1.0}, **spent)


@pytest.fixture
def recorded(tmp_path):
    """Arms of a data set: one equal, one worse, one better, one of too many targets."""
    equal = {"targets": 1000, "cpu_seconds": 3600.0}
    write(tmp_path, "equal-targets", made_up("without reasoning"), 0, **equal)
    write(tmp_path, "equal-targets", made_up("without reasoning", noise=1, seed=1), 1, **equal)
    write(tmp_path, "equal-targets", made_up("with reasoning"), 0, targets=1000, cpu_seconds=7200.0)
    write(tmp_path, "equal-targets", made_up("distilled", shift=15), 0, **equal)
    write(tmp_path, "equal-targets", made_up("RLOO", shift=-6), 0, **equal)
    write(tmp_path, "equal-targets", made_up("without R_d"), 0, targets=1500, cpu_seconds=3600.0)
    write(tmp_path, "equal-targets", made_up("without R_c"), 0)
    return tmp_path


def lines_of(root, budget):
    arms = verdict_arms(root, "movielens-cpu", budget)
    return {line.name: line for line in verdict_lines(arms, budget, samples=300)}


def test_arms_are_decided_against_the_one_without_at_equal_targets(recorded):
    lines = lines_of(recorded, TARGETS)
    decided = {name: line.decision.outcome for name, line in lines.items() if line.decision}
    assert decided == {"with reasoning": "equal", "distilled": "worse", "RLOO": "better"}
    assert lines["without reasoning"].seeds == 2
    assert lines["without R_d"].refused == "not comparable: 1,500 targets against 1,000"
    assert lines["without R_c"].refused == "targets not recorded"
    assert {name for name, line in lines.items() if not line.seeds} == {*VERDICT_ARMS} - {
        "with reasoning",
        "without reasoning",
        "distilled",
        "RLOO",
        "without R_d",
        "without R_c",
    }
    arms = verdict_arms(recorded, "movielens-cpu", TARGETS)
    without = np.mean([report.metric("ndcg@20") for report in arms["without reasoning"]], axis=0)
    spread = user_spread(arms["distilled"][0].metric("ndcg@20") - without, USERS)
    assert lines["distilled"].detectable == detectable_difference(40, spread, level=0.9)


def test_at_equal_time_another_run_may_take_an_arms_place(recorded):
    assert lines_of(recorded, CPU_TIME)["with reasoning"].refused.startswith("not comparable: 7,200 CPU seconds")
    write(recorded, "equal-time", made_up("without reasoning", shift=15), 0, targets=2000, cpu_seconds=7100.0)
    lines = lines_of(recorded, CPU_TIME)
    assert lines["without reasoning"].seeds == 1
    assert lines["with reasoning"].decision.outcome == "better"
    assert lines["distilled"].refused  # half the time
    assert lines_of(recorded, TARGETS)["with reasoning"].decision.outcome == "equal"  # untouched
    write(recorded, "equal-targets", made_up("with reasoning", noise=1, seed=1), 1, targets=1000, cpu_seconds=9000.0)
    again = lines_of(recorded, CPU_TIME)["with reasoning"]  # without has no second seed yet
    assert (again.seeds, again.decision) == (1, lines["with reasoning"].decision)
    write(recorded, "equal-time", made_up("without reasoning", 15, 1, seed=1), 1, targets=2000, cpu_seconds=5000.0)
    assert lines_of(recorded, CPU_TIME)["with reasoning"].refused == "not comparable: 9,000 CPU seconds against 5,000"
    write(recorded, "equal-time", made_up("without reasoning", 15, 1, seed=1), 1, targets=2000, cpu_seconds=9100.0)
    assert lines_of(recorded, CPU_TIME)["with reasoning"].decision.runs == 2


def test_the_tables_say_what_was_not_run(recorded):
    table = verdict_table(verdict_arms(recorded, "movielens-cpu", TARGETS), TARGETS, samples=300)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines() if row.startswith("| ")}
    assert rows["with reasoning"].startswith("| with reasoning | 1 | 1,000 | 2.00 | 0.")
    assert "| equal (of one run): 0." in rows["with reasoning"]
    assert rows["with reasoning"].count("[") == 2  # the difference, and what decides
    assert rows["RecPO, without R_c"].startswith("| RecPO, without R_c | 1 | – | – | 0.")
    assert "with reasoning, warm-up alone" not in rows
    said = table.splitlines()[-1].removeprefix("Not run yet: ").removesuffix(".").split("; ")
    assert said[0] == "with reasoning, warm-up alone"
    assert {*said, *rows} == {"arm", *VERDICT_ARMS.values()}
    assert len({row.count("|") for row in table.splitlines() if row.startswith("|")}) == 1
    assert "7% of the arm without reasoning; 120 rows of 40 users." in table
    whole = verdict_tables(recorded, "movielens-cpu")
    assert whole.startswith("#### At equal targets")
    assert whole.endswith("#### At equal CPU time\n\nNot run yet.\n")  # nothing was trained to be as long as another
    write(recorded, "equal-time", made_up("without reasoning", shift=15), 0, targets=2000, cpu_seconds=7100.0)
    whole = verdict_tables(recorded, "movielens-cpu")
    assert whole.count("Not run yet: with reasoning, warm-up alone; ") == 2
    assert verdict_tables(recorded, "other-cpu") == "Not run yet.\n"  # a table of nothing else is a line


def test_an_arm_alone_is_as_long_as_nobody_and_stands_beside_the_best_baseline(tmp_path):
    write(tmp_path, "equal-targets", made_up("without reasoning"), 0, targets=1000, cpu_seconds=3600.0)
    first, second = verdict_tables(tmp_path, "movielens-cpu").split("#### At equal CPU time")
    assert "| without reasoning | 1 | 1,000 | 1.00 | 0." in first
    assert second.strip() == "Not run yet."
    baselines = tmp_path / "results" / "baselines" / "movielens-cpu" / "reports.json"
    save_reports(baselines, [made_up("EASE", shift=15), made_up("GRU4Rec", shift=-6)], "cpu", "d", 0)
    said = verdict_tables(tmp_path, "movielens-cpu").partition("\n#### At equal CPU time")[0].splitlines()[-1]
    assert said.startswith("The best tuned baseline on the same rows is GRU4Rec, at 0.")
    assert "Without reasoning at equal targets, beside it: worse by 0." in said


def test_the_ledger_adds_what_files_say_and_names_the_silent(recorded):
    write(
        recorded, "equal-targets", made_up("warm-up alone"), 0, cpu_seconds=3600.0, writing={"cpu_seconds_per_row": 0.5}
    )
    (recorded / "results" / "lab").mkdir()
    cells = {"a": {"seconds": {"process": 120.0, "text": 70.0}}, "b": {"trials": [{"cpu_seconds": 60.0}]}}
    cells["c"] = {"cpu_seconds": None, "evaluation_cpu_seconds": 36.0}
    for name, content in cells.items():
        (recorded / "results" / "lab" / f"{name}.json").write_text(json.dumps(content))
    found = ledger(recorded, ["verdict", "lab", "compute"])
    # Two of the arm without, the one with of two hours, distilled, RLOO, without R_d, the warm-up.
    assert found["verdict"] == {"files": 8, "training": 8 * 3600.0, "reading": 60.0, "silent": 1}
    assert found["lab"] == {"files": 3, "training": 180.0, "reading": 36.0, "silent": 1}
    table = ledger_table(recorded, ["verdict", "lab", "compute"]).splitlines()
    assert table[2] == "| `verdict` | 8 | 8.00; not recorded in 1 files | 0.02 |"
    assert table[4] == "| `compute` | not run | | |"
    assert table[-1] == "| together | 11 | 8.05 | 0.03 |"


def test_a_stage_that_arms_share_counts_once(recorded):
    place = recorded / "results" / "verdict" / "equal-targets" / "movielens-cpu"
    rows = [{"step": 1, "cpu_seconds": 40.0}, {"step": 2, "cpu_seconds": 90.0}, {"train_loss": 1.0}]
    for name, kept in {"with-reasoning-0-warmup": rows, "RLOO-0-recpo": rows[:1], "old-0": rows[2:]}.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert ledger(recorded, ["verdict"])["verdict"] == {"files": 10, "training": 130.0, "reading": 0.0, "silent": 1}


def test_gains_are_per_cent_of_the_arm_without_and_drawn_where_there_are_any(tmp_path):
    without, worse = [made_up("without reasoning")], [made_up("x", shift=15)]
    gain = figures.gain_of(decide(worse, without, "ndcg@20", MARGIN, samples=300))
    means = [arm[0].metric("ndcg@20").mean() for arm in (worse, without)]
    assert gain.outcome == "worse (of one run)"
    assert gain.mean == pytest.approx(100 * (means[0] / means[1] - 1))
    assert gain.low < gain.mean < gain.high < 0
    nothing = [figures.replace(without[0], n_greater=np.full(len(USERS), 90))]
    with pytest.raises(ValueError, match="mean of 0"):
        figures.gain_of(decide(worse, nothing, "ndcg@20", MARGIN, samples=300))
    path = tmp_path / "gain.png"
    alt = figures.gain_figure({}, {"MovieLens": gain, "Office": None}, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "lab: not run; MovieLens: worse (of one run), −" in alt
    assert alt.endswith("Office: not run.")
    dial = {1.0: figures.Gain("equal", 0.4, -2.0, 3.0), 0.0: figures.Gain("better", 250.0, 200.0, 301.0)}
    alt = figures.gain_figure(dial, {"MovieLens": None}, path)
    assert "lab, 0 habit users: better, +250 [+200, +301]; lab, 1 habit users: equal, +0" in alt


@pytest.fixture
def curve(tmp_path):
    """A curve on two rows of each user."""
    names = ["1 reasoning", "4 reasonings", "none", "greedy"]
    kept = figures.sample_examples([{"user_id": u, "row": n} for n, u in enumerate(USERS.tolist())], 120, 2, seed=0)
    rows = [one["row"] for one in kept]
    reports = []
    for number, name in enumerate(names):
        whole = made_up(name, shift=-number)
        ranks = {of: getattr(whole, of)[rows] for of in ("n_greater", "n_equal", "users")}
        reports.append(figures.replace(whole, **ranks, examples="two a user"))
    asking = {"1 reasoning": 0.4, "4 reasonings": 1.1, "none": 0.2, "greedy": 0.41}
    path = tmp_path / "compute-curve-0.json"
    save_reports(
        path,
        reports,
        "cpu",
        "d",
        0,
        asking=asking,
        settings={"test_rows": 2, "timed_rows": 64},
        tokens=26.0,
        unfinished=0.01,
    )
    return figures.read_curve(path)


def test_the_curve_stands_beside_arm_and_baselines_on_its_own_rows(curve, tmp_path):
    without, baselines = [made_up("without reasoning")], [made_up("EASE", shift=5)]
    table = figures.compute_table(curve, without, baselines).splitlines()
    assert len({row.count("|") for row in table if row.startswith("|")}) == 1
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table if row.startswith("| ")}
    assert rows["4 reasonings"].startswith("| 4 reasonings | 1.1 | 0.")
    assert rows["1 reasoning"].endswith("| 0.000 [0.000, 0.000] |")  # as without
    assert rows["the arm without reasoning"].startswith("| the arm without reasoning | 0.2 | 0.")
    assert rows["EASE"].split(" | ")[3].startswith("−0.")
    mean = cap_rows(made_up("EASE", shift=5), 2).metric("ndcg@20").mean()  # the same rows in another order
    assert f"| EASE |  | {mean:.3f}, " in rows["EASE"]
    path = tmp_path / "curve.png"
    alt = figures.compute_figure(curve, without, baselines, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"EASE {mean:.3f}" in alt
    assert " for 1.1 s" in alt
    assert "without reasoning" not in figures.compute_figure(curve, [], [], path)
    curve["1 reasoning"].run["asking"]["EASE"] = 0.00012
    assert f"EASE {mean:.3f} for 0.00012 s" in figures.compute_figure(curve, [], baselines, path)
    assert f"| EASE | 0.00012 | {mean:.3f}, " in figures.compute_table(curve, without, baselines)
    assert [figures.positional(s) for s in (7.3e-05, 0.356, 4.3, 12.4)] == ["0.000073", "0.36", "4.3", "12"]


def test_a_curve_of_other_rows_is_refused_and_none_says_so(curve, tmp_path):
    other = figures.replace(made_up("EASE"), users=USERS[::-1])
    with pytest.raises(ValueError, match="EASE and the curve were evaluated on other rows"):
        figures.compute_table(curve, [], [other])
    path = tmp_path / "other.json"
    save_reports(path, [made_up("EASE")], "cpu", "data-prompts of another length")
    assert "| EASE |" in figures.compute_table(curve, [], load_reports(path))
    whole = figures.replace(made_up("greedy"), run={"settings": {}})
    assert figures.rows_of_curve(made_up("EASE"), whole).examples == whole.examples
    with pytest.raises(ValueError, match="other rows"):
        figures.rows_of_curve(figures.replace(made_up("EASE"), examples="others of the same users"), whole)
    assert figures.read_curve(tmp_path / "nothing.json") == {}
    assert figures.compute_table({}, [], []) == "Not run yet.\n"
    assert figures.compute_figure({}, [], [], tmp_path / "none.png") == ""
    assert not (tmp_path / "none.png").exists()


def test_all_fragments_of_the_page_are_made_from_one_folder(recorded, curve, tmp_path, monkeypatch):
    empty = verdict_fragments(tmp_path / "nothing", tmp_path)
    assert set(empty) == {
        "verdict",
        "compute",
        "controls",
        "controls-before",
        "ledger",
        "gain",
        "first-trial",
        "dial",
        "ceiling",
        "writing",
    }
    assert all("not run" in text.lower() for text in empty.values())
    place = recorded / "results" / "compute" / "movielens-cpu"
    place.mkdir(parents=True)
    (tmp_path / "compute-curve-0.json").rename(place / "compute-curve-0.json")
    monkeypatch.setattr(verdict_page, "dial_gains", lambda source: {0.0: figures.Gain("better", 97.0, 96.0, 98.0)})
    found = verdict_fragments(recorded, tmp_path)
    assert "better, +97" in found["gain"]
    assert "MovieLens: equal (of one run), +" in found["gain"]
    assert f"]({tmp_path.name}/verdict-gain.png)" in found["gain"]
    assert "![NDCG@20 on 80 rows against CPU seconds: 1 reasoning 0." in found["compute"]
    assert (tmp_path / "verdict-compute-movielens-cpu.png").is_file()
    assert found["ledger"].count("\n| `") == 8
