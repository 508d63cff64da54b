"""The demo's field that completes titles, without the demo: answers come when the test lets them."""

from pathlib import Path

import pytest
from browser import test_browser  # tests/ is on the path

import rrec_lib.demo

pytestmark = pytest.mark.browser
browser = test_browser.browser
HERE = Path(rrec_lib.demo.__file__).parent
RUN = """script => {
    window.asked = [];
    window.props = {value: [], most: 99};
    const server = {complete: text => new Promise(answer => asked.push({text, answer}))};
    new Function("element", "props", "server", "watch", script)(document.body, props, server, () => {});
}"""
ANSWER = "([turn, ...names]) => asked[turn].answer(names.map((name, row) => ({name, row})))"


@pytest.fixture
def view(browser):
    """A page with the field alone, as Gradio runs it; ``asked`` holds what it asked for."""
    page = browser.new_page()
    problems = test_browser.watch(page, "about:")
    page.set_content((HERE / "picker.html").read_text(encoding="utf-8").format(kind="", label="Film", hint=""))
    page.evaluate(RUN, (HERE / "picker.js").read_text(encoding="utf-8"))
    page.get_by_role("combobox").focus()
    yield page
    page.close()
    assert problems == []


def listed(view):
    return view.locator("[role=option]:visible").all_inner_texts()


def chosen(view):
    return [film["name"] for film in view.evaluate("props.value")]


def test_what_is_listed_answers_the_last_text_and_enter_takes_it(view):
    view.keyboard.type("al")
    assert view.evaluate("asked.map(one => one.text)") == ["a", "al"]
    view.evaluate(ANSWER, [1, "Alien", "Aladdin"])
    view.evaluate(ANSWER, [0, "Akira"])  # the earlier question's, late
    assert listed(view) == ["Alien", "Aladdin"]
    view.keyboard.press("ArrowDown")
    view.keyboard.press("Enter")
    assert (chosen(view), listed(view), view.get_by_role("combobox").input_value()) == (["Aladdin"], [], "")


@pytest.mark.parametrize("leave", ["Escape", "Tab", "click"])
def test_an_answer_to_who_has_left_opens_nothing(view, leave):
    view.keyboard.type("a")
    if leave == "click":
        view.mouse.click(5, 400)
    else:
        view.keyboard.press(leave)
    view.evaluate(ANSWER, [0, "Alien"])
    assert listed(view) == []
    assert view.get_by_role("combobox").get_attribute("aria-expanded") == "false"


def test_enter_before_the_answer_takes_nothing_of_an_earlier_list(view):
    view.keyboard.type("a")
    view.evaluate(ANSWER, [0, "Alien"])
    view.keyboard.type("m")
    assert listed(view) == []
    view.keyboard.press("Enter")
    assert chosen(view) == []
    view.evaluate(ANSWER, [1, "Amelie"])
    assert listed(view) == ["Amelie"]
    view.keyboard.press("Enter")
    assert chosen(view) == ["Amelie"]


def test_an_empty_answer_is_said(view):
    view.keyboard.type("q")
    view.evaluate(ANSWER, [0])
    assert view.locator(".rr-say").inner_text() == "No title holds \u201cq\u201d."
