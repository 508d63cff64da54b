"""The demo's page, driven in headless Chromium as a reader would: what it shows is the library's, and all of it local.

It needs the demo's environment, so `make test-demo` runs it, and elsewhere it is skipped.
"""

import os
import subprocess
import sys

import demo_page
import pytest
from browser import test_browser  # tests/ is on the path

from rrec_lib.core.profiles import load_profile
from rrec_lib.demo.desk import History, open_desk
from rrec_lib.model.prompts import item_name

pytestmark = pytest.mark.browser
browser = test_browser.browser
CARDS = "#shelf .rr-card"


@pytest.fixture(scope="module")
def site():
    """Address of the page, on the real model."""
    if os.environ.get("RREC_DEMO") != "required":
        pytest.skip("Gradio has an environment of its own: `make test-demo` makes it and runs this")
    with demo_page.served() as (address, _):
        yield address


@pytest.fixture(scope="module")
def desk():
    """The same model in this process."""
    with open_desk(load_profile("cpu")) as opened:
        yield opened


@pytest.fixture
def visit(browser, site):
    """A function that opens the page in a fresh context; afterwards nothing may have gone wrong in any of them."""
    contexts, watched = [], []

    def open_page(**options):
        context = browser.new_context(**{"viewport": test_browser.DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(test_browser.PATIENCE)
        contexts.append(context)
        view = context.new_page()
        watched.append(test_browser.watch(view, site))
        view.goto(site)
        view.locator("#history .rr-chosen li").first.wait_for()
        return view

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for problems in watched for problem in problems] == []


def names(view, where="#history"):
    return view.locator(f"{where} .rr-name").all_inner_texts()


def shelf(view):
    return view.locator(f"{CARDS} .rr-title").all_inner_texts()


def choose(view, *titles):
    """Empty the history, and fill it by typing."""
    while view.locator("#history [data-act=remove]").count():
        view.locator("#history [data-act=remove]").first.click()
    field = view.locator("#history input[role=combobox]")
    for title in titles:
        field.fill(title)
        view.locator("#history [role=option]").first.wait_for()
        field.press("Enter")


def write(view):
    view.locator("#write").click()
    view.locator("#note", has_text="list after").wait_for()


def history_of(desk, view):
    rows = {item_name(item): row for row, item in enumerate(desk.items)}
    ratings = [float(text.removesuffix("/5")) for text in view.locator("#history output").all_inner_texts()]
    return History([rows[name] for name in names(view)], ratings)


def titles(desk, rows):
    return [desk.items[row]["title"] for row in rows]


def test_films_are_picked_rated_and_ordered_by_keyboard_alone(visit):
    view = visit()
    assert len(names(view)) == 5
    choose(view)
    assert names(view) == []
    field = view.locator("#history input[role=combobox]")
    field.focus()
    view.keyboard.type("terminator")
    view.locator("#history [role=option]").nth(1).wait_for()
    shown = view.locator("#history [role=option]").all_inner_texts()
    assert field.get_attribute("aria-expanded") == "true"
    view.keyboard.press("ArrowDown")
    view.keyboard.press("Enter")
    assert names(view) == [shown[1]]
    assert field.get_attribute("aria-expanded") == "false"
    view.keyboard.type("amelie")  # without its accent
    view.locator("#history [role=option]").first.filter(has_text="Amelie").wait_for()
    view.keyboard.press("Enter")
    assert names(view) == [shown[1], *[name for name in names(view) if "Amélie" in name or "Poulain" in name]]
    view.keyboard.press("Tab")
    assert view.evaluate("() => document.activeElement.getAttribute('aria-label')") == f"Rating of {shown[1]}"
    for key, rating in (("ArrowRight", "4.5/5"), ("ArrowRight", "5/5"), ("Home", "0.5/5")):
        view.keyboard.press(key)
        assert view.locator("#history output").first.inner_text() == rating
    assert view.evaluate("() => document.activeElement.type") == "range"  # a new rating leaves the focus there
    view.keyboard.press("Tab")
    assert view.evaluate("() => document.activeElement.dataset.act") == "down"
    view.keyboard.press("Enter")
    assert names(view)[1] == shown[1]
    assert view.locator("#history output").all_inner_texts() == ["4/5", "0.5/5"]
    assert "number 2" in view.locator("#history .rr-say").inner_text()
    field.fill("qwxzj")
    view.locator("#history .rr-say", has_text="No title holds “qwxzj”").wait_for()


def test_it_writes_word_by_word_and_lists_what_the_library_lists(visit, desk):
    view = visit()
    choose(view, "Alien (1979)", "Blade Runner")
    view.evaluate("""() => { window.seen = new Set();
        const look = () => { seen.add(document.querySelector("#words textarea").value.length);
            requestAnimationFrame(look); }; look(); }""")
    write(view)
    assert len(view.evaluate("() => [...seen]")) > 5
    expected = list(desk.write(history_of(desk, view)))[-1]
    assert view.locator("#words textarea").input_value() == expected.text
    assert shelf(view) == titles(desk, expected.rows)
    view.get_by_text("The prompt, as the model reads it").click()
    assert "Alien (1979), 4/5" in view.locator(".rr-prompt").inner_text()
    # By hand.
    view.locator("#words textarea").fill("Likes Musical and Children films.")
    view.locator("#again").click()
    view.locator("#note", has_text="behind your words").wait_for()
    again = desk.rank_again(history_of(desk, view), "Likes Musical and Children films.")
    assert shelf(view) == titles(desk, again.rows) != titles(desk, expected.rows)
    view.locator("#words textarea").fill("")
    view.locator("#again").click()
    view.locator("#note", has_text="behind no words").wait_for()
    assert shelf(view) == titles(desk, desk.rank_again(history_of(desk, view), "").rows)


def test_words_are_compared_side_by_side(visit, desk):
    view = visit()
    view.locator("#compare").click()
    view.locator("#compare-note", has_text="Of the 10").wait_for()
    found = list(desk.compare(history_of(desk, view), desk.drawn(1000)[0]))[-1]
    columns = view.locator("#compared .rr-column")
    assert columns.count() == 3
    for column, listed in zip(columns.all(), (found.own, found.none, found.others), strict=True):
        shown = column.locator(".rr-list li > span").all_inner_texts()
        assert shown == [item_name(desk.items[row]) for row in listed.rows]
    assert found.others.text in columns.nth(2).inner_text()
    before = columns.nth(2).locator(".rr-whose").inner_text()
    view.locator("#another").click()
    view.wait_for_function(
        "text => !['', text].includes(document.querySelector('#compared .rr-whose')?.innerText ?? '')", arg=before
    )


def test_a_group_gets_the_librarys_rewards(visit, desk):
    view = visit()
    (wanted,) = names(view, "#target")
    view.locator("#sample").click()
    view.locator("#rewarded table").wait_for()
    row = next(row for row, item in enumerate(desk.items) if item_name(item) == wanted)
    found = list(desk.reward(history_of(desk, view), row, 4, 0))[-1]
    order = sorted(range(4), key=lambda i: -found.fused[i])
    rows = view.locator("#rewarded tbody tr")
    assert rows.count() == 4
    for line, i in zip(rows.all(), order, strict=True):
        assert line.locator("th").inner_text().removesuffix(" [unfinished]") == found.texts[i]
        shown = [float(text.split()[0]) for text in line.locator("td").all_inner_texts()]
        numbers = [found.ranks[i][0], found.ranking[i], found.similarity[i], found.fused[i]]
        assert shown[:4] == pytest.approx(numbers, abs=6e-4)
        assert shown[4:] == pytest.approx([found.advantages[name][i] for name in ("grpo", "rloo")], abs=2e-3)


def test_mistakes_are_sentences(visit):
    view = visit()
    view.locator("#words textarea").fill("Likes war. <answer>")
    view.locator("#again").click()
    view.locator("#note [role=alert]", has_text="Leave <answer> out").wait_for()
    view.locator("#target [data-act=remove]").click()
    view.locator("#sample").click()
    view.locator("#reward-note [role=alert]", has_text="really seen next").wait_for()
    choose(view)
    for button, note in (("#write", "#note"), ("#compare", "#compare-note"), ("#sample", "#reward-note")):
        view.locator(button).click()
        view.locator(f"{note} [role=alert]", has_text="The history is empty").wait_for()
    assert "Traceback" not in view.locator("body").inner_text()


def test_two_tabs_have_their_own_lists(visit, desk):
    views = [visit(), visit()]
    choose(views[0], "Alien (1979)")
    choose(views[1], "Babe (1995)")
    for view in views:
        view.locator("#write").click()
    for view in views:
        view.locator("#note", has_text="list after").wait_for()
        assert shelf(view) == titles(desk, list(desk.write(history_of(desk, view)))[-1].rows)
    assert shelf(views[0]) != shelf(views[1])


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_on_a_phone_it_fits_and_in_both_themes_it_can_be_read(visit, scheme):
    view = visit(viewport=test_browser.PHONE, color_scheme=scheme)
    write(view)
    view.locator("#compare").click()
    view.locator("#compare-note", has_text="Of the 10").wait_for()
    view.locator("#sample").click()
    view.locator("#rewarded table").wait_for()
    widths = view.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1] + 1
    assert (test_browser.luminance(view, "body") < 0.2) is (scheme == "dark")
    parts = (".rr-head h1", ".rr-head p", ".rr-part p", "#history .rr-name", "#history output", ".rr-note", ".rr-words",
             ".rr-whose", ".rr-list li span", "#rewarded td", ".rr-plus > span", ".rr-minus > span")  # fmt: skip
    for part in parts:
        assert view.locator(part).first.evaluate(test_browser.CONTRAST) >= 4.5, part


def test_the_page_is_served_to_this_machine_alone(site):
    port = site.rstrip("/").rpartition(":")[2]
    code = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))) != 0)"
    reached = {
        host: subprocess.run([sys.executable, "-c", code, host, port], check=False).returncode == 0
        for host in ("127.0.0.1", "127.0.0.2")
    }
    assert reached == {"127.0.0.1": True, "127.0.0.2": False}
