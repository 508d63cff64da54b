"""axe-core finds nothing serious in any page or deck, in the light and in the dark."""

from pathlib import Path

import pytest
from browser import test_browser  # tests/ is on the path
from browser.test_browser import DECKS, DESKTOP, NOTEBOOKS, PAGES, PATIENCE, PHONE, require

pytestmark = pytest.mark.browser
browser, site = test_browser.browser, test_browser.site
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
FIND = """async options => (await axe.run(document, {resultTypes: ["violations"], ...options})).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .flatMap(found => found.nodes.map(node => `${found.id}: ${node.target.join(" ")} ${node.html.slice(0, 200)}`))"""
UNFOLD = """async () => {
    document.querySelectorAll("article details").forEach(part => { part.open = true; });
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
FEW = """() => {  // of code's tokens one of each kind stays, the others become plain text: a page has thousands
    const seen = new Set();
    for (const token of document.querySelectorAll(".highlight span")) {
        if (!token.isConnected) continue;
        const kind = token.className + token.closest(".highlight").parentElement.className;
        if (seen.has(kind)) token.replaceWith(token.textContent);
        seen.add(kind);
    }
}"""


@pytest.fixture(scope="module")
def view(browser):
    """A page of Chromium's that is used for all."""
    opened = browser.new_page(reduced_motion="reduce")
    opened.set_default_timeout(PATIENCE)
    yield opened
    opened.close()


def open_page(view, address: str, size: dict[str, int]) -> None:
    """Go to a page that is to be looked at as it is in the end: unfolded, and without what moves."""
    view.set_viewport_size(size)
    view.emulate_media(color_scheme="light")
    view.goto(address, wait_until="load")
    view.add_style_tag(content="* { animation: none !important; transition: none !important; }")
    view.add_script_tag(path=AXE)
    view.evaluate(UNFOLD)


ON_A_PHONE = [(path, PHONE) for path in ["search.html", *PAGES]]
ON_A_DESKTOP = [(path, DESKTOP) for path in ["search.html", *PAGES[:1], *NOTEBOOKS[:1], *DECKS]]  # sidebars: all alike


@pytest.mark.parametrize(("path", "size"), [*ON_A_PHONE, *ON_A_DESKTOP])
def test_nothing_serious_is_found(view, site, path, size):
    require(PAGES)
    open_page(view, site + path, size)
    view.evaluate(FEW)
    found = {"light": view.evaluate(FIND, {})}
    view.emulate_media(color_scheme="dark")
    found["dark"] = view.evaluate(FIND, {"runOnly": ["color-contrast"]})
    assert {theme: lines for theme, lines in found.items() if lines} == {}


def test_the_check_finds_what_is_wrong(view, site):
    require(PAGES)
    open_page(view, site + PAGES[0], DESKTOP)
    view.evaluate(
        "() => document.querySelector('article').insertAdjacentHTML('beforeend',"
        ' \'<img src="a.png"><p style="color: #999; background: #888">faint</p>\')'
    )
    found = " ".join(view.evaluate(FIND, {}))
    assert "image-alt" in found
    assert "color-contrast" in found
