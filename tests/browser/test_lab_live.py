"""The lab's model in the page: it is PyTorch's, and the list follows the tokens that a reader writes."""

import json
import os

import pytest
import torch
from explorables import load
from readme import chromium
from stage import EXPLORE, with_explorable

from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab import world as lab
from rrec_lib.lab.model import answered, read_out

pytestmark = pytest.mark.browser
CLOSE = 1e-4
WRITE = """(histories) => {
    const { write } = explore.parts.lab.functions;
    return histories.map((history) => [write(history, {}, 8), write(history, {}, 0).scores]);
}"""


@pytest.fixture(scope="module")
def trained():
    """The model in PyTorch, with the rounded weights, and the rest of the script file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPLORE.parents[2] / "scripts"))
        from lab_weights import read_weights

        return read_weights()


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
    }
    for name, (ours, theirs) in found.items():
        assert ours.shape == theirs.shape, name
        assert (ours - theirs).abs().max() < CLOSE, name
        assert (ours - theirs.roll(1, 0)).abs().max() > 100 * CLOSE, name  # another user's are not the same
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


@torch.no_grad()
def test_a_token_of_the_reader_turns_the_list(visit, trained):
    model, content = trained
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
