"""The leaderboard: ranks, ties and marks; what is let in, and what is refused and leaves the board as it was."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rrec_lib.core.paths import NoRoomError
from rrec_lib.evaluation.checks import Finding
from rrec_lib.evaluation.compare import Comparison, compare
from rrec_lib.evaluation.intervals import Interval
from rrec_lib.evaluation.reports import Report, load_reports, save_reports
from rrec_lib.experiments import leaderboard_add
from rrec_lib.experiments.leaderboard import (
    NOT_APART,
    Line,
    board_lines,
    board_table,
    leaderboard_lines,
    leaderboard_tables,
)
from rrec_lib.experiments.leaderboard_add import add_report
from rrec_lib.experiments.reference import ARMS, WITH
from rrec_lib.experiments.tables import DATA_SETS

ROOT = Path(__file__).resolve().parents[2]
PLACE, OTHER = list(DATA_SETS)[:2]
BLIND = Finding("blind", True, "scores stay the same")
GOOD, MIDDLING, POOR = [0, 1] * 10, [0, 2] * 10, [40, 60] * 10


def made(name, greater, **changes):
    """A report of 20 rows of ten users."""
    ranks = np.array(greater)
    sound = Report(name, ranks, np.ones_like(ranks), np.arange(len(ranks)) // 2, 0, 200, 0, 100, "e", findings=[BLIND])
    return replace(sound, **changes)


def saved(path, *reports, data="d", seed=0, **notes):
    save_reports(path, reports, "cpu", data, seed, **notes)
    return path


@pytest.fixture
def root(tmp_path):
    """A project with two recorded sets."""
    results = tmp_path / "project" / "results"
    chosen = {"best": {"parameters": {"l2": 10}, "commit": "abc", "time": "2026-01-02T03:04:05+00:00"}}
    saved(results / "baselines" / PLACE / "reports.json", made("best", GOOD), made("poor", POOR), made=chosen)
    for seed in (0, 1):
        saved(results / "reference" / PLACE / f"{seed}.json", made(WITH, [seed, *MIDDLING[1:]]), seed=seed)
    other = made("best", GOOD, examples="other", n_items=70)
    saved(results / "baselines" / OTHER / "reports.json", other, data="other")
    return tmp_path / "project"


@pytest.fixture
def board(root):
    return root / "results" / "leaderboard"


def held(board):
    """Every file of a board with what it holds."""
    return {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}


def test_the_second_trials_arms_have_lines_of_their_own(root, board):
    shown = lambda: board_table(board_lines(PLACE, board, root), PLACE, board)  # noqa: E731
    assert "verdict" not in shown()
    saved(root / "results" / "verdict" / "equal-targets" / PLACE / "0.json", made(WITH, MIDDLING), made("RLOO", POOR))
    assert f"| {ARMS[WITH]} | 2 |" in shown()
    assert f"| {ARMS[WITH]}, second trial | 1 |" in shown()
    assert "RLOO" not in shown()
    assert f"`results/verdict/equal-targets/{PLACE}/`" in shown()


def test_lines_are_ranked_marked_and_paired_with_the_first(root, board):
    lines = board_lines(PLACE, board, root)
    assert [(line.rank, line.name, len(line.arm)) for line in lines] == [
        (1, "best", 1), (2, ARMS[WITH], 2), (3, "poor", 1),
    ]  # fmt: skip
    first, second, last = lines
    assert (first.difference, first.apart, first.chosen, first.recorded) == (None, True, "l2 10", "abc, 2026-01-02")
    assert last.difference == compare(last.arm, first.arm, "ndcg@20")
    assert (last.apart, last.place) == (True, "3")
    assert "worse by" in last.against
    assert second.ndcg.mean == pytest.approx(np.mean([report.metric("ndcg@20").mean() for report in second.arm]))
    assert second.hit == 1
    assert second.chosen == ""


def test_a_line_that_cannot_be_told_from_the_first_is_marked():
    near = [1, 0] * 10  # another half of the rows, each user alike
    lines = leaderboard_lines({"one": [made("one", GOOD)], "two": [made("two", [*near[:18], 0, 2])]}, 500)
    assert [(line.name, line.apart) for line in lines] == [("one", True), ("two", False)]
    assert lines[1].place == f"2 {NOT_APART}"
    assert lines[0].minus_first == ""
    assert lines[1].minus_first.endswith(" 0.000]")
    assert "no difference can be shown" in lines[1].against


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ((-0.0123, -0.02, -0.004), "−0.012 [−0.020, −0.004]"),
        ((-0.0123, -0.02, -0.00004), "−0.01230 [−0.02000, −0.00004]"),
        ((-0.0123, -0.02, 0.00004), "−0.012 [−0.020, 0.000]"),
        ((-0.0001, -0.02, 0.02), "0.000 [−0.020, 0.020]"),
    ],
)
def test_what_is_told_apart_from_zero_is_not_printed_as_zero(bounds, shown):
    mean, low, high = bounds
    found = Comparison("ndcg@20", ("a", "b"), Interval(mean, low, high, 0.95, 10, 20), None, None, (1, 1))
    assert Line(2, "a", [], found.interval, 0.0, found).minus_first == shown


def test_equal_means_share_a_rank_and_the_next_is_counted_on():
    arms = {name: [made(name, ranks)] for name, ranks in (("b", GOOD), ("c", POOR), ("a", GOOD))}
    lines = leaderboard_lines(arms, 200)
    assert [(line.rank, line.name) for line in lines] == [(1, "a"), (1, "b"), (3, "c")]
    assert not lines[1].apart
    assert leaderboard_lines({}) == []


def test_a_report_enters_alone_with_where_it_is_from(root, board, tmp_path):
    notes = {"made": {"mine": {"parameters": {"k": 3}}}, "settings": {"source": "x"}}
    path = saved(tmp_path / "r.json", made("best", GOOD), made("mine", MIDDLING), **notes)
    place, name, target = add_report(path, board, root=root)
    assert (place, name, target) == (PLACE, "mine", board / PLACE / "mine-0.json")
    (report,) = load_reports(target)
    before = load_reports(path)[1]
    assert report.figures() == before.figures()
    assert report.run == before.run
    assert [line.name for line in board_lines(PLACE, board, root)][1] == "mine"
    assert board_lines(PLACE, board, root)[1].chosen == "k 3"
    table = board_table(board_lines(PLACE, board, root), PLACE, board)
    row, origin = [line for line in table.splitlines() if "| mine |" in line]
    assert row.startswith("| 2 | mine | 1 | 0.")
    assert origin.endswith(f"| k 3 | {before.run['commit'] or 'no commit'}, {before.run['time'][:10]} |")
    assert f"mine: `leaderboard/{PLACE}/`" in table


def test_runs_of_one_recommender_are_one_line_and_other_code_is_none(root, board, tmp_path):
    for seed in (0, 1):
        path = saved(tmp_path / f"{seed}.json", made("mine", [seed, *GOOD[1:]]), seed=seed, settings={"source": "x"})
        add_report(path, board, root=root)
    (line,) = [line for line in board_lines(PLACE, board, root) if line.name == "mine"]
    assert len(line.arm) == 2
    before = held(board)
    other = saved(tmp_path / "2.json", made("mine", POOR), seed=2, settings={"source": "y"})
    with pytest.raises(ValueError, match="different settings"):
        add_report(other, board, root=root)
    again = saved(tmp_path / "3.json", made("mine", GOOD), seed=3, settings={"source": "x"})
    with pytest.raises(ValueError, match="same ranks; give --replace"):
        add_report(again, board, root=root)
    assert held(board) == before
    add_report(other, board, replaced=True, root=root)  # takes the place of both
    assert [path.name for path in held(board)] == ["mine-2.json"]


def test_a_taken_name_needs_another_or_a_replacement(root, board, tmp_path):
    path = saved(tmp_path / "r.json", made("my model", MIDDLING))
    add_report(path, board, root=root)
    before = held(board)
    better = saved(tmp_path / "b.json", made("my model", GOOD))
    with pytest.raises(ValueError, match=r"'my model' is on the board .* --replace"):
        add_report(better, board, root=root)
    with pytest.raises(ValueError, match="would share a file with 'my model'"):
        add_report(better, board, rename="My-Model", root=root)
    for taken in ("BEST", ARMS[WITH], WITH):
        with pytest.raises(ValueError, match=r"one of the project's own lines, .* --as"):
            add_report(better, board, rename=taken, replaced=True, root=root)
    with pytest.raises(ValueError, match="at most 60 letters"):
        add_report(better, board, rename="<b>|</b>", root=root)
    assert held(board) == before
    assert add_report(better, board, rename="another", root=root)[1] == "another"
    (renamed,) = load_reports(board / PLACE / "another-0.json")
    assert renamed.name == "another"
    add_report(better, board, replaced=True, root=root)
    assert {line.name: line.rank for line in board_lines(PLACE, board, root)}["my model"] == 1


def test_a_file_of_several_says_which_are_meant(root, board, tmp_path):
    path = saved(tmp_path / "r.json", made("one", GOOD), made("two", POOR))
    with pytest.raises(ValueError, match=r"has 2 reports, 2 of them none of .* say with --name"):
        add_report(path, board, root=root)
    with pytest.raises(ValueError, match="has no report 'three'; choose one of one, two"):
        add_report(path, board, "three", root=root)
    assert not board.exists()
    assert add_report(path, board, "two", root=root)[1] == "two"


def edited(path, change):
    content = json.loads(path.read_text())
    change(content, content["ranks"]["x"], content["figures"]["x"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": "sample"}, r"20 rows of 100 items, the board is of all 20 test rows of 100; .* --sample all"),
        ({"n_items": 99}, "20 rows of 99 items"),
        ({"users": np.arange(20) // 4}, "--split test --sample all"),
        ({"findings": []}, "wasn't shown that its scores don't follow the target"),
        ({"findings": [Finding("blind", None, "scores were given")]}, "make them repeatable"),
    ],
)
def test_a_report_of_other_rows_or_unknown_sight_is_refused(root, board, tmp_path, changes, message):
    path = saved(tmp_path / "r.json", made("x", GOOD, **changes))
    with pytest.raises(ValueError, match=message):
        add_report(path, board, root=root)
    assert not board.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file, ranks, figures: ranks.update(greater=" ".join(["-1"] * 20)), "row 0 has -1 items above"),
        (lambda file, ranks, figures: ranks.update(equal=" ".join(["101"] * 20)), "can't be among 100"),
        (lambda file, ranks, figures: figures["metrics"]["ndcg@20"].update(mean=0.99), "the file says ndcg@20 is 0.99"),
        (lambda file, ranks, figures: figures["metrics"].pop("hit@5"), "the file says hit@5 is None"),
        (lambda file, ranks, figures: figures.update(masking="none"), r"masked otherwise \('none'\)"),
        (lambda file, ranks, figures: file.update(time=None), "doesn't say by which code it was made and when"),
        (lambda file, ranks, figures: file.pop("commit"), "doesn't say by which code it was made and when"),
        (
            lambda file, ranks, figures: file.update(seed="/../../victim"),
            "the seed is '/../../victim', no whole number",
        ),
        (lambda file, ranks, figures: figures.update(metrics=[]), "the file says .* is None"),
        (
            lambda file, ranks, figures: figures["metrics"]["ndcg@20"].update(mean=float("nan")),
            "the file says ndcg@20 is nan",
        ),
        (
            lambda file, ranks, figures: file.update(data="else"),
            rf"hash else, of which .* \({PLACE} d, {OTHER} other\)",
        ),
        (lambda file, ranks, figures: file.update(users="0 1"), "can't be read as a report"),
    ],
)
def test_a_file_that_was_edited_is_refused(root, board, tmp_path, change, message):
    path = saved(tmp_path / "r.json", made("x", GOOD))
    edited(path, change)
    with pytest.raises(ValueError, match=message):
        add_report(path, board, root=root)
    assert not board.exists()


def test_metrics_that_cannot_be_are_refused(root, board, tmp_path, monkeypatch):
    path = saved(tmp_path / "r.json", made("x", GOOD))
    monkeypatch.setattr("rrec_lib.evaluation.reports.expected_hit", lambda greater, equal, k: greater * 0.0)
    with pytest.raises(ValueError, match="x: NDCG@1 exceeds Hit@1"):
        leaderboard_add.check_report(load_reports(path)[0], {"masking": leaderboard_add.MASKING}, made("y", GOOD))


def test_each_set_takes_its_own_reports(root, board, tmp_path):
    path = saved(tmp_path / "r.json", made("x", GOOD, examples="other", n_items=70), data="other")
    assert add_report(path, board, root=root)[0] == OTHER
    with pytest.raises(FileNotFoundError, match="no report"):
        add_report(tmp_path / "none.json", board, root=root)
    with pytest.raises(ValueError, match=r"there is no board \(none\)"):
        add_report(path, board, root=tmp_path)


def test_a_write_that_fails_leaves_the_board_as_it_was(root, board, tmp_path, monkeypatch):
    add_report(saved(tmp_path / "r.json", made("x", GOOD)), board, root=root)
    before = held(board)

    def full(path, content):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leaderboard_add, "write_json", full)
    with pytest.raises(NoRoomError):
        add_report(saved(tmp_path / "s.json", made("x", POOR), seed=1), board, replaced=True, root=root)
    assert held(board) == before


def test_a_name_that_was_recorded_later_is_named(root, board, tmp_path):
    add_report(saved(tmp_path / "r.json", made("newcomer", GOOD)), board, root=root)
    saved(root / "results" / "baselines" / PLACE / "reports.json", made("newcomer", GOOD))
    with pytest.raises(ValueError, match="newcomer has been recorded by now"):
        board_lines(PLACE, board, root)


def test_the_page_shows_every_set_and_what_nobody_ran(root):
    page = leaderboard_tables(root)
    assert page.count("## ") == len(DATA_SETS)
    assert page.count("Not run yet.") == 1
    assert page.index(DATA_SETS[PLACE]) < page.index(DATA_SETS[OTHER])
    assert "20 rows of 10 users." in page
    odd = leaderboard_lines({"a": [made("a", GOOD, run={"commit": "x|<i>", "time": "2026"})]}, 100)
    assert "x\\|&lt;i&gt;, 2026 |" in board_table(odd, PLACE, root)


def test_the_recorded_sets_rank_baselines_and_both_arms():
    lines = board_lines(PLACE, ROOT / "results" / "leaderboard", ROOT, samples=200)
    names = [line.name for line in lines]
    assert {"EASE", "chance", *ARMS.values()} <= set(names)
    assert names[-1] == "chance"
    assert [line.rank for line in lines] == sorted(line.rank for line in lines)
