"""axe-core finds nothing serious in any page or deck, in the light, in the dark, and on a phone."""

from pathlib import Path

import pytest
from browser import test_browser  # tests/ is on the path
from browser.test_browser import DECKS, DESKTOP, PAGES, PATIENCE, PHONE, SPECIAL, require

pytestmark = pytest.mark.browser
browser, site = test_browser.browser, test_browser.site
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
FIND = """async options => (await axe.run(document, {resultTypes: ["violations"], ...options})).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .flatMap(found => found.nodes.map(node => `${found.id}: ${node.target.join(" ")} ${node.html.slice(0, 200)}`))"""
CONTRAST = {"runOnly": ["color-contrast"]}
REST = {"rules": {"color-contrast": {"enabled": False}}}
STEPS = [("light", DESKTOP, {}), ("dark", DESKTOP, CONTRAST), ("dark", PHONE, REST)]


@pytest.fixture(scope="module")
def view(browser):
    """A page of Chromium's that is used for all."""
    opened = browser.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    opened.close()


def serious(view, site: str, path: str) -> dict[str, list[str]]:
    """What axe-core finds in a page with everything unfolded, by what it was looked at in."""
    found = {}
    view.set_viewport_size(DESKTOP)
    view.emulate_media(color_scheme="light", reduced_motion="reduce")
    view.goto(site + path, wait_until="load")
    view.add_script_tag(path=AXE)
    view.evaluate("() => document.querySelectorAll('article details').forEach(part => { part.open = true; })")
    for theme, size, options in STEPS:
        view.emulate_media(color_scheme=theme)
        view.set_viewport_size(size)
        found[f"{theme}, {size['width']} px"] = view.evaluate(FIND, options)
    return {where: lines for where, lines in found.items() if lines}


@pytest.mark.parametrize("path", [*SPECIAL, *PAGES, *DECKS])
def test_nothing_serious_is_found(view, site, path):
    assert serious(view, site, path) == {}


def test_the_check_finds_what_is_wrong(view, site):
    require(PAGES)
    view.goto(site + PAGES[0], wait_until="load")
    view.add_script_tag(path=AXE)
    view.evaluate(
        "() => document.querySelector('article').insertAdjacentHTML('beforeend',"
        ' \'<img src="a.png"><p style="color: #999; background: #888">faint</p>\')'
    )
    found = " ".join(view.evaluate(FIND, {}))
    assert "image-alt" in found
    assert "color-contrast" in found
