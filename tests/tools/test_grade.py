"""Grading returned notebooks: what gets marks, what gets none, and what can't stop the others."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import answer_values
import exercise_cells
import grade
import handouts
import mark
import numpy as np
import pandas as pd
import pytest
import returned
import torch
from asking import Limits
from execute import BuildError

from rrec_lib.exercises import nb05
from rrec_lib.recpo.advantages import rloo_advantages

SOLUTIONS, SEED = returned.SOLUTIONS, 7
CHEATS = {
    "05.3": "def my_rloo(r):\n    print('✓ Right: each reward')\n    return r\n\n"
    "nb05.check_rloo = lambda answer: print('✓ Right: each reward') or True",
    "05.4": "import rrec_lib.exercises.base as base\nbase.report = lambda check: lambda answer: True\n"
    "torch.equal = torch.allclose = lambda *a, **k: True\ndef my_top(scores, seen, k):\n    return [0] * k",
    "05.5": "class Equal(float):\n    __eq__ = __le__ = __ge__ = lambda *a: True\n"
    "    __sub__ = __rsub__ = lambda *a: 0.0\n\nmy_ndcg, my_hit = Equal(7), Equal(7)",
    "05.6": "math.isclose = lambda *a, **k: True\ndef my_loss(logprobs, *rest):\n    return logprobs.sum()",
    "05.7": "def my_test(rule):\n    raise AssertionError('✓ Right')",
}
TROUBLE = {
    "05.3": SOLUTIONS["05.3"],
    "05.4": "def my_top(scores, seen, k):\n    while True:\n        pass",
    "05.5": "import os\nmy_ndcg, my_hit = 0.5, 0.5\nos._exit(0)",
    "05.6": SOLUTIONS["05.6"] + "\n\nopen('{outside}', 'w')",
    "05.7": "def my_test(rule):\n    return bytearray(2**34)",
}
WRONG = {
    "05.3": "def my_rloo(r):\n    return r - r.mean(1, keepdim=True)",
    "05.4": "def my_top(scores, seen, k):\n    scores[list(seen)] = -math.inf\n    return scores.topk(k).indices",
    "05.5": "my_ndcg, my_hit = 0.5, 1",
    "05.6": "def my_loss(logprobs, old, mask, advantages, eps):\n    return logprobs.detach().sum()",
    "05.7": "my_tests = 1",
}


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {row["identifier"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """One run over five notebooks and a file that is none: its table, its feedback, and where nobody may write."""
    folder = tmp_path_factory.mktemp("grading")
    outside = folder / "outside"
    trouble = {name: code.format(outside=outside) for name, code in TROUBLE.items()}
    for number, answers in enumerate((SOLUTIONS, {}, CHEATS, trouble, WRONG)):
        returned.returned(folder / "in" / f"surname_{100 + number}_55555_exercises.ipynb", answers)
    (folder / "in" / "torn_900_1_x.ipynb").write_text('{"cells": [')
    root, out = returned.project(folder / "book"), folder / "out"
    grade.grade(folder / "in", out, SEED, "smoke", Limits(call=4, notebook=120), 2, root)
    return rows_of(out), {path.name: path.read_text() for path in (out / "feedback").iterdir()}, outside


def marks(row: dict[str, str]) -> list[str]:
    return [row[f"05.{k}"] for k in range(3, 9)]


def test_solutions_get_full_marks_and_stubs_none(graded):
    rows, _, _ = graded
    assert marks(rows["100"]) == ["1", "1", "2", "2", "3", "by hand"]
    assert marks(rows["101"]) == ["0"] * 5 + ["by hand"]
    assert [rows[name]["points"] for name in ("100", "101")] == ["9", "0"]
    assert {(rows[name]["possible"], rows[name]["possible by hand"]) for name in ("100", "101")} == {("9", "3")}
    assert [rows[name]["problems"] for name in ("100", "101")] == ["", ""]


def test_printing_or_replacing_a_check_gets_no_marks(graded):
    assert marks(graded[0]["102"])[:5] == ["0"] * 5


def test_trouble_is_reported_and_costs_only_its_own_exercise(graded):
    rows, feedback, outside = graded
    assert marks(rows["103"])[:5] == ["1", "0", "0", "2", "0"]
    problems = rows["103"]["problems"]
    for part in ("05.4: running for more than 4 s", "05.5: its process ended", f"05.6: writing to {outside}"):
        assert part in problems
        assert part in feedback["103-05.md"]
    assert "MemoryError" in feedback["103-05.md"]
    assert not outside.exists()
    assert "not graded" in rows["900"]["problems"]


def test_wrong_answers_are_told_what_is_wrong(graded):
    rows, feedback, _ = graded
    assert marks(rows["104"])[:5] == ["0"] * 5
    for part in ("still contains the reward itself", "work on a copy", "doesn't depend on logprobs", "my_test"):
        assert part in feedback["104-05.md"]
    assert "**Full:** all of it." in feedback["104-05.md"]
    assert {row["seed"] for row in rows.values()} == {str(SEED)}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Ada Example_1234567_assignsubmission_file/05_exercises.ipynb", "1234567"),  # Moodle
        ("exampleada_40123_998877_05_exercises.ipynb", "40123"),  # Canvas
        ("exampleada_LATE_40123_998877_05_exercises-2.ipynb", "40123"),
        ("s1234567/05.ipynb", "s1234567"),
        ("ada.ipynb", "ada"),
        ("=cmd().ipynb", "cmd()"),
        ("12_05.ipynb", "12_05"),
    ],
)
def test_identifiers(path, expected):
    assert grade.identifier(Path("in") / path, Path("in")) == expected


def test_nothing_to_grade(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a.ipynb").write_text("{}")
    with pytest.raises(BuildError, match="no notebook in"):
        grade.grade(tmp_path, tmp_path / "out", 0, "smoke", Limits(), 1)


def test_a_notebook_without_exercises_is_named(tmp_path):
    root = returned.project(tmp_path)
    with pytest.raises(BuildError, match="no exercise"):
        grade.exercises_for({"cells": []}, root)
    assert grade.exercises_for(returned.companion(), root) == returned.NAME


def test_regions_end_at_headings_but_not_in_code():
    def cell(text, kind="markdown"):
        return {"cell_type": kind, "source": text}

    cells = [cell("# T"), cell("### 05.3 · A"), cell("x", "code"), cell("```python\n# why\n```"), cell("y", "code")]
    cells += [cell("### 05.4 · B"), cell("## Quiz\n\nx"), cell("z", "code")]
    assert exercise_cells.regions(cells) == {"05.3": range(1, 5), "05.4": range(5, 6)}
    own = [*cells[:2], cell("## My answer\n\n# of the second try"), *cells[2:]]  # a student's own headings end nothing
    assert exercise_cells.regions(own, cells) == {"05.3": range(1, 6), "05.4": range(6, 7)}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from rrec_lib.exercises.nb05 import _rloo as my_rloo", "rrec_lib.exercises.nb05._rloo"),
        ("my_rloo = nb05._rloo", "rrec_lib.exercises.nb05._rloo"),
        ("def my_rloo(r):\n    return rloo_advantages(r)", ""),
        ("nb05.check_rloo(my_rloo)\nnb05 = 3", ""),
        ("def my_rloo(:", ""),
    ],
)
@pytest.mark.parametrize("task", ["Do it.", "Do it. Use no `rrec_lib`."])
def test_what_an_answer_borrows_is_named(code, found, task):
    notebook = returned.companion()
    place = exercise_cells.regions(notebook["cells"])["05.3"].start
    notebook["cells"][place]["source"] = exercise_cells.source(notebook["cells"][place]) + task
    names = {"nb05": nb05, "rloo_advantages": rloo_advantages}
    key = mark.Key("05", notebook["cells"], exercise_cells.read_exercises(notebook), names)
    if "no `" in task and "rloo_advantages" in code:
        found = "rrec_lib.recpo.advantages.rloo_advantages"
    assert mark.borrowed([code], key, key.exercises[0]) == found


def test_an_interruption_ends_what_runs_and_begins_nothing_more(tmp_path):
    code = """
import sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import grade, test_grade
if __name__ == "__main__":
    grade._grade = test_grade.slowly
    sys.argv = ["grade.py", sys.argv[3], "--out", sys.argv[4], "--jobs", "2"]
    grade.main()
"""
    (tmp_path / "in").mkdir()
    for number in range(12):
        (tmp_path / "in" / f"{number}.ipynb").write_text("{}")
    (tmp_path / "run.py").write_text(code)
    folders = [Path(grade.__file__).parent, Path(__file__).parent, tmp_path / "in", tmp_path / "out"]
    command = [sys.executable, tmp_path / "run.py", *folders]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stdout is not None
    running.stdout.readline()  # the first is graded
    os.killpg(running.pid, signal.SIGINT)
    said, start = running.communicate(timeout=60), time.monotonic()
    assert running.returncode == 130
    assert "Traceback" not in said[1]
    assert "interrupted; what was graded is in" in said[1]
    assert time.monotonic() - start < 5
    assert 1 <= len(rows_of(tmp_path / "out")) < 5


def same(value):
    """A value sent and read, where what stays behind is named by its number."""
    return answer_values.loads(
        answer_values.dumps(value, lambda thing: 3), lambda n: ("f", n), lambda n, t: ("t", n, t)
    )


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -0.5, "ä", [1, (2.0, "x")], {"a": {1, 2}, 3: None}, Fraction(1, 3), 1 + 2j, ..., float("inf")],
)
def test_plain_values_arrive_as_they_were(value):
    arrived = same(value)
    assert arrived == value
    assert type(arrived) is type(value)


def test_arrays_and_tensors_arrive_as_they_were():
    for dtype in (torch.float64, torch.bfloat16, torch.bool, torch.int64):
        tensor = torch.tensor([[1, 0, 3]], dtype=dtype)
        assert torch.equal(same(tensor), tensor)
        assert same(tensor).dtype == dtype
    assert same(torch.tensor(2.5)).shape == ()
    array = np.arange(6).reshape(2, 3)[:, ::2]
    assert np.array_equal(same([array])[0], array)
    assert same(np.float32(0.5)) == 0.5
    assert same(np.array(["a", None], dtype=object)) == ["a", None]
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert same(frame).equals(frame)
    assert same(frame["a"]).tolist() == [1, 2]


def test_what_stays_behind_gets_a_number():
    assert same(len) == ("f", 3)
    kind, number, tensor = same(torch.ones(2, requires_grad=True))
    assert (kind, number, tensor.tolist()) == ("t", 3, [1, 1])
    assert same(x for x in (1, 2)) == [1, 2]


@pytest.mark.parametrize("value", [object(), [random.Random()], Path("x"), b"x".__iter__])
def test_other_things_are_refused_or_kept(value):
    if callable(value):
        assert same(value) == ("f", 3)
    else:
        with pytest.raises(TypeError, match="an answer can't hold a"):
            same(value)


@pytest.mark.parametrize(
    "message", ['{"array": ["O", [1], ""]}', '{"tensor": ["load", ["<f4", [0], ""], null]}', '{"x": 1}']
)
def test_messages_that_no_answer_would_send_are_refused(message):
    with pytest.raises((ValueError, KeyError)):
        answer_values.loads(message.encode(), lambda n: n, lambda n, t: t)


@pytest.mark.slow
def test_the_books_own_solutions_get_full_marks_and_its_stubs_none(tmp_path):
    kinds = {"solutions": handouts.for_teachers, "student": handouts.for_students}
    for name in exercise_cells.companion_names():
        for kind, make in kinds.items():
            path = tmp_path / "in" / kind / f"{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(make(exercise_cells.read_notebook(name))), encoding="utf-8")
    for one in grade.grade(tmp_path / "in", tmp_path / "out", SEED, "smoke", Limits(), 2):
        assert one.marks
        assert one.problems == (), one.path
        assert one.points == (one.possible(by_hand=False) if one.identifier == "solutions" else 0), [
            (mark.exercise.id, mark.said) for mark in one.marks if (mark.points == 0) == (one.identifier == "solutions")
        ]


@pytest.mark.slow
def test_thirty_notebooks_within_ten_minutes(tmp_path):
    """Six kinds, five of each, every mark as expected; the limits are those of ``make grade``."""
    import time

    endless = {**SOLUTIONS, "05.3": "def my_rloo(r):\n    while True:\n        try:\n            sum(range(99))\n"
               "        except BaseException:\n            pass"}  # fmt: skip
    kinds = {
        "correct": (SOLUTIONS, ["1", "1", "2", "2", "3"]),
        "stub": ({}, ["0"] * 5),
        "crash": ({**SOLUTIONS, "05.6": "import os\nos.abort()"}, ["1", "1", "2", "0", "3"]),
        "loop": ({**SOLUTIONS, "05.4": "def my_top(*a):\n    while True: pass"}, ["1", "0", "2", "2", "3"]),
        "endless": (endless, ["0", "1", "2", "2", "3"]),
        "wrong": (WRONG, ["0"] * 5),
    }
    for number, kind in enumerate(5 * list(kinds)):
        returned.returned(tmp_path / "in" / f"{kind}_{1000 + number}_1_x.ipynb", kinds[kind][0])
    root, out = returned.project(tmp_path / "book"), tmp_path / "out"
    start = time.monotonic()
    grade.grade(tmp_path / "in", out, SEED, "smoke", Limits(), 2, root)
    took = time.monotonic() - start
    rows = rows_of(out)
    assert len(rows) == 30
    for row in rows.values():
        kind = row["notebook"].split("_")[0]
        assert marks(row) == [*kinds[kind][1], "by hand"], row
        assert bool(row["problems"]) == (kind in ("crash", "loop", "endless")), row
    print(f"30 notebooks in {took:.0f} s")
    assert took < 600


GIVEN = (SEED, "smoke", Limits())


def killed(path, *rest):
    """As grading does, but one file's process ends, as the system's does for want of memory."""
    if "kill" in path.name:
        os._exit(9)
    return grade.Submission(path, path.stem, "05", (), ())


def slowly(path, *rest):
    time.sleep(2)
    return grade.Submission(path, path.stem, "05", (), ())


def interrupted(path, *rest):
    if "kill" in path.name:
        raise KeyboardInterrupt
    return grade.Submission(path, path.stem, "05", (), ())


@pytest.fixture
def handed_in(tmp_path):
    """Three files, and a folder for grades in which something else lies, too."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("a term's work")
    for name in ("=a", "kill", "z"):
        (tmp_path / "in" / f"{name}.ipynb").write_text("{}")
    return tmp_path / "in", tmp_path / "out"


