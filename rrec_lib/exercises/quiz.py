"""Five questions about a chapter, shown as folded choices: open one and read why it is right or wrong.

The questions of chapter NN stand in ``quizzes/NN.yaml``. What is shown is plain HTML without scripts or links, so it
works on the rendered page, in Jupyter and in Colab alike.
"""

import html
import random
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

FOLDER = Path(__file__).with_name("quizzes")
SUMMARY = "cursor: pointer; font-weight: normal"


class Choice(BaseModel):
    """One choice: right, or standing for a misconception."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    right: bool = False
    misconception: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _named(self) -> "Choice":
        if self.right == bool(self.misconception):
            raise ValueError(f"{self.text!r}: a wrong choice names its misconception, a right one has none")
        return self


class Question(BaseModel):
    """One question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^\d\d\.q\d$")
    question: str = Field(min_length=1)
    choices: tuple[Choice, ...] = Field(min_length=3)

    @model_validator(mode="after")
    def _one_right(self) -> "Question":
        if (right := sum(choice.right for choice in self.choices)) != 1:
            raise ValueError(f"{self.id} has {right} right choices; give it exactly one")
        return self

    def shuffled(self) -> list[Choice]:
        """The choices in the order shown, the same each time; as written, the right one often comes first."""
        return random.Random(self.id).sample(self.choices, len(self.choices))


def quiz_chapters(folder: Path = FOLDER) -> list[str]:
    """Numbers of the chapters that have a quiz."""
    return sorted(path.stem for path in folder.glob("[0-9][0-9].yaml"))


def load_quiz(chapter: str, folder: Path = FOLDER) -> list[Question]:
    """The questions of a chapter.

    Args:
        chapter: its two digits, such as ``"05"``.

    Raises:
        FileNotFoundError: if the chapter has no quiz.
        ValueError: if a question is not as it should be; the message says which and why.
    """
    path = folder / f"{chapter}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"no quiz for chapter {chapter!r}; there are {', '.join(quiz_chapters(folder))}")
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    questions = TypeAdapter(list[Question]).validate_python(content)
    ids, expected = [question.id for question in questions], [f"{chapter}.q{i + 1}" for i in range(len(questions))]
    if ids != expected:
        raise ValueError(f"{path.name}: the questions are numbered {', '.join(ids)}; expected {', '.join(expected)}")
    return questions


def quiz(chapter: str) -> None:
    """Show the quiz of a chapter in a notebook."""
    from IPython.display import display  # here: the library works without it

    questions = load_quiz(chapter)
    display({"text/html": as_html(questions), "text/plain": as_text(questions)}, raw=True)


def as_html(questions: list[Question]) -> str:
    """The quiz as HTML that looks right on a light and on a dark ground."""
    parts = [_question_html(number, question) for number, question in enumerate(questions, 1)]
    return '<div class="rrec-quiz">\n' + "\n".join(parts) + "\n</div>"


def _question_html(number: int, question: Question) -> str:
    choices = [
        f'<details style="margin: .3em 0 .3em 1em"><summary style="{SUMMARY}">{_marked_up(choice.text)}</summary>'
        f'<div style="margin: .3em 0 .6em 1.2em"><b>{"✓ Right." if choice.right else "✗ No."}</b> '
        f"{_marked_up(choice.reason)}</div></details>"
        for choice in question.shuffled()
    ]
    head = f'<p style="margin: 1em 0 .4em"><b>{number}. {_marked_up(question.question)}</b></p>'
    return "\n".join([f'<div id="quiz-{question.id.replace(".", "-")}">', head, *choices, "</div>"])


def _marked_up(text: str) -> str:
    """Text as HTML; of Markdown only `code` and *emphasis*."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    for i, part in enumerate(parts):
        safe = html.escape(part)
        parts[i] = f"<code>{safe}</code>" if i % 2 else re.sub(r"\*([^*\s][^*]*)\*", r"<em>\1</em>", safe)
    return "".join(parts)


def as_text(questions: list[Question]) -> str:
    """The questions and choices without their reasons, where nothing can be folded."""
    lines = []
    for number, question in enumerate(questions, 1):
        lines.append(f"{number}. {' '.join(question.question.split())}")
        lines += [f"   ( ) {' '.join(choice.text.split())}" for choice in question.shuffled()]
    return "\n".join(lines)
