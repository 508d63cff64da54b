"""The lab's model in the page: it is PyTorch's, and the list follows the tokens that a reader writes."""

import pytest
import torch
from browser import test_browser, test_explorables  # tests/ is on the path
from stage import EXPLORE

from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab import world as lab
from rrec_lib.lab.model import answered, read_out

pytestmark = pytest.mark.browser
browser, page, visit = test_browser.browser, test_explorables.page, test_explorables.visit
CLOSE = 1e-4


@pytest.fixture(scope="module")
def trained():
    """The model in PyTorch, with the rounded weights, and the rest of the script file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPLORE.parents[2] / "scripts"))
        from lab_weights import read_weights

        return read_weights()


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
    }
    for name, (ours, theirs) in found.items():
        assert ours.shape == theirs.shape, name
        assert (ours - theirs).abs().max() < CLOSE, name
        assert (ours - theirs.roll(1, 0)).abs().max() > 100 * CLOSE, name  # another user's are not the same
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


@torch.no_grad()
def test_a_token_of_the_reader_turns_the_list(visit, trained):
    model, content = trained
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
