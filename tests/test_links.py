"""Links to the project's own files and headings lead somewhere.

Rendering with warnings as errors sees Markdown links on the book's pages. It sees no raw HTML, no file outside the book
such as the README, and no address of this repository on GitHub or in Colab; nor does it run where only tests do.
"""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import setup_cell

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ("*.md", ".github/**/*.md", "book/**/*.md", "data/*/*.md", "notebooks/*.ipynb")
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern))
CODE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"""\]\(<?([^)\s>]+)|^\[[^\]]+\]:\s+(\S+)|<[a-z][^<>]*?\s(?:href|src)=["']([^"']+)""", re.MULTILINE)


def prose(path: Path) -> str:
    """A page's Markdown, or a notebook's Markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def anchors(text: str) -> set[str]:
    """What a link may name behind ``#``: headings as GitHub and MyST turn them into names, labels, and HTML's ids."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    named = re.findall(r"""^\(([^)\s]+)\)=|\sid=["']([^"']+)""", text, re.MULTILINE)
    return slugs | {label or spot for label, spot in named}


def broken(page: Path, root: Path, repository: str) -> list[str]:
    """The links of a page that lead nowhere in ``root``; other hosts are the weekly job's to ask."""
    ours = re.compile(rf"https://[^/]+/(?:github/)?{re.escape(repository)}/(?:blob|tree|raw)/main/")
    found = []
    for groups in LINK.findall(CODE.sub("", prose(page))):
        link = next(filter(None, groups))
        path, _, anchor = unquote(link).partition("#")
        folder = page.parent
        if match := ours.match(path):
            folder, path = root, path[match.end() :]
        if re.match(r"[a-z][a-z0-9+.-]*:", path):
            continue
        target = folder / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(prose(target))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_project_lead_somewhere(page):
    assert broken(ROOT / page, ROOT, setup_cell.repository()) == []


def test_the_check_reads_pages_and_notebooks_and_finds_their_links():
    assert {"README.md", "book/welcome.md", "book/instructor/index.md", "notebooks/01_quickstart.ipynb"} <= set(PAGES)
    assert sum(len(LINK.findall(CODE.sub("", prose(ROOT / page)))) for page in PAGES) > 100


@pytest.mark.parametrize(
    ("link", "good"),
    [
        ("[a](other.md)", True),
        ("[a](absent.md)", False),
        ("[a](other.md#a-heading-in-two-parts)", True),
        ("[a](other.md#label)", True),
        ("[a](other.md#spot)", True),
        ("[a](other.md#nowhere)", False),
        ("[a](other.md#not-a-heading)", False),
        ("[a](#here)", True),
        ("[a](#there)", False),
        ("![a](absent.png)", False),
        ("[![a](absent.png)](other.md)", False),
        ('<a class="x" href="absent.md">a</a>', False),
        ('<img\n src="absent.png">', False),
        ("[a]\n\n[a]: absent.md", False),
        ("[a](folder)", True),
        ("[a](n.ipynb#a-cell)", True),
        ("[a](n.ipynb#code)", False),
        ("[a](https://github.com/me/book/blob/main/other.md#label)", True),
        ("[a](https://github.com/me/book/blob/main/absent.md)", False),
        ("[a](https://colab.research.google.com/github/me/book/blob/main/absent.ipynb)", False),
        ("[a](https://example.org/absent.md), [a](mailto:a@example.org)", True),
        ("`[a](absent.md)`", True),
        ("```\n[a](absent.md)\n```", True),
    ],
)
def test_the_check_tells_good_links_from_broken_ones(tmp_path, link, good):
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.md").write_text(
        '## A `heading`, in two parts\n\n(label)=\n<a id="spot"></a>\n\n```\n# Not a heading\n```\n'
    )
    cells = [{"cell_type": "markdown", "source": ["# A cell\n"]}, {"cell_type": "code", "source": ["# code\n"]}]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{link}\n")
    assert (broken(page, tmp_path, "me/book") == []) == good
