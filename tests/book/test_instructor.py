"""The instructor's kit: plans add up, runs fit in, notes meet their headings, marks and recorded figures are right."""

import contextlib
import csv
import io
import json
import re
from pathlib import Path

import pytest

from rrec_lib.cli.main import main
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments import reference

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "book" / "instructor"
NUMBERS = [f"{n:02}" for n in range(1, 11)]
SLACK = 2  # a part takes at least this many times what its notebooks took
Row = dict[str, str]


def page(name: str) -> str:
    return (KIT / f"{name}.md").read_text(encoding="utf-8")


def table_rows(text: str) -> list[Row]:
    """Rows of the first Markdown table in a text, by the names in its head."""
    block = re.search(r"(?:^\|.+\|$\n?)+", text, re.MULTILINE)
    assert block, "no table"
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.group().splitlines()]
    head, _, *body = cells
    return [dict(zip(head, row, strict=True)) for row in body]


def sections(text: str, level: int = 2) -> dict[str, str]:
    """What stands under each heading of a level."""
    parts = re.split(rf"^{'#' * level} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def notebooks(number: str) -> list[dict]:
    """The stored chapter of a number and its companion, those that are there."""
    paths = sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def exercise_minutes(number: str) -> dict[str, int]:
    """Minutes of each exercise of a chapter, by its id."""
    found = [cell["metadata"].get("exercise") for notebook in notebooks(number) for cell in notebook["cells"]]
    return {exercise["id"]: exercise["minutes"] for exercise in found if exercise}


def clock(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)


# --- plans

SESSIONS = {
    name: (int(minutes), table_rows(text))
    for _, plan in sections(page("plans")).items()
    for title, text in sections(plan, 3).items()
    for name, minutes in re.findall(r"^(.+) · (\d+) minutes$", title)
}
TIMES = {
    name[:2]: taken["seconds"]
    for name, taken in json.loads((ROOT / "results" / "times.json").read_text())["cpu"]["notebooks"].items()
    if not name.endswith("_exercises")  # a companion's seconds are not its chapter's
}


def faults(length: int, rows: list[Row], seconds: dict[str, float], minutes: dict[str, int]) -> list[str]:
    """What is wrong with a session."""
    found, at = [], 0
    for row in rows:
        part, what = int(row["min"]), row["what"][:40]
        if clock(row["from"]) != at:
            found.append(f"{what}: begins at {row['from']}, {at} minutes are over")
        at += part
        run = sum(seconds.get(number, 0) for number in re.findall(r"\d\d", row["runs"]))
        if SLACK * run > 60 * part:
            found.append(f"{what}: {part} minutes for runs of {run:.0f} s")
        solved = sum(minutes.get(name, 0) for name in re.findall(r"\d\d\.\d+", row["exercises"]))
        if solved > part:
            found.append(f"{what}: {part} minutes for exercises of {solved}")
    return found if at == length else [*found, f"parts take {at} of {length} minutes"]


def test_the_three_plans_and_what_each_of_them_has():
    plans = sections(page("plans"))
    assert list(plans) == ["Ninety minutes", "Half a day", "Four weeks"]
    for text in plans.values():
        for part in ("Aim", "Skip", "Where people fall behind", "Plan B, without installation"):
            assert text.count(f"**{part}.**") == 1
    assert sorted(length for length, _ in SESSIONS.values()) == [90] * 9 + [240]


@pytest.mark.parametrize("name", SESSIONS)
def test_a_sessions_parts_add_up_and_what_they_run_fits_in(name):
    every = {key: value for number in NUMBERS for key, value in exercise_minutes(number).items()}
    assert faults(*SESSIONS[name], TIMES, every) == []


def test_the_four_weeks_run_every_notebook_and_the_exercises_named_exist():
    rows = [row for name, (_, rows) in SESSIONS.items() if name.startswith("Week") for row in rows]
    assert sorted(re.findall(r"\d\d", " ".join(row["runs"] for row in rows))) == NUMBERS
    for _, session in SESSIONS.values():
        for name in re.findall(r"\d\d\.\d+", " ".join(row["exercises"] for row in session)):
            known = exercise_minutes(name[:2])
            assert not known or name in known


def test_the_weeks_ask_for_the_hours_that_their_exercises_and_projects_take():
    """Companions are solved at home; a course does project B and one of the two longer ones."""
    cells = [
        cell
        for path in (ROOT / "notebooks").glob("*_exercises.ipynb")
        for cell in json.loads(path.read_text())["cells"]
    ]
    hours = sum(cell["metadata"]["exercise"]["minutes"] for cell in cells if "exercise" in cell["metadata"]) / 60
    longer, own, lab = [int(h) for h in re.findall(r"\*\*About\*\* (\d+) hours", page("projects"))]
    weekly = [(hours + own + other) / 4 for other in (longer, lab)]
    (stated,) = re.findall(r"about (\w+) hours at home each week", page("plans").replace("\n", " "))
    assert [round(week) for week in weekly] == [{"seven": 7}[stated]] * 2, weekly


def test_the_check_of_plans_sees_what_does_not_add_up():
    def part(start, minutes, runs="", exercises=""):
        return {"from": start, "min": str(minutes), "what": "x", "runs": runs, "exercises": exercises}

    good = [part("0:00", 50, "06"), part("0:50", 40, "", "01.1, 01.2")]
    seconds, minutes = {"06": 165.0}, {"01.1": 20, "01.2": 20}
    assert faults(90, good, seconds, minutes) == []
    assert faults(91, good, seconds, minutes)
    assert faults(90, [good[0], part("0:45", 40)], seconds, minutes)
    assert faults(90, good, {"06": 1501.0}, minutes)
    assert faults(90, good, seconds, {"01.1": 20, "01.2": 21})


# --- notebook by notebook


def parts_of(text: str) -> dict[str, str]:
    pieces = re.split(r"^\*\*([A-Z][\w ]+)\.\*\*", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


NOTES = {title[:2]: parts_of(text) for title, text in sections(page("notebooks")).items()}


def test_every_notebook_has_its_notes():
    assert list(NOTES) == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_notes_have_predictions_steps_misconceptions_and_a_key(number):
    parts = NOTES[number]
    assert list(parts) == ["Predictions", "Beside the steps", "Three misconceptions", "End with"]
    assert len(re.findall(r"^\d\. ", parts["Predictions"], re.MULTILINE)) >= 3
    wrong = table_rows(parts["Three misconceptions"])
    assert len(wrong) == 3
    for row in wrong:
        assert row["belief"]
        assert row["ask"].endswith("?")
        assert row["say"]
    question, *key = parts["End with"].strip().split("\n\n")
    assert question.strip("*").endswith("?")
    assert len(" ".join(key)) > 80


@pytest.mark.parametrize("number", NUMBERS)
def test_notes_stand_beside_headings_of_the_notebook(number):
    stored = notebooks(number)
    if not stored:
        pytest.skip(f"notebook {number} is not written yet")
    prose = "\n".join("".join(cell["source"]) for cell in stored[0]["cells"] if cell["cell_type"] == "markdown")
    headings = re.findall(r"^#{2,3} (.+)$", prose, re.MULTILINE)
    steps = [row["step"] for row in table_rows(NOTES[number]["Beside the steps"])]
    assert len(steps) >= 4
    assert [step for step in steps if step not in headings] == []
    assert steps == sorted(steps, key=headings.index)


# --- marking


def test_the_rubric_has_twenty_points_and_the_sample_report_is_marked_by_it():
    parts = sections(page("assessment"))
    weights = [int(row["weight"].rstrip(" %")) for row in table_rows(parts["What counts"])]
    assert sum(weights) == 100
    rubric = {row["criterion"]: row for row in table_rows(parts["Rubric for a report, 20 points"])}
    assert sum(int(row["points"]) for row in rubric.values()) == 20
    *marks, total = table_rows(parts["A sample report"])
    assert [row["criterion"] for row in marks] == list(rubric)
    for row in marks:
        most = int(rubric[row["criterion"]]["points"])
        assert int(row["of"]) == most
        assert int(row["marks"]) in (0, most // 2, most)
        assert row["why"]
    assert int(total["marks"].strip("*")) == sum(int(row["marks"]) for row in marks) < 20
    named = set(re.findall(r"\[\d\]", " ".join(row["why"] for row in marks)))
    assert named == {f"[{n}]" for n in range(1, 7)}


def short(value: float) -> str:
    return f"{value:.3f}".lstrip("0")


def test_the_sample_reports_figures_are_the_recorded_ones():
    lab = json.loads((ROOT / "results" / "lab" / "lab.json").read_text())["table"]
    text = " ".join(page("assessment").replace("> ", "").split())
    for line, name in [("full", "full"), ("clipped", "4 updates a batch, clipped"),
                       ("clipped", "4 updates a batch, not clipped")]:  # fmt: skip
        hit = lab[name]["hit@1"]
        assert f"{line} {short(hit['mean'])} [{short(hit['low'])}, {short(hit['high'])}]" in text
        for value in re.findall(r"0(\.\d{3})", lab[name].get("full against it", {}).get("hit@1", "")):
            assert value in text
    seeds = lab["4 updates a batch, not clipped"]["hit@1 per seed"]
    assert ", ".join(f"{hit:.2f}".lstrip("0") for hit in seeds) in text


def test_recorded_figures_in_notes_and_projects_are_those_of_the_results():
    arms = reference.reference_arms("movielens-cpu")
    means = {name: [report.metric("ndcg@20").mean() for report in arm] for name, arm in arms.items()}
    baselines = load_reports(ROOT / "results" / "baselines" / "movielens-cpu" / "reports.json")
    means |= {report.name: [report.metric("ndcg@20").mean()] for report in baselines}
    said = " ".join(NOTES["07"]["Predictions"].split())
    for name in (reference.WITH, "untrained", "chance", "text similarity", "popularity", "co-occurrence"):
        assert short(sum(means[name]) / len(means[name])) in said
    for report in baselines:
        if report.name in ("co-occurrence", "EASE"):
            span = report.interval("ndcg@20")
            assert f"{short(span.mean)} [{short(span.low)}, {short(span.high)}]" in " ".join(page("projects").split())
    lab = json.loads((ROOT / "results" / "lab" / "lab.json").read_text())
    run = next(run for run in lab["runs"] if run["line"] == "full" and run["seed"] == 0)
    assert f"{sum(run['seconds'].values()):.0f} processor seconds" in " ".join(page("projects").split())


# --- projects and surveys

CODE = re.findall(r"```python\n(.*?)```", page("projects"), re.DOTALL)


def printed(code: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "projects.md", "exec"), {})  # the page's own code
    return said.getvalue()


def test_project_a_starts_from_code_that_runs_and_ranks_at_random():
    assert printed(CODE[0].replace('"cpu"', '"smoke"')).startswith(("worse by", "no difference can be shown"))


def test_project_bs_library_has_the_faults_that_its_key_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    printed(CODE[1])
    assert len(list(csv.reader((tmp_path / "items.csv").open()))) == 41
    main(["prepare", "csv", "--events", "events.csv", "--items", "items.csv", "--kind", "book", "--out", "mine"])
    said = capsys.readouterr().out
    faults = set(re.findall(r"\.csv: (\w+) (\d+) \((\w+)\)", said))
    assert faults == {
        ("wrong_columns", "1", "dropped"), ("bad_time", "1", "dropped"), ("bad_rating", "1", "dropped"),
        ("duplicate_event", "1", "counted"), ("review_without_item", "1", "counted"),
        ("empty_title", "1", "repaired"), ("html_title", "1", "repaired"),
    }  # fmt: skip


def test_the_lab_projects_code_runs():
    code = CODE[2].replace('"cpu"', '"smoke"').replace("range(3)", "range(1)")
    assert "95 %" in printed(code)


def test_projects_have_a_task_what_to_hand_in_and_how_it_is_marked():
    projects = sections(page("projects"))
    assert len(projects) == 3
    for text in projects.values():
        for part in ("Data", "Task", "Hand in", "Marking", "For the marker"):
            assert f"**{part}" in text


def test_the_survey_after_asks_again_what_the_one_before_asked():
    parts = sections(page("surveys"))
    statements = re.findall(r"^- \*\*(S\d)\*\*", parts["Before"], re.MULTILINE)
    assert statements == ["S1", "S2", "S3", "S4", "S5"]
    assert "S1 to S5 again" in parts["After"]


@pytest.mark.parametrize("name", ["index", "plans", "notebooks", "surveys"])
def test_nobody_is_told_that_the_kit_has_been_tried(name):
    assert re.search(r"[Nn]o class has", page(name))


def test_learners_are_types_with_something_to_bring_and_something_to_watch():
    rows = table_rows(sections(page("index"))["Who is in the room"])
    assert len(rows) >= 5
    assert all(all(row.values()) for row in rows)
    assert all(row["type"].startswith("**The ") for row in rows)
