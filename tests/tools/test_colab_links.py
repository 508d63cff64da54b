"""The repository's address: in one place, rewritten everywhere, all files or none."""

import json
import re
from pathlib import Path

import colab_links
import pytest
import setup_cell

ROOT = Path(__file__).resolve().parent.parent.parent
OLD, NEW = "https://github.com/old-owner/old.name", "https://github.com/new/place"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{OLD}"\n')
    (tmp_path / "_config.yml").write_text(f"repository: {{url: {OLD}}}\n")
    (tmp_path / "README.md").write_text(f"git clone {OLD}.git and {OLD}-fork, [it]({OLD})\n")
    link = "https://colab.research.google.com/github/old-owner/old.name/blob/main/notebooks/01_a.ipynb"
    cells = [{"source": [f"[Open in Colab]({link})"]}, {"source": [f'    repo = "{OLD}"\n']}]
    (tmp_path / "notebooks" / "01_a.ipynb").write_text(json.dumps({"cells": cells}, indent=1))
    return tmp_path


def test_rewrites_every_place_and_then_nothing(project):
    assert len(colab_links.relink(NEW, project)) == 4
    assert setup_cell.repository(project) == NEW
    readme = (project / "README.md").read_text()
    assert readme == f"git clone {NEW}.git and {OLD}-fork, [it]({NEW})\n"
    notebook = json.loads((project / "notebooks" / "01_a.ipynb").read_text())
    assert "/github/new/place/blob/main/" in notebook["cells"][0]["source"][0]
    assert notebook["cells"][1]["source"] == [f'    repo = "{NEW}"\n']
    assert colab_links.relink(NEW, project) == []
    assert not list(project.rglob("*.tmp"))


def test_back_and_forth_is_the_identity(project):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    colab_links.relink(NEW + ".git/", project)
    colab_links.relink(OLD, project)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "url", ["", "github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a", "https://github.com/a/b/c", "x y"]
)
def test_anything_but_a_github_repository_is_refused(project, url):
    with pytest.raises(ValueError, match="make colab-links URL="):
        colab_links.relink(url, project)
    assert setup_cell.repository(project) == OLD


def test_no_file_changes_if_one_cannot_be_written(project, monkeypatch):
    write = Path.write_text

    def fail(self, *arguments, **options):
        if self.name == "pyproject.toml.tmp":
            raise OSError("disk full")
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        colab_links.relink(NEW, project)
    assert OLD in (project / "README.md").read_text()
    assert not list(project.rglob("*.tmp"))


def test_every_colab_link_of_the_book_names_this_repository():
    slug = colab_links.slug_of(setup_cell.repository(ROOT))
    files = {path for pattern in colab_links.PATTERNS for path in ROOT.glob(pattern)}
    links = [
        link
        for path in files
        for link in re.findall(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)", path.read_text())
    ]
    assert set(links) <= {slug}
    assert f"url: {setup_cell.repository(ROOT)}" in (ROOT / "_config.yml").read_text()
