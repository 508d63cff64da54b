"""The dial's recorded run: cells that resume, equal targets that are equal, and tables that say what wasn't run."""

import json
from dataclasses import replace

import pytest

from rrec_lib.evaluation.compare import group_reports
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments import dial_tables, lab_dial
from rrec_lib.experiments.lab_dial import Cell
from rrec_lib.lab import CONDITIONS, LAB_WAYS, LabConfig

TINY = LabConfig(
    steps=4, users=6, group_size=2, warmup_hits=1.0, warmup_steps=2, warmup_last_steps=2, warmup_rows=12, teach_steps=2,
    teach_mixed_steps=1, teach_rows=8, width=16, layers=1, heads=2, train_users=200, valid_users=40, test_users=64,
    evaluate_every=2,
)  # fmt: skip
PLAN = {
    "a": (Cell(0.5, "text", 0), Cell(0.5, "none", 0)),
    "b": (*(Cell(0.0, way, 0) for way in LAB_WAYS), Cell(0.0, "none", 0, equal="targets")),
}  # fmt: skip


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Run stages of a tiny plan; returns what all files hold, but for times."""
    monkeypatch.setattr(lab_dial, "STAGES", PLAN)
    monkeypatch.setattr(lab_dial, "CELL_SAMPLES", 20)
    monkeypatch.setattr(dial_tables, "SAMPLES", 20)

    def run(*stages, folder="one", config=TINY):
        lab_dial._text.cache_clear()
        out = tmp_path / folder / lab_dial.FOLDER
        lab_dial.run_dial(stages, out, config)
        kept = ("ranks", "curves", "steps", "targets", "settings", "lessons", "cell")
        files = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.iterdir())}
        return {name: {key: content[key] for key in kept} for name, content in files.items()}

    return run


def test_a_run_that_was_cut_short_ends_as_one_that_was_not(start, tmp_path, monkeypatch):
    whole = start("a", "b")
    assert len(whole) == 8
    trained = []
    original = lab_dial.run_silent
    monkeypatch.setattr(lab_dial, "run_silent", lambda *given: trained.append(given[1]) or original(*given))
    start("a", folder="two")
    out = tmp_path / "two" / lab_dial.FOLDER
    (out / "p050-chain4-none-0.json").unlink()
    assert start("a", "b", folder="two") == whole  # what is distilled needed weights that the first process had
    assert trained == ["none", "none", "latent", "pause", "none", "distilled", "none"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    start("a", "b", folder="two")
    assert len(trained) == 7
    with pytest.raises(ValueError, match=r"p050-chain4-text-0.json is of a run with other settings \(beta"):
        start("a", folder="two", config=replace(TINY, beta=0.9))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_other_figures_would_be_seen(start):
    assert start("a") != start("a", folder="two", config=replace(TINY, learning_rate_without=1e-2))


def test_a_cell_brings_the_run_in_text_that_it_is_equal_to(start, monkeypatch):
    monkeypatch.setattr(lab_dial, "STAGES", {"c": (Cell(0.0, "pause", 1, equal="targets"),)})
    files = start("c")
    assert list(files) == ["p000-chain4-pause-targets-1.json", "p000-chain4-text-1.json"]
    pause, text = files.values()
    assert text["steps"] == {"warm-up": 4, "RecPO": 4}
    assert text["targets"] == 4 * 12 + 4 * 6
    assert pause["targets"] == text["targets"]
    assert pause["steps"] == {"training": 6}


def test_steps_at_equal_time_are_text_s_times_what_was_measured():
    steps = {
        way: lab_dial.silent_steps({"warm-up": 300, "RecPO": 100}, 41_600, Cell(0.0, way, 0), lab_dial.DIAL)
        for way in lab_dial.STEPS_FOR_ONE
    }
    assert steps == {way: round(400 * factor) for way, factor in lab_dial.STEPS_FOR_ONE.items()}
    level = Cell(0.0, "none", 0, equal="targets")
    assert lab_dial.silent_steps({"warm-up": 300, "RecPO": 100}, 41_601, level, lab_dial.DIAL) == 326  # of 128 users


def test_a_cell_leaves_reports_that_can_be_compared_and_a_ledger(start, tmp_path):
    start("b")
    paths = sorted((tmp_path / "one" / lab_dial.FOLDER).iterdir())
    arms = group_reports([report for path in paths if "targets" not in path.name for report in load_reports(path)])
    assert set(arms) == set(LAB_WAYS) | {f"text, read: {name}" for name in CONDITIONS if name != "own"}
    for path in paths:
        run = load_reports(path)[0].run
        assert run["seconds"]["process"] >= run["seconds"]["training"] > 0
        assert "lessons" in run["seconds"]


def test_the_plan_has_each_cell_once_and_text_before_what_is_equal_to_it():
    cells = [cell for stage in lab_dial.STAGES.values() for cell in stage]
    assert len({cell.file for cell in cells}) == len(cells)
    for number, cell in enumerate(cells):
        assert replace(cell, way="text", equal="time") in cells[: number + 1]


def test_tables_and_figure_show_what_was_run_and_name_what_was_not(start, tmp_path):
    source, drawn = tmp_path / "one", tmp_path / "dial.png"
    assert dial_tables.dial_table(source).count("not run") == len(lab_dial.SHARES) + 1
    assert dial_tables.ways_table(source).count("not run") == len(LAB_WAYS)
    assert dial_tables.chain_table(source).count("not run") == len(lab_dial.CHAINS)
    assert dial_tables.dial_figure(source, drawn) == "The dial: not run."
    assert not drawn.exists()
    start("a", "b")
    dial, ways, chain = (
        table(source) for table in (dial_tables.dial_table, dial_tables.ways_table, dial_tables.chain_table)
    )
    assert dial.count("not run") == len(lab_dial.SHARES) - 2
    none_has_habits, half = ([line for line in dial.splitlines() if line.startswith(f"| {p} |")] for p in ("0", "0.5"))
    assert ", margin " in half[0]
    assert none_has_habits[1].endswith("| no such users |")
    assert "no such users" not in half[1]
    assert "8 cells, 0.0 CPU hours" in dial
    assert ways.count("not run") == 3  # latent and pause at text's targets, none in twice its time
    assert chain.count("not run") == len(lab_dial.CHAINS) - 1
    alt = dial_tables.dial_figure(source, drawn)
    assert "at p = 0, " in alt
    assert "at p = 0.5." in alt
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_the_margin_is_of_the_other_arm_and_decides(start, tmp_path):
    start("a")
    (found,) = dial_tables._arm(tmp_path / "one", PLAN["a"][1])
    right, wrong = (replace(found, n_greater=found.n_greater * 0 + above) for above in (0, 40))
    verdicts = [
        dial_tables._decision([one], [other]) for one, other in ((right, right), (wrong, right), (right, wrong))
    ]
    assert [verdict.split(":")[0] for verdict in verdicts] == [
        f"{outcome} (of one run)" for outcome in ("equal", "worse", "better")
    ]
    assert verdicts[0].endswith("margin 0.070")
