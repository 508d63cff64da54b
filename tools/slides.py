"""Print the rendered book's slides to PDFs: ``python tools/slides.py``. As a module, make HTML of the decks' Markdown.

A deck is ``book/slides/NN_slug.md``, about the notebook of that name. A line ``---`` ends a slide, and a line ``Note:``
begins its speaker's notes, which begin with its minutes. ``![](cell:ID)`` shows the figure of the notebook's cell with
that id, a fence ``output ID`` what the cell printed, so that slides show what the last run showed.
"""

import html
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from execute import ROOT, BuildError
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.attrs import attrs_block_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from readme import chromium

DECKS = Path("book", "slides")
MINUTES = re.compile(r"(\d+) min\b")
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="../_static/favicon.svg">
<link rel="stylesheet" href="../_static/reveal/reveal.css">
<link rel="stylesheet" href="../_static/slides.css">
{scripts}</head>
<body>
<main class="deck"><div class="slides">
{slides}
</div></main>
</body>
</html>
"""
SCRIPTS = "".join(
    f'<script defer src="../_static/{path}"></script>\n'
    for path in ("reveal/reveal.js", "reveal/notes.js", "slides.js", "mathjax/tex-mml-chtml.js")
)


@dataclass(frozen=True)
class Slide:
    """One slide's Markdown, its notes', and the minutes that the notes begin with."""

    body: str
    notes: str
    minutes: int


def read_deck(path: Path) -> list[Slide]:
    """The slides of a deck.

    Raises:
        BuildError: if a slide has no notes, or they don't begin with minutes.
    """
    slides = []
    for number, text in enumerate(re.split(r"^---$", path.read_text(encoding="utf-8"), flags=re.MULTILINE), 1):
        body, _, notes = text.partition("\nNote:\n")
        minutes = MINUTES.match(notes.strip())
        if not minutes:
            raise BuildError(f"{path.name}, slide {number}: its notes must begin with its minutes, as in '3 min.'")
        slides.append(Slide(body.strip(), notes.strip(), int(minutes[1])))
    return slides


def title(slides: list[Slide]) -> str:
    """The heading of a deck's first slide."""
    return slides[0].body.splitlines()[0].removeprefix("# ")


def decks(root: Path = ROOT) -> dict[str, list[Slide]]:
    """Every deck by the name of its notebook, in reading order."""
    return {path.stem: read_deck(path) for path in sorted((root / DECKS).glob("[0-9][0-9]_*.md"))}


class Cells:
    """The outputs of a staged notebook's cells, by the cells' ids."""

    def __init__(self, notebook: dict[str, Any]) -> None:
        self.outputs = {cell.get("id"): cell.get("outputs", []) for cell in notebook["cells"]}

    def _of(self, identity: str, kind: str) -> list[dict[str, Any]]:
        if identity not in self.outputs:
            raise BuildError(f"the notebook has no cell {identity!r}")
        return [output for output in self.outputs[identity] if kind in output.get("data", {kind: output.get("text")})]

    def figure(self, identity: str) -> tuple[str, str]:
        """HTML of the figure of a cell, in the light and in the dark, and its alt text."""
        found = [output for output in self._of(identity, "text/html") if "alt" in output.get("metadata", {})]
        if not found:
            raise BuildError(f"cell {identity!r} shows no figure")
        shown = re.sub(r' (loading|width|height)="\w+"', "", "".join(found[0]["data"]["text/html"]))
        return shown, found[0]["metadata"]["alt"]  # a deck is printed whole, and gives a figure the room that is left

    def text(self, identity: str, only: str = "") -> str:
        """HTML of what a cell printed, in its order; ``only`` may be ``"text"`` or ``"table"``."""
        parts = []
        for output in self._of(identity, "text/plain"):
            data = output.get("data", {})
            if "alt" in output.get("metadata", {}):  # a figure
                continue
            if only and only != ("table" if "text/html" in data else "text"):
                continue
            if "text/html" in data:
                table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
                parts.append(table.replace(' border="1" class="dataframe"', ""))
            else:
                shown = "".join(data.get("text/plain", output.get("text", "")))
                parts.append(f"<pre>{html.escape(shown.strip())}</pre>")
        if not parts:
            raise BuildError(f"cell {identity!r} printed nothing")
        return f'<div class="output">{"".join(parts)}</div>\n'


def converter(cells: Cells) -> MarkdownIt:
    """Markdown to HTML with mathematics, and with what the notebook's cells showed."""

    def fence(tokens: list[Token], index: int, options: Any, env: Any) -> str:
        language, _, rest = tokens[index].info.strip().partition(" ")
        if language == "output":
            env["shown"] = True
            return cells.text(*rest.split())
        code = tokens[index].content
        shown = (
            html.escape(code) if language != "python" else highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))
        )
        return f'<pre class="code"><code>{shown}</code></pre>\n'

    def image(tokens: list[Token], index: int, options: Any, env: Any) -> str:
        scheme, _, identity = str(tokens[index].attrs["src"]).partition(":")
        if scheme != "cell":
            raise BuildError(f"a deck shows figures of its notebook's cells, not {tokens[index].attrs['src']!r}")
        figure, alt = cells.figure(identity)
        env["shown"] = True
        env["figures"] = [*env.get("figures", []), alt]
        return figure

    def formula(text: str, how: dict[str, Any]) -> str:
        opening, closing = ("\\[", "\\]") if how["display_mode"] else ("\\(", "\\)")
        return f"{opening}{html.escape(text)}{closing}"

    made = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=formula).use(attrs_block_plugin)
    made.add_render_rule("fence", lambda self, *given: fence(*given))
    made.add_render_rule("image", lambda self, *given: image(*given))
    return made


