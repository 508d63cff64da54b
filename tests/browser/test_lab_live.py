"""The lab's model in the page: it is PyTorch's, and the list follows the tokens that a reader writes."""

<<<<<<< HEAD
import json
import os

import pytest
import torch
from explorables import load
from readme import chromium
from stage import EXPLORE, with_explorable
=======
import pytest
import torch
from browser import test_browser, test_explorables  # tests/ is on the path
from stage import EXPLORE
>>>>>>> h-lablive

from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab import world as lab
from rrec_lib.lab.model import answered, read_out

pytestmark = pytest.mark.browser
<<<<<<< HEAD
CLOSE = 1e-4
WRITE = """(histories) => {
    const { write } = explore.parts.lab.functions;
    return histories.map((history) => [write(history, {}, 8), write(history, {}, 0).scores]);
}"""
=======
browser, page, visit = test_browser.browser, test_explorables.page, test_explorables.visit
CLOSE = 1e-4
>>>>>>> h-lablive


@pytest.fixture(scope="module")
def trained():
    """The model in PyTorch, with the rounded weights, and the rest of the script file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPLORE.parents[2] / "scripts"))
        from lab_weights import read_weights

        return read_weights()


<<<<<<< HEAD
@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if (executable := chromium()) is None:
        (pytest.fail if os.environ.get("RREC_BROWSER") == "required" else pytest.skip)("there is no Chromium")
    with playwright.sync_playwright() as started:
        instance = started.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield instance
        instance.close()


@torch.no_grad()
def test_the_page_computes_what_pytorch_does(browser, trained):
    model, content = trained
    page = browser.new_page()
    load(page, ["lab"])
    written = page.evaluate(WRITE, content["users"])
    page.close()
    histories = torch.tensor(content["users"])
    assert len(histories) == 200
    tokens = torch.tensor([found["tokens"] for found, _ in written])
    states, _ = model(answered(histories, tokens))
    chances = torch.softmax(model.lm_logits(states[:, lab.HISTORY : -2]), -1)
    found = {
        "chances": (torch.tensor([found["chances"] for found, _ in written]), chances),
        "scores": (torch.tensor([found["scores"] for found, _ in written]), scores_of(model, histories, tokens)),
        "at once": (torch.tensor([scores for _, scores in written]), scores_of(model, histories, None)),
=======
def scores_of(model, histories, tokens):
    return score_items(read_out(model, histories, tokens)[0], model.item_states())


@torch.no_grad()
def test_the_page_computes_what_pytorch_does(page, trained):
    model, content = trained
    assert len(content["users"]) == 200
    written, at_once = (
        test_explorables.call(page, "lab", "write", [[history, {}, count] for history in content["users"]])
        for count in (lab.REASONING, 0)
    )
    histories, tokens = torch.tensor(content["users"]), torch.tensor([found["tokens"] for found in written])
    states, _ = model(answered(histories, tokens))
    chances = torch.softmax(model.lm_logits(states[:, lab.HISTORY : -2]), -1)
    found = {
        "chances": (torch.tensor([found["chances"] for found in written]), chances),
        "scores": (torch.tensor([found["scores"] for found in written]), scores_of(model, histories, tokens)),
        "at once": (torch.tensor([found["scores"] for found in at_once]), scores_of(model, histories, None)),
>>>>>>> h-lablive
    }
    for name, (ours, theirs) in found.items():
        assert ours.shape == theirs.shape, name
        assert (ours - theirs).abs().max() < CLOSE, name
        assert (ours - theirs.roll(1, 0)).abs().max() > 100 * CLOSE, name  # another user's are not the same
<<<<<<< HEAD
    ours = found["chances"][0].log()
    assert (ours - chances.log()).abs().max() < CLOSE
    assert tokens.equal(chances.argmax(-1))


def scores_of(model, histories, tokens):
    return score_items(read_out(model, histories, tokens)[0], model.item_states())


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens the explorable alone, from a folder; nothing may go wrong in it."""
    html = tmp_path / "page.html"
    cell = '<div class="explore" data-explore="lab">\n\nA sentence.\n\n</div>'
    text = with_explorable(cell, "test", EXPLORE.as_uri())
    html.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><body>{text}', encoding="utf-8")
    problems, contexts = [], []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or problems.append(asked.url))
        page.goto(html.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def state_of(page):
    """What the page says, and its table's first row."""
    return page.locator(".explore-say").inner_text(), page.locator(".explore-details tbody tr").first.inner_text()
=======
    assert (found["chances"][0].log() - chances.log()).abs().max() < CLOSE
    assert tokens.equal(chances.argmax(-1))


def test_the_rules_are_the_worlds(page, trained):
    content = trained[1]
    histories = torch.tensor(content["users"])
    classes, slots = torch.tensor(content["classes"]), torch.tensor(content["slots"])
    catalogue = (classes * lab.BASE + slots).argsort().view(lab.BASE, lab.BASE)
    cases = [[history] for history in content["users"]]
    wanted = lab.next_items(histories, classes, slots, catalogue).tolist()
    assert test_explorables.call(page, "lab", "nextItem", cases) == wanted
    users, nobody = lab.Split(histories, histories), -torch.ones(lab.N_ITEMS).long()
    world = lab.World(classes, slots, catalogue, users, users, users, nobody, lab.HISTORY)
    assert test_explorables.call(page, "lab", "writeTallies", cases) == lab.write_tallies(world, histories).tolist()
    words = lab.as_text(torch.arange(lab.VOCABULARY)).split()
    assert test_explorables.call(page, "lab", "asText", [[token] for token in range(lab.VOCABULARY)]) == words


def seen(view) -> tuple[str, list[str]]:
    """What the page says, and place and item in its table's first row."""
    row = view.locator(".explore-details tbody tr").first.inner_text()
    return view.locator(".explore-say").inner_text(), row.split()[:2]
>>>>>>> h-lablive


@torch.no_grad()
def test_a_token_of_the_reader_turns_the_list(visit, trained):
    model, content = trained
<<<<<<< HEAD
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True)
    said, _ = state_of(page)
    assert "which is the next item" in said
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    history = torch.tensor(content["users"][:1])
    page.get_by_label("the rest stays").check()
    token = page.locator('[data-handle="token-7"]')
    right = page.evaluate("(history) => explore.parts.lab.functions.writeTallies(history)", content["users"][0])
    token.focus()
    page.keyboard.press("ArrowUp")
    changed = [*right[:7], lab.SLOT_DIGIT + (right[7] - lab.SLOT_DIGIT + 1) % 8]
    scores = scores_of(model, history, torch.tensor([changed]))[0]
    said, row = state_of(page)
    assert row.split()[:2] == ["1", f"#{int(scores.argmax())}"]
    assert "it follows what is written" in said
    assert lab.as_text(torch.tensor(changed[7:])) in token.get_attribute("aria-label")

    picture = page.locator(".explore-picture > svg").bounding_box()
    first_key = page.locator("text.small.middle", has_text="w0").bounding_box()
    assert picture["x"] <= first_key["x"]
    page.touchscreen.tap(first_key["x"] + first_key["width"] / 2, first_key["y"] + first_key["height"] / 2)
    assert token.get_attribute("aria-label").startswith("Token 8: w0")
    page.get_by_role("button", name="Let it write all").click()
    assert "which is the next item" in state_of(page)[0]


