"""The rendered book in headless Chromium, served from this machine: what a reader's browser shows and asks for."""

import functools
import http.server
import os
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import setup_cell
from readme import chromium
from stage import MOVED

ROOT = Path(__file__).resolve().parent.parent.parent
HTML = ROOT / "_build" / "html"
REQUIRED = os.environ.get("RREC_BROWSER") == "required"
PAGES = sorted(
    str(path.relative_to(HTML))
    for folder in ("book", "notebooks")
    for path in (HTML / folder).rglob("*.html")
    if path.stem not in MOVED
)
NOTEBOOKS = [page for page in PAGES if page.startswith("notebooks/")]
COMPANIONS = [page for page in NOTEBOOKS if page.endswith("_exercises.html")]
SPECIAL = ["index.html", "search.html"]
DECKS = sorted(str(path.relative_to(HTML)) for path in (HTML / "slides").glob("[0-9]*.html"))
MATHS = [page for page in PAGES if 'class="math' in (HTML / page).read_text(encoding="utf-8")]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
PROJECTOR = {"width": 1280, "height": 720}
PATIENCE = 120_000  # ms, for a machine that is busy with other tests

pytestmark = pytest.mark.browser


def give_up(reason: str) -> None:
    """Skip in ``make test``; fail in ``make test-browser``, where the reader asked for just this."""
    if REQUIRED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site():
    """Address of the rendered book."""
    if not (HTML / "index.html").exists():
        give_up("there is no rendered book: run `make book` first")
    handler = functools.partial(QuietHandler, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests of this module."""
    executable = chromium()
    if executable is None:
        give_up("there is no Chromium: install your system's chromium package, or name one in RREC_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield instance
        instance.close()


def watch(page, site: str) -> list[str]:
    """A list to which everything that goes wrong in ``page`` is added: errors, failed and foreign requests."""
    problems = []
    page.on("console", lambda line: problems.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("response", lambda reply: problems.append(f"{reply.status} {reply.url}") if reply.status > 399 else None)
    own = (site, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else problems.append(f"asks {asked.url}"))
    return problems


@pytest.fixture
def visit(browser, site):
    """A function that opens a page in a fresh context; afterwards nothing may have gone wrong in any of them."""
    contexts, watched = [], []

    def open_page(path: str, **options):
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.site, page.problems = site, watch(page, site)
        watched.append(page.problems)
        page.goto(site + path, wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for problems in watched for problem in problems] == []


@pytest.fixture(scope="module")
def survey(browser, site):
    """What every page shows and asks for, by path; each is opened once."""
    require(PAGES)
    look = """() => {
        const all = (selector, wanted = () => true) => [...document.querySelectorAll(selector)].filter(wanted);
        const draws = input => input.textContent.includes("plotting.show(");
        return {
            title: document.querySelector("h1")?.innerText ?? "",
            images: all("article img").map(i => [i.alt, i.getAttribute("src"),
                i.offsetParent === null || (i.complete && i.naturalWidth > 0)]),
            colab: all("article a[href*='colab.research']").map(a => a.href),
            formulas: all("mjx-container").length,
            unreadable: all("mjx-merror").length,
            raw: all(".math", m => !m.querySelector("mjx-container")).map(m => m.textContent),
            drawn: all(".cell:not(.tag_exercise) .cell_input", i => draws(i) && i.checkVisibility()).length,
            folded: all("details.above-input .cell_input", draws).length,
            exercises: all(".tag_exercise details .cell_input").length,
        };
    }"""
    seen = {}
    page = browser.new_page(viewport=DESKTOP)  # one for all: MathJax is fetched and compiled once
    page.set_default_timeout(PATIENCE)
    problems, asked = watch(page, site), set[str]()
    page.on("request", lambda request: asked.add(unquote(urlparse(request.url).path).lstrip("/")))
    for path in [*SPECIAL, *PAGES]:
        problems.clear()
        asked.clear()
        page.goto(site + path, wait_until="load")
        page.wait_for_selector("h1", state="attached")  # index.html leads on
        if path in MATHS:
            page.wait_for_function(
                "() => [...document.querySelectorAll('.math')].every(m => m.querySelector('mjx-container'))"
            )
        page.evaluate(LOAD_SHOWN)
        seen[path] = {**page.evaluate(look), "problems": problems.copy(), "asked": asked.copy()}
    page.close()
    return seen


def require(pages: list[str]) -> None:
    """Give up if there is nothing to look at."""
    if not pages:
        give_up("there is no rendered book: run `make book` first")


def test_every_page_loads_without_errors_or_requests_to_other_hosts(survey):
    assert len(NOTEBOOKS) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert {path: found["problems"] for path, found in survey.items() if found["problems"]} == {}
    assert [path for path, found in survey.items() if not found["title"].strip()] == []


def test_the_check_sees_foreign_requests_and_console_errors(visit):
    """Control of the test above."""
    require(PAGES)
    page = visit(PAGES[0])
    page.context.route("http://localhost:9/**", lambda route: route.fulfill(body="", content_type="image/png"))
    page.evaluate("() => fetch('http://localhost:9/badge', {mode: 'no-cors'})")
    page.evaluate("() => console.error('broken')")
    page.wait_for_timeout(100)
    assert [line for line in page.problems if "localhost:9" in line]
    assert [line for line in page.problems if "broken" in line]
    page.problems.clear()


LOAD_SHOWN = """() => Promise.all([...document.querySelectorAll("article img")]
    .filter(image => image.offsetParent !== null)
    .map(image => { image.loading = "eager"; return image.decode().catch(() => null); }))"""  # plots are lazy
ON_A_PHONE = """async () => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const root = document.documentElement, seen = part => part.offsetParent !== null;
    const all = selector => [...document.querySelectorAll(selector)].filter(seen);
    const begins = part => part.outerHTML.slice(0, 300);
    const beyond = part => part.scrollWidth > part.clientWidth + 1;
    const gap = style => parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    const cards = all("article table.cards");
    const named = cell => cell.dataset.label &&
        cell.closest("table").tHead.textContent.includes(cell.dataset.label.split(", ").at(-1));
    return {
        wider: root.scrollWidth > root.clientWidth + 1,
        cut: all(".cell_output pre").filter(beyond).map(begins),
        gaps: all(".cell_output table td").map(cell => gap(getComputedStyle(cell))),
        letters: all("img.plot").map(image => 8 * 110 / 72 * image.clientWidth / image.naturalWidth),
        unreachable: all(":has(> img.plot)").filter(box => beyond(box) && box.tabIndex !== 0).map(begins),
        cards: cards.length,
        tables: all("article table").filter(table => table.scrollWidth > table.parentElement.clientWidth + 1)
            .map(begins),
        unnamed: cards.flatMap(table => [...table.querySelectorAll("tbody tr > td:nth-child(n + 2)")])
            .filter(cell => !named(cell)).map(begins),
    };
}"""


@pytest.fixture(scope="module")
def phone(browser, site):
    """What every page shows on a phone, by path."""
    require(PAGES)
    page = browser.new_page(viewport=PHONE)
    page.set_default_timeout(PATIENCE)
    seen = {}
    for path in PAGES:
        page.goto(site + path, wait_until="load")
        page.evaluate(LOAD_SHOWN)
        seen[path] = page.evaluate(ON_A_PHONE)
    page.close()
    return seen


def test_pages_do_not_scroll_sideways_on_a_phone(phone):
    assert [path for path, found in phone.items() if found["wider"]] == []


def test_on_a_phone_printed_sentences_wrap_and_columns_stand_apart(phone):
    assert {path: found["cut"] for path, found in phone.items() if found["cut"]} == {}
    gaps = [gap for found in phone.values() for gap in found["gaps"]]
    assert min(gaps) >= 12  # pixels


def test_on_a_phone_letters_of_plots_can_be_read_and_reached(phone):
    letters = [size for found in phone.values() for size in found["letters"]]  # of 8 points at 110 dpi, as in legends
    assert len(letters) > 30
    assert min(letters) >= 9
    assert {path: found["unreachable"] for path, found in phone.items() if found["unreachable"]} == {}


def test_on_a_phone_wide_tables_are_cards_that_name_their_columns(phone):
    assert {path: found["tables"] for path, found in phone.items() if found["tables"]} == {}
    assert {path: found["unnamed"] for path, found in phone.items() if found["unnamed"]} == {}
    assert sum(found["cards"] for found in phone.values()) > 20


def test_the_phones_checks_see_what_is_wrong(visit):
    """Control of the tests above; a table is no card where there is room."""
    require(NOTEBOOKS)
    page = visit([path for path in NOTEBOOKS if path not in COMPANIONS][-1], viewport=PHONE)
    assert page.evaluate(ON_A_PHONE)["cards"]
    page.set_viewport_size(DESKTOP)
    page.wait_for_function("() => !document.querySelector('article table.cards')")
    page.set_viewport_size(PHONE)
    page.wait_for_selector("table.cards")
    page.add_style_tag(
        content=".cell_output pre { white-space: pre !important } td { padding: 1px !important }"
        "img.plot { max-width: 100% !important } h1 { width: 900px }"
    )
    page.evaluate(
        "() => { document.querySelectorAll('.cards td').forEach(cell => { delete cell.dataset.label; });"
        " document.querySelector('table.cards').style.width = '900px'; }"
    )
    page.evaluate(LOAD_SHOWN)
    found = page.evaluate(ON_A_PHONE)
    assert all(found[fault] for fault in ("wider", "cut", "tables", "unnamed"))
    assert min(found["gaps"]) < 12
    assert min(found["letters"]) < 9


def test_a_plots_code_is_folded_and_an_exercises_is_not(survey):
    assert {path: found["drawn"] for path, found in survey.items() if found["drawn"]} == {}
    assert {path: found["exercises"] for path, found in survey.items() if found["exercises"]} == {}
    assert sum(found["folded"] for found in survey.values()) > 30


def test_a_plots_code_unfolds(visit):
    """And is then seen as the test above would see it."""
    require(NOTEBOOKS)
    page = visit(NOTEBOOKS[0])
    seen = "inputs => inputs.filter(input => input.checkVisibility() && input.textContent.includes('plotting.show('))"
    for count in (0, 1):
        assert page.locator(".cell_input:visible", has_text="plotting.show(").count() == count
        assert page.locator(".cell:not(.tag_exercise) .cell_input").evaluate_all(f"{seen}.length") == count
        page.locator(".cell:has(img.plot) details.above-input > summary").first.click()


def test_the_rendered_book_is_small():
    if not (HTML / "index.html").exists():
        give_up("there is no rendered book: run `make book` first")
    assert sum(path.stat().st_size for path in HTML.rglob("*") if path.is_file()) < 60e6
    assert [path for path in PAGES if (HTML / path).stat().st_size > 1.5e6] == []


def test_figures_have_alt_texts_and_load(survey):
    for path, found in survey.items():
        for alt, src, loaded in found["images"]:
            assert len(alt) >= 40, f"{path}: {src} has alt text {alt!r}"
            assert not re.search(r"\.(png|svg|jpg)$", alt)
            assert loaded, f"{path}: {src} did not load"
        assert found["images"] or path not in NOTEBOOKS or path in COMPANIONS, f"{path} has no figure"


def test_a_page_has_less_than_a_megabyte_and_a_half_of_its_own(survey):
    """But for what all pages share, and MathJax, which a browser fetches once for all that have formulas."""
    shared = set.intersection(*(found["asked"] for found in survey.values()))
    sizes = {}
    for path, found in survey.items():
        own = [name for name in found["asked"] - shared if "/mathjax/" not in name]
        assert path in own
        sizes[path] = sum((HTML / name).stat().st_size for name in own if (HTML / name).is_file())
    assert {path: size for path, size in sizes.items() if size >= 1_500_000} == {}
    assert max(sizes.values()) > 1_000_000  # the page with the lab's weights: so explorables are weighed


def test_mathematics_is_typeset(survey):
    assert sum(found["formulas"] for found in survey.values()) > 0
    assert {path: found["raw"] for path, found in survey.items() if found["raw"]} == {}
    assert [path for path, found in survey.items() if found["unreadable"]] == []


def test_search_finds_a_word_that_a_page_has(visit):
    require(PAGES)
    page = visit("search.html?q=advantage")
    page.wait_for_selector("#search-results li a")
    hrefs = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    found = [HTML / unquote(urlparse(href).path).lstrip("/") for href in hrefs]
    assert [path for path in found if path.exists() and "advantage" in path.read_text(encoding="utf-8").lower()]
    page = visit("search.html?q=qwxzjvk")
    page.wait_for_function(
        "() => /did not match|no results/i.test(document.querySelector('#search-results').innerText)"
    )
    assert page.locator("#search-results li a").count() == 0


def test_colab_links_name_files_that_exist(survey):
    prefix = setup_cell.repository(ROOT).replace("https://github.com/", "https://colab.research.google.com/github/")
    for path in NOTEBOOKS:
        assert survey[path]["colab"], f"{path} has no Colab link"
        for href in survey[path]["colab"]:
            file = unquote(href).removeprefix(f"{prefix}/blob/main/")
            assert (ROOT / file).is_file(), href
            assert Path(file).stem == Path(path).stem


@pytest.mark.parametrize("scripts", [True, False])
def test_former_addresses_of_notebooks_lead_to_the_new_ones(visit, scripts):
    require(NOTEBOOKS)
    page = visit("search.html", java_script_enabled=scripts)
    for old, new in MOVED.items():
        page.goto(f"{page.site}notebooks/{old}.html#main-content", wait_until="commit")
        page.wait_for_url(f"**/notebooks/{new}.html" + ("#main-content" if scripts else "*"))
        assert page.locator("article h1").first.inner_text().startswith(new[:2])


def test_keyboard_reaches_the_skip_link_and_the_content_visibly(visit):
    require(NOTEBOOKS)
    page = visit(NOTEBOOKS[0])
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e); return {id: e.id, "
            "href: e.getAttribute('href') || '', tag: e.tagName, text: e.innerText || '', "
            "visible: s.outlineStyle !== 'none' || s.boxShadow !== 'none' || e.tagName === 'BODY'}; }"
        )
        seen.append(focus)
        if "colab" in focus["href"]:
            break
    assert "main" in seen[0]["href"] + seen[0]["text"].lower(), "the first stop is not the link to the content"
    assert "colab" in seen[-1]["href"], "60 steps of Tab did not reach the Colab link"
    assert all(focus["visible"] for focus in seen[1:]), [focus for focus in seen[1:] if not focus["visible"]]


@pytest.mark.parametrize(("scheme", "dark"), [("dark", True), ("light", False)])
def test_the_page_follows_the_readers_colour_scheme(visit, scheme, dark):
    require(NOTEBOOKS)
    page = visit(NOTEBOOKS[0], color_scheme=scheme)
    assert (luminance(page, "body") < 0.2) is dark
    page.evaluate(LOAD_SHOWN)
    assert page.evaluate(CORNERS, ".cell_output img.plot") == [pytest.approx(0.07 if dark else 1, abs=0.01)]


CORNERS = """selector => [...new Set([...document.querySelectorAll(selector)].filter(image => image.offsetParent)
    .map(image => { const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
        canvas.width = canvas.height = 1; context.drawImage(image, 0, 0);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data; return (r + g + b) / 765 * a / 255; }))]"""


def test_what_frames_hints_leaves_the_table_of_contents_alone(visit):
    require(COMPANIONS)
    page = visit(COMPANIONS[0])
    width = "element => getComputedStyle(element).borderTopWidth"
    assert page.locator(".bd-sidebar-primary details").first.evaluate(width) == "0px"
    assert page.locator(".bd-article details:not(.hide)").first.evaluate(width) == "1px"


def test_the_theme_button_changes_the_theme(visit):
    require(PAGES)
    page = visit(PAGES[0])
    seen = {page.evaluate("() => document.documentElement.dataset.theme")}
    for _ in range(2):
        page.locator("button.theme-switch-button:visible").first.click()
        seen.add(page.evaluate("() => document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


CONTRAST = """element => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    let ground = element;
    while (ground && numbers(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const both = [light(numbers(getComputedStyle(element).color)),
        ground ? light(numbers(getComputedStyle(ground).backgroundColor)) : 1];
    return (Math.max(...both) + .05) / (Math.min(...both) + .05); }"""


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_a_quiz_unfolds_by_keyboard_without_scripts_and_can_be_read(visit, viewport):
    require(COMPANIONS)
    page = visit(COMPANIONS[0], viewport=viewport, java_script_enabled=False)
    for path in COMPANIONS:
        page.goto(page.site + path, wait_until="load")
        choices = page.locator(".rrec-quiz details")
        assert choices.count() >= 15
        assert page.locator(".rrec-quiz details[open]").count() == 0
        choice, reason = choices.first, choices.first.locator("div")
        assert not reason.is_visible()
        choice.locator("summary").focus()
        page.keyboard.press("Enter")
        assert re.match(r"✓ Right\. \S|✗ No\. \S", reason.inner_text())


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_quiz_has_contrast(visit, scheme):
    require(COMPANIONS)
    page = visit(COMPANIONS[0], color_scheme=scheme)
    for part in ("summary", "p", "details div"):
        assert page.locator(f".rrec-quiz {part}").first.evaluate(CONTRAST) >= 4.5
    page.add_style_tag(content=".rrec-quiz { color: #888; background: #777 }")
    assert page.locator(".rrec-quiz p").first.evaluate(CONTRAST) < 4.5  # so the check can fail


MEASURE = """() => {
    const slide = document.querySelector("section.present"), frame = slide.getBoundingClientRect();
    const visible = e => e.getClientRects().length && !e.closest(".notes, mjx-assistive-mml");
    const name = e => e.tagName + " " + e.textContent.slice(0, 30);
    const all = [...slide.querySelectorAll("*")].filter(visible);
    const beyond = e => { const r = e.getBoundingClientRect();
        return Math.min(r.left - frame.left, r.top - frame.top, frame.right - r.right, frame.bottom - r.bottom) < -1; };
    const own = [...slide.children].filter(e => visible(e) && !e.matches(".source"))
        .map(e => e.getBoundingClientRect());
    const source = slide.querySelector(".source")?.getBoundingClientRect().top ?? frame.bottom;
    return {
        outside: all.filter(beyond).map(name),
        cut: all.filter(e => e.matches("pre, table, .output") && e.scrollWidth > e.clientWidth + 1).map(name),
        over: own.filter((r, i) => r.bottom > (own[i + 1]?.top ?? source) + 1).length,
        small: all.filter(e => e.matches("p, li, td, th, pre, h1, h2") && !e.matches(".source")
            && parseFloat(getComputedStyle(e).fontSize) < 18).map(name),
        figures: [...slide.querySelectorAll("img")].filter(visible)
            .map(i => [i.alt, i.naturalWidth, i.getBoundingClientRect().height]),
        notes: slide.querySelector("aside.notes").textContent.trim().length,
    };
}"""


def open_deck(page, path: str) -> int:
    """Open a deck, wait until reveal.js shows it, and return how many slides it has."""
    page.goto(page.site + path, wait_until="load")
    page.wait_for_selector("html[data-deck=show]", state="attached")
    return page.evaluate("() => Reveal.getTotalSlides()")


def measure(page, number: int) -> dict:
    """Go to a slide, show all of its steps, and measure it."""
    page.evaluate(
        "n => { Reveal.slide(n);"
        " document.querySelectorAll('.present .fragment').forEach(step => step.classList.add('visible')); }",
        number,
    )
    return page.evaluate(MEASURE)


def test_every_slide_fits_its_frame_and_its_figures_can_be_seen(visit):
    require(DECKS)
    page = visit("slides/index.html", viewport=PROJECTOR)
    for path in DECKS:
        for number in range(open_deck(page, path)):
            found, where = measure(page, number), f"{path}, slide {number + 1}"
            assert [found["outside"], found["cut"], found["over"]] == [[], [], 0], where
            assert not found["small"], f"{where} has small print: {found['small']}"
            assert found["notes"], f"{where} has no notes"
            for alt, width, height in found["figures"]:
                assert len(alt) >= 40, f"{where}: {alt!r}"
                assert width > 0
                assert height >= 250, f"{where} shows a figure {height} pixels high"
        assert page.locator("mjx-merror").count() == 0
        assert "\\(" not in page.locator("main").inner_text()


def test_the_measure_sees_what_does_not_fit(visit):
    """Control of the test above."""
    require(DECKS)
    page = visit("slides/index.html", viewport=PROJECTOR)
    open_deck(page, DECKS[0])
    assert not any(measure(page, 1)[fault] for fault in ("outside", "cut", "small"))
    page.evaluate(
        "() => document.querySelector('section.present').insertAdjacentHTML('beforeend',"
        " '<pre style=\"width: 99px; overflow-x: auto\">' + 'wide '.repeat(20) + '</pre>'"
        " + '<p style=\"font-size: 9px\">small</p>' + '<p>more</p>'.repeat(30))"
    )
    found = measure(page, 1)
    assert found["outside"]
    assert found["cut"]
    assert found["small"]


def test_a_deck_on_a_phone_is_a_page_that_scrolls(visit):
    require(DECKS)
    page = visit("slides/index.html", viewport=PHONE)
    for path in DECKS:
        page.goto(page.site + path, wait_until="load")
        page.wait_for_selector("html[data-deck=page]", state="attached")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"] + 1, path
        assert page.locator(".slides > section h2").last.is_visible()
        assert page.evaluate("() => parseFloat(getComputedStyle(document.querySelector('section p')).fontSize)") >= 16


SHOWN = """() => [...document.querySelectorAll("section img.plot")]
    .filter(image => getComputedStyle(image).display !== "none").map(image => image.className)"""
FAINT = f"""() => {{
    const contrast = {CONTRAST};
    const words = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    return [...document.querySelectorAll(".slides *")].filter(e => words(e) && !e.closest(".notes, mjx-container"))
        .filter(e => contrast(e) < 4.5).map(e => e.tagName + " " + e.textContent.slice(0, 30));
}}"""


@pytest.mark.parametrize(("scheme", "dark"), [("dark", True), ("light", False)])
def test_a_deck_can_be_read_in_light_and_in_dark(visit, scheme, dark):
    require(DECKS)
    page = visit("slides/index.html", viewport=PROJECTOR, color_scheme=scheme)
    for path in DECKS:
        open_deck(page, path)
        assert (luminance(page, "body") < 0.2) is dark
        shown = page.evaluate(SHOWN)
        assert shown, path
        assert all(("only-dark" in kind) is dark for kind in shown), path
        assert page.evaluate(FAINT) == [], path
    page.keyboard.press("d")
    assert (luminance(page, "body") < 0.2) is not dark
    page.add_style_tag(content=".deck li, .deck p { color: #888 !important; background: #999 }")
    assert page.evaluate(FAINT)  # so the check can fail


def test_the_speakers_window_has_the_notes(visit):
    require(DECKS)
    page = visit(DECKS[0], viewport=PROJECTOR)
    page.wait_for_selector("html[data-deck=show]", state="attached")
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    opened.value.locator(".speaker-controls-notes .value").get_by_text("2 min.").first.wait_for()
    coming = opened.value.frame_locator("#upcoming-slide iframe")
    coming.locator("html[data-deck=show]").wait_for(state="attached")


def test_pdfs_have_a_page_for_each_slide():
    printed = [HTML / path for path in DECKS if (HTML / path).with_suffix(".pdf").exists()]
    if not printed:
        pytest.skip("no PDFs: run `make slides` first")
    for path in printed:
        pages = len(re.findall(rb"/Type\s*/Page\b", path.with_suffix(".pdf").read_bytes()))
        assert pages == path.read_text(encoding="utf-8").count("<section>"), path.name


def luminance(page, selector: str) -> float:
    """Mean of the background's red, green and blue, from 0 (black) to 1 (white)."""
    colour = page.eval_on_selector(selector, "element => getComputedStyle(element).backgroundColor")
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / (3 * 255)
