"""The decks: what is vendored, what every deck must have, and how Markdown and a run's outputs become slides."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import slides
from execute import BuildError

ROOT = Path(__file__).resolve().parents[2]
VENDORED = [ROOT / "book/_static/reveal", ROOT / "tests/browser/vendor"]
DECKS = slides.decks(ROOT)
CHAPTERS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"]
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
}


def source(cells) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells)


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: folder.name)
def test_vendored_files_are_the_published_ones_and_few(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    assert {path.name for path in folder.iterdir()} == {*sums, "SHA256SUMS", "README.md"}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums} == sums
    assert "LICENSE" in sums
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000


def test_every_chapter_has_a_deck():
    assert list(DECKS) == [name for name in CHAPTERS if not name.endswith("_exercises")]


@pytest.mark.parametrize("name", DECKS)
def test_a_deck_has_its_parts(name):
    deck = DECKS[name]
    headings = [slide.body.splitlines()[0] for slide in deck]
    assert headings[0].startswith(f"# {name[:2]} · ")
    assert all(heading.startswith("## ") for heading in headings[1:])
    assert 10 <= len(deck) <= 16
    assert 45 <= sum(slide.minutes for slide in deck) <= 90
    for part in ("## Poll", "## Break: ", "## Three things people believe", "## What to keep"):
        assert [heading for heading in headings if heading.startswith(part)], f"no slide {part!r}"
    body = "\n".join(slide.body for slide in deck)
    assert "](cell:" in body, "no figure"
    assert "http" not in body
    assert all(len(slide.notes) > 60 for slide in deck)


@pytest.mark.parametrize("name", DECKS)
def test_what_a_deck_refers_to_is_in_its_notebook(name):
    cells, text = CHAPTERS[name], (ROOT / slides.DECKS / f"{name}.md").read_text(encoding="utf-8")
    wanted = {*re.findall(r"\(cell:(\S+?)\)", text), *re.findall(r"^```output (\S+)", text, re.MULTILINE)}
    assert wanted <= {cell["id"] for cell in cells if cell["cell_type"] == "code"}
    code = {line.strip() for line in source(cells).splitlines()}
    for fence in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert {line.strip() for line in fence.splitlines()} <= code
    companion = CHAPTERS.get(f"{name}_exercises", [])
    known = re.findall(r"^### (\d\d\.\d+) ", source([*cells, *companion]), re.MULTILINE)
    known += [f"{name[:2]}.{number}" for number in re.findall(r"^## Exercise (\d)", source(cells), re.MULTILINE)]
    for exercise in re.findall(rf"\b{name[:2]}\.\d\b", text):
        assert exercise in known


def made(*bodies, cells=()):
    """HTML of a deck with these slides' bodies, each with a note."""
    notebook = {"cells": [{"id": identity, "outputs": outputs} for identity, outputs in dict(cells).items()]}
    deck = [slides.Slide(body, "1 min. Say *it*.", 1) for body in bodies]
    return slides.deck_html("05_deck", deck, notebook, "smoke")


FIGURE = {
    "data": {"text/html": '<img class="only-light"><img class="only-dark">'},
    "metadata": {"alt": 'It "rises" by 3 < 4'},
}
LINES = {"output_type": "stream", "name": "stdout", "text": ["a < b\n", "c\n"]}
TABLE = {"data": {"text/html": ['<style>x</style>\n<table border="1" class="dataframe"></table>'], "text/plain": "t"}}
CELLS = {"fig": [FIGURE], "both": [LINES, TABLE], "none": []}


def test_a_figure_is_the_runs_own_with_its_alt_text_in_the_notes():
    page = made("# 05 · Deck", "## One\n\n![](cell:fig)", cells=CELLS)
    assert page.count("".join(FIGURE["data"]["text/html"])) == 1
    assert "<em>The figure:</em> It &quot;rises&quot; by 3 &lt; 4</p>" in page
    assert page.count("shown by notebook 05, profile smoke") == 1


