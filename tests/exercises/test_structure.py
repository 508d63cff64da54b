"""All exercises and quizzes of the book: how many, how numbered, how ordered, and what each must have."""

import importlib
import re

import exercise_cells
import pytest

from rrec_lib.exercises import quiz

CHAPTERS = [f"{number:02}" for number in range(1, 11)]
STARS = {1: "★☆☆", 2: "★★☆", 3: "★★★"}


def named(names: list[str], chapter: str) -> str:
    """The one name that begins with a chapter's number."""
    (name,) = [name for name in names if name.startswith(f"{chapter}_")]
    return name


def cells_of(chapter: str) -> list[dict]:
    return exercise_cells.read_notebook(named(exercise_cells.companion_names(), chapter))["cells"]


def exercises_of(chapter: str) -> tuple[list, list]:
    """A chapter's exercises: those of its own notebook, and those of its companion."""
    lists = (exercise_cells.chapter_names(), exercise_cells.companion_names())
    own, rest = (exercise_cells.read_exercises(exercise_cells.read_notebook(named(names, chapter))) for names in lists)
    return own, rest


@pytest.mark.parametrize("chapter", CHAPTERS)
class TestOfEachChapter:
    def test_the_companion_is_named_like_its_chapter(self, chapter):
        name = named(exercise_cells.chapter_names(), chapter)
        assert named(exercise_cells.companion_names(), chapter) == f"{name}_exercises"

    def test_ids_are_consecutive_and_at_most_two_stand_in_the_chapter(self, chapter):
        own, rest = exercises_of(chapter)
        assert [one.id for one in own + rest] == [f"{chapter}.{k}" for k in range(1, len(own + rest) + 1)]
        assert len(own) <= 2

    def test_at_least_five_one_open_and_one_to_predict(self, chapter):
        own, rest = exercises_of(chapter)
        kinds = [one.kind for one in own + rest]
        assert len(kinds) >= 5
        assert {"investigation", "prediction"} <= set(kinds)

    def test_the_companion_goes_from_easy_to_hard(self, chapter):
        _, rest = exercises_of(chapter)
        assert [one.difficulty for one in rest] == sorted(one.difficulty for one in rest)

    def test_each_says_how_hard_and_long_it_is(self, chapter):
        for one, text in self.with_text(chapter):
            assert one.difficulty in STARS
            line = f"{STARS[one.difficulty]} · about {one.minutes} minutes (an estimate)"
            assert text.splitlines()[:3] == [f"### {one.id} · {one.title}", "", line]
            assert 5 <= one.minutes <= 90

    def with_text(self, chapter):
        names = (exercise_cells.chapter_names(), exercise_cells.companion_names())
        for exercises, every in zip(exercises_of(chapter), names, strict=True):
            cells = exercise_cells.read_notebook(named(every, chapter))["cells"]
            yield from ((one, exercise_cells.source(cells[one.place])) for one in exercises)

    def test_each_check_is_the_chapters_and_takes_the_answer(self, chapter):
        own, rest = exercises_of(chapter)
        for one in own + rest:
            if one.kind == "investigation":
                assert {"full", "half", "none"} <= set(re.findall(r"\w+", one.folded["Rubric"].lower())), one.id
                continue
            ((check, arguments),) = re.findall(r"\b(check_\w+)\((.+)\)", one.check)
            assert callable(getattr(importlib.import_module(f"rrec_lib.exercises.nb{chapter}"), check))
            if one in rest:  # grading runs it as it stands
                assert re.fullmatch(rf"nb{chapter}\.check_\w+\(.+\);", one.check), one.id
            assert set(one.names) & set(re.findall(r"\w+", arguments)), one.id
            assert set(one.names) <= set(exercise_cells.defined(one.solution)), one.id

    def test_each_solution_gives_a_reason(self, chapter):
        own, rest = exercises_of(chapter)
        for one in own + rest:
            if one.solution:
                after = re.sub(r"```.*?```", "", one.folded["Solution"], flags=re.DOTALL)
                assert len(after.split()) >= 8, one.id

    def test_the_quiz_is_shown_at_the_companions_end(self, chapter):
        last = cells_of(chapter)[-1]
        assert last["metadata"]["tags"] == ["quiz"]
        assert exercise_cells.source(last) == f'quiz("{chapter}");'

    def test_the_quiz_has_five_questions_with_a_reason_for_each_choice(self, chapter):
        questions = quiz.load_quiz(chapter)
        assert len(questions) == 5
        assert len({question.question for question in questions}) == 5
        for question in questions:
            assert [choice.right for choice in question.choices].count(True) == 1
            assert len({choice.text for choice in question.choices}) == len(question.choices) >= 3
            assert len({choice.reason for choice in question.choices}) == len(question.choices)


def test_forty_five_exercises_and_questions_in_all():
    exercises = [one.id for chapter in CHAPTERS for part in exercises_of(chapter) for one in part]
    assert len(set(exercises)) == len(exercises) >= 45
    questions = [question for chapter in CHAPTERS for question in quiz.load_quiz(chapter)]
    assert len({question.id for question in questions}) == len(questions) >= 45
    assert sum(len(question.choices) for question in questions) >= 135
