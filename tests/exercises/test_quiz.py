"""Quizzes: what is refused, and what is shown."""

import copy
import re

import pytest
import yaml
from pydantic import ValidationError

from rrec_lib.exercises import quiz

QUESTIONS = [
    {
        "id": f"05.q{number}",
        "question": f"Question {number}: is `a < b` *always* true?",
        "choices": [
            {"text": "No & never", "right": True, "reason": "It isn't."},
            {"text": "Yes", "reason": "You read it <b>backwards</b>.", "misconception": "order"},
            {"text": "At times", "reason": "It says always.", "misconception": "quantifier"},
        ],
    }
    for number in (1, 2)
]


@pytest.fixture
def load(tmp_path):
    """Write a quiz and read it."""

    def run(questions):
        (tmp_path / "05.yaml").write_text(yaml.safe_dump(questions), encoding="utf-8")
        return quiz.load_quiz("05", tmp_path)

    return run


def changed(change):
    questions = copy.deepcopy(QUESTIONS)
    change(questions[1], questions[1]["choices"])
    return questions


def test_what_is_written_is_read(load):
    assert [question.id for question in load(QUESTIONS)] == ["05.q1", "05.q2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda question, choices: choices[1].update(right=True), "a wrong choice names its misconception"),
        (lambda question, choices: choices[0].update(right=False), "a wrong choice names its misconception"),
        (lambda question, choices: choices[0].update(right=False, misconception="x"), "05.q2 has 0 right choices"),
        (lambda question, choices: (choices[1].update(right=True), choices[1].pop("misconception")), "has 2 right"),
        (lambda question, choices: choices.pop(), "at least 3 items"),
        (lambda question, choices: choices[0].pop("reason"), "reason"),
        (lambda question, choices: choices[1].update(why="x"), "why"),
        (lambda question, choices: question.update(id="05.q3"), "05.q1, 05.q3; expected 05.q1, 05.q2"),
        (lambda question, choices: question.update(id="06.q2"), "expected 05.q1, 05.q2"),
    ],
)
def test_what_is_wrong_is_named(load, change, message):
    with pytest.raises((ValidationError, ValueError), match=re.escape(message)):
        load(changed(change))


def test_a_chapter_without_a_quiz_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no quiz for chapter '12'"):
        quiz.load_quiz("12", tmp_path)


def test_each_choice_folds_its_reason_and_nothing_asks_for_anything(load):
    shown = quiz.as_html(load(QUESTIONS))
    folds = re.findall(
        r"<details[^>]*><summary[^>]*>(.*?)</summary><div[^>]*><b>(.*?)</b> (.*?)</div></details>", shown
    )
    assert len(folds) == shown.count("<details") == 6
    reasons = {text: (verdict, reason) for text, verdict, reason in folds}
    assert reasons["No &amp; never"] == ("✓ Right.", "It isn&#x27;t.")
    assert reasons["Yes"] == ("✗ No.", "You read it &lt;b&gt;backwards&lt;/b&gt;.")
    assert "is <code>a &lt; b</code> <em>always</em> true?" in shown
    assert not re.search(r"<script|<link|<img|https?:|href|src=| on\w+=|color|background| open", shown)


def test_choices_are_shuffled_and_always_in_the_same_way(load):
    orders = [[choice.text for choice in question.shuffled()] for question in load(QUESTIONS)]
    assert orders == [[choice.text for choice in question.shuffled()] for question in load(QUESTIONS)]
    many = [quiz.Question.model_validate({**QUESTIONS[0], "id": f"05.q{number}"}) for number in range(10)]
    assert len({question.shuffled()[0].text for question in many}) == 3


def test_where_nothing_folds_the_choices_stand_without_their_reasons(load):
    said = quiz.as_text(load(QUESTIONS))
    assert said.count("( )") == 6
    assert "backwards" not in said


def test_a_notebook_gets_html_and_a_console_text(monkeypatch, load):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    questions = load(QUESTIONS)
    monkeypatch.setattr(quiz, "load_quiz", lambda chapter: questions)
    quiz.quiz("05")
    assert [sorted(data) for data in shown] == [["text/html", "text/plain"]]