def deck_html(name: str, slides: list[Slide], notebook: dict[str, Any], profile: str = "cpu") -> str:
    """A deck's page, with what the notebook showed on ``profile``."""
    markdown = converter(Cells(notebook))
    made = []
    for number, slide in enumerate(slides, 1):
        env: dict[str, Any] = {}
        try:
            body, notes = markdown.render(slide.body, env), markdown.render(slide.notes)
        except BuildError as problem:
            raise BuildError(f"{name}.md, slide {number}: {problem}") from problem
        body = re.sub(r'(<[uo]l class="steps">)(.*?)(</[uo]l>)', _one_by_one, body, flags=re.DOTALL)
        notes += "".join(f"<p><em>The figure:</em> {html.escape(alt)}</p>\n" for alt in env.get("figures", []))
        if "shown" in env:
            body += f'<p class="source">shown by notebook {name[:2]}, profile {profile}</p>\n'
        if number == 1:
            body += f'<p class="chapter"><a href="../notebooks/{name}.html">The chapter</a></p>\n'
        made.append(f'<section>\n{body}<aside class="notes">\n{notes}</aside>\n</section>')
    return PAGE.format(title=html.escape(f"{title(slides)} (slides)"), scripts=SCRIPTS, slides="\n".join(made))


def _one_by_one(found: re.Match[str]) -> str:
    return found[1] + found[2].replace("<li>", '<li class="fragment">') + found[3]


def write_decks(root: Path, notebooks: Path, out: Path, profile: str = "cpu") -> None:
    """Write every deck and the list of them into ``out``.

    Args:
        root: the repository.
        notebooks: folder of the notebooks as executed on ``profile`` and staged.
        out: folder of the decks; the book's ``_static`` lies beside it.

    Raises:
        BuildError: naming the deck and the slide that can't be made.
    """
    out.mkdir(parents=True)
    found = decks(root)
    for name, slides in found.items():
        if not (notebooks / f"{name}.ipynb").exists():
            raise BuildError(f"{DECKS / name}.md is about no notebook: there is no notebooks/{name}.ipynb")
        notebook = json.loads((notebooks / f"{name}.ipynb").read_text(encoding="utf-8"))
        page = deck_html(name, slides, notebook, profile)
        (out / f"{name}.html").write_text(page, encoding="utf-8")
    write_list(out, found)


def write_list(out: Path, found: dict[str, list[Slide]]) -> None:
    """Write ``index.html``: the decks, and those PDFs that there are."""
    lines = []
    for name, slides in found.items():
        pdf = f', <a href="{name}.pdf">PDF</a>' if (out / f"{name}.pdf").exists() else ""
        lines.append(f'<li><a href="{name}.html">{html.escape(title(slides))}</a>{pdf}</li>')
    body = "<section>\n<h1>Slides</h1>\n<ul>\n" + "\n".join(lines) + "\n</ul>\n</section>"
    (out / "index.html").write_text(PAGE.format(title="Slides", scripts="", slides=body), encoding="utf-8")


def decks_table(root: Path) -> str:
    """Markdown table of the decks, and a link to their list, for a page in ``book/instructor``."""
    rows = [
        f'| <a href="../../slides/{name}.html">{title(slides)}</a> | {len(slides)} | {sum(s.minutes for s in slides)} |'
        for name, slides in decks(root).items()
    ]
    link = '<a href="../../slides/index.html">The list of the decks</a> has the PDFs, too, once they are printed.'
    return "\n".join(["| deck | slides | minutes, an estimate |", "|---|---|---|", *rows, "", link]) + "\n"


def print_decks(out: Path, names: Iterable[str]) -> None:
    """Print decks of the rendered book to PDFs beside them, one page a slide.

    Raises:
        BuildError: if there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    executable = chromium()
    if executable is None:
        raise BuildError(
            "no PDFs, since there is no Chromium: install your system's chromium package, or name one in"
            f" RREC_CHROMIUM; the slides themselves are in {out}"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name in names:
            view = browser.new_page(color_scheme="light")
            view.goto((out / f"{name}.html").as_uri() + "?print", wait_until="load")
            view.wait_for_selector("html[data-deck]", state="attached")
            view.pdf(path=str(out / f"{name}.pdf"), prefer_css_page_size=True, print_background=True)
            view.close()
        browser.close()


def main() -> None:
    out = ROOT / "_build" / "html" / "slides"
    if not (out / "index.html").exists():
        sys.exit("error: the book is not built: run `make book`")
    try:
        missing = [name for name in decks() if not (out / f"{name}.pdf").exists()]  # rendering drops what is stale
        print_decks(out, missing)
        write_list(out, decks())
        print(f"[slides] {len(missing)} of {len(decks())} decks printed: {out.relative_to(ROOT)}/index.html")
    except BuildError as problem:
        print(f"[slides] {problem}")


if __name__ == "__main__":
    main()
