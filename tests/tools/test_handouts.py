"""Notebooks for students and for teachers from one source."""

import json

import exercise_cells
import handouts
import pytest
import returned
from execute import ROOT, notebook_names


@pytest.fixture
def written(tmp_path):
    """The small notebook of exercises as both kinds of handout."""
    returned.project(tmp_path)
    return {kind: json.loads(handouts.write(kind, tmp_path)[0].read_text(encoding="utf-8")) for kind in handouts.KINDS}


def texts(notebook, kind):
    return [exercise_cells.source(cell) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_students_get_hints_and_rubrics_and_nothing_that_answers(written):
    prose = "\n".join(texts(written["student"], "markdown"))
    assert prose.count("<summary>Hint 1</summary>") == prose.count("<summary>Hint 2</summary>") == 6
    assert prose.count("<summary>Rubric</summary>") == 1
    assert "Solution" not in prose
    assert "sample answer" not in prose
    assert "```" not in prose
    assert prose.count("<details>") == prose.count("</details>") == 13
    assert "Colab" not in prose
    assert texts(written["student"], "code") == texts(returned.companion(), "code")


def test_teachers_get_the_stubs_filled(written):
    code = texts(written["solutions"], "code")
    assert [text for text in code if text in returned.SOLUTIONS.values()] == list(returned.SOLUTIONS.values())
    assert not [text for text in code if "NotImplementedError" in text]
    assert texts(written["solutions"], "markdown") == texts(returned.companion(), "markdown")


@pytest.mark.parametrize("name", notebook_names(ROOT))
def test_no_notebook_of_the_book_gives_its_answers_to_students(name):
    notebook = exercise_cells.read_notebook(name)
    student = "\n".join(exercise_cells.source(cell) for cell in handouts.for_students(notebook)["cells"])
    assert "<summary>Solution" not in student
    assert "<summary>A sample answer" not in student
    assert "folded too" not in " ".join(student.split())
    assert [one.id for one in exercise_cells.read_exercises(notebook) if one.solution and one.solution in student] == []