def test_what_a_cell_printed_is_shown_in_order_or_in_part():
    page = made("# 05 · Deck", "```output both\n```", cells=CELLS)
    assert "<pre>a &lt; b\nc</pre>\n<table></table>" in re.sub(r"\s*<table>", "\n<table>", page)
    assert "<table>" not in made("# 05 · Deck", "```output both text\n```", cells=CELLS)
    assert "<pre>" not in made("# 05 · Deck", "```output both table\n```", cells=CELLS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("![](cell:absent)", "no cell 'absent'"),
        ("![](cell:both)", "cell 'both' shows no figure"),
        ("```output absent\n```", "no cell 'absent'"),
        ("```output none\n```", "cell 'none' printed nothing"),
        ("```output fig\n```", "cell 'fig' printed nothing"),
        ("![A film](film.png)", "not 'film.png'"),
    ],
)
def test_what_cannot_be_shown_is_named_with_its_deck_and_slide(body, message):
    with pytest.raises(BuildError, match=rf"05_deck\.md, slide 2: .*{message}"):
        made("# 05 · Deck", body, cells=CELLS)


def test_formulas_code_steps_and_notes():
    page = made("# 05 · Deck\n\nHalf: $a < b$.", "$$x$$\n\n```python\nx = 1  # one\n```\n\n{.steps}\n- a\n- b")
    assert r"\(a &lt; b\)" in page
    assert r"\[x\]" in page
    assert '<span class="c1"># one</span>' in page
    assert page.count('<li class="fragment">') == 2
    assert page.count('<aside class="notes">\n<p>1 min. Say <em>it</em>.</p>') == 2
    assert '<a href="../notebooks/05_deck.html">' in page
    assert "//" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL), "no other host"


def test_notes_must_begin_with_minutes(tmp_path):
    deck = tmp_path / "01_deck.md"
    deck.write_text("# 01 · Deck\n\nNote:\n2 min. Say it.\n\n---\n\n## One\n\nNote:\n\n12 min.\n")
    assert [slide.minutes for slide in slides.read_deck(deck)] == [2, 12]
    deck.write_text("# 01 · Deck\n\nNote:\n2 min. Say it.\n\n---\n\n## One\n")
    with pytest.raises(BuildError, match=r"01_deck\.md, slide 2: .*minutes"):
        slides.read_deck(deck)


def test_a_deck_without_a_notebook_is_named(executed):
    (executed / slides.DECKS).mkdir()
    (executed / slides.DECKS / "02_second.md").write_text("# 02 · Second\n\nNote:\n2 min.\n")
    with pytest.raises(BuildError, match=r"02_second\.md is about no notebook"):
        slides.write_decks(executed, executed / "notebooks", executed / "_build" / "slides")


def test_decks_are_listed_with_their_pdfs_and_without_chromium_a_sentence_says_so(executed, monkeypatch):
    (executed / slides.DECKS).mkdir()
    (executed / slides.DECKS / "01_first.md").write_text("# 01 · First\n\nNote:\n2 min.\n")
    out = executed / "_build" / "slides"
    slides.write_decks(executed, executed / "notebooks", out)
    assert '<a href="01_first.html">01 · First</a></li>' in (out / "index.html").read_text()
    assert '<a href="../../slides/01_first.html">01 · First</a> | 1 | 2 |' in slides.decks_table(executed)
    monkeypatch.setattr(slides, "chromium", lambda: None)
    with pytest.raises(BuildError, match=r"no PDFs, since there is no Chromium: .*the slides themselves are in"):
        slides.print_decks(out, ["01_first"])
    (out / "01_first.pdf").write_bytes(b"")
    slides.write_list(out, slides.decks(executed))
    assert '</a>, <a href="01_first.pdf">PDF</a></li>' in (out / "index.html").read_text()