def test_an_item_is_dragged_and_moved_by_keys_and_the_model_writes_anew(visit):
    page = visit(viewport={"width": 1280, "height": 900})
    item, before = page.locator('[data-handle="item-0"]'), state_of(page)
    label = item.get_attribute("aria-label")
    item.focus()
    page.keyboard.press("ArrowRight")
    assert item.get_attribute("aria-label") != label
    assert state_of(page) != before
    page.keyboard.press("ArrowLeft")
    assert state_of(page) == before
    box = item.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 100, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert item.get_attribute("aria-label") != label
    page.get_by_role("button", name="Watch it write").click()
    done = "() => document.querySelector('.explore-say').textContent.startsWith('All 8 tokens')"
    page.wait_for_function(done, timeout=30_000)


def test_without_scripts_the_picture_and_the_sentence_stay(visit):
    page = visit(java_script_enabled=False)
    assert "A sentence." in page.locator(".explore").inner_text()
    assert json.dumps(page.locator(".explore img").get_attribute("alt")).count("#") > 8
=======
    view = visit("lab", viewport=test_browser.PHONE, has_touch=True)
    assert "which is the next item" in seen(view)[0]
    view.get_by_label("the rest stays").check()
    token = view.locator('[data-handle="token-7"]')
    token.focus()
    view.keyboard.press("ArrowUp")
    history = content["users"][:1]
    [right] = view.evaluate("(history) => history.map(explore.parts.lab.functions.writeTallies)", history)
    changed = [*right[:7], lab.SLOT_DIGIT + (right[7] - lab.SLOT_DIGIT + 1) % lab.BASE]
    first = int(scores_of(model, torch.tensor(history), torch.tensor([changed])).argmax())
    said, row = seen(view)
    assert row == ["1", f"#{first}"]
    assert "it follows what is written" in said
    assert lab.as_text(torch.tensor(changed[7:])) in token.get_attribute("aria-label")

    key = view.locator(".explore-picture text", has_text="w0").bounding_box()
    view.touchscreen.tap(key["x"] + key["width"] / 2, key["y"] + key["height"] / 2)
    assert token.get_attribute("aria-label").startswith("Token 8: w0")
    assert "the tokens name no item" in seen(view)[0]
    view.get_by_role("button", name="Let it write all").click()
    assert "which is the next item" in seen(view)[0]


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_an_item_is_moved_and_the_model_writes_anew(visit, motion):
    view = visit("lab", reduced_motion=motion)
    item, before = view.locator('[data-handle="item-0"]'), seen(view)
    label = item.get_attribute("aria-label")
    item.focus()
    view.keyboard.press("ArrowRight")
    assert item.get_attribute("aria-label") != label
    assert seen(view) != before
    view.keyboard.press("ArrowLeft")
    assert seen(view) == before
    item.scroll_into_view_if_needed()
    x, y = test_explorables.centre(view, "item-0")
    view.mouse.move(x, y)
    view.mouse.down()
    view.mouse.move(x + 100, y, steps=3)
    view.mouse.up()
    assert item.get_attribute("aria-label") != label
    view.get_by_role("button", name="Watch it write").click()
    view.wait_for_function("() => document.querySelector('.explore-say').textContent.startsWith('All 8 tokens')")
>>>>>>> h-lablive