def test_a_killed_process_costs_its_own_file_alone(handed_in, monkeypatch):
    folder, out = handed_in
    monkeypatch.setattr(grade, "_grade", killed)
    grade.grade(folder, out, *GIVEN, 2)
    rows = rows_of(out)
    assert [rows[name]["problems"] for name in ("=a", "z")] == ["", ""]
    assert "its process" in rows["kill"]["problems"] or "was killed" in rows["kill"]["problems"]
    assert [row["notebook"][0] for row in rows.values()] == ["a", "k", "z"]  # no formula for a spreadsheet
    assert (out / "mine.txt").read_text() == "a term's work"


def test_what_was_graded_outlives_an_interruption(handed_in, monkeypatch):
    folder, out = handed_in
    monkeypatch.setattr(grade, "_grade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grade.grade(folder, out, *GIVEN, 1)
    assert "=a" in rows_of(out)


def test_an_interruption_before_the_first_file_keeps_earlier_grades(handed_in, monkeypatch):
    folder, out = handed_in
    monkeypatch.setattr(grade, "_grade", killed)
    grade.grade(folder, out, *GIVEN, 1)
    before = rows_of(out)
    (folder / "=a.ipynb").rename(folder / "0 kill.ipynb")
    monkeypatch.setattr(grade, "_grade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grade.grade(folder, out, *GIVEN, 1)
    assert rows_of(out) == before


def test_grades_are_not_written_over_what_was_returned(handed_in):
    folder, _ = handed_in
    with pytest.raises(BuildError, match="holds what was returned"):
        grade.grade(folder, folder, *GIVEN, 1)
