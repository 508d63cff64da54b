"""A project of one small notebook, and a book of one page."""

import json
from pathlib import Path

import execute
import nbformat
import pytest

from rrec_lib.core.plotting import DARK

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one PNG pixel
)
FIGURE = f"""\
from IPython.display import display
data = {{"image/png": "{PIXEL}", "{DARK}": "{PIXEL}"}}
display(data, raw=True, metadata={{"image/png": {{"alt": "A pixel"}}}})"""


def write_notebook(path: Path, *sources: str) -> None:
    cells = [nbformat.v4.new_code_cell('profile = "cpu"', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    title = nbformat.v4.new_markdown_cell("# A notebook")
    nbformat.write(nbformat.v4.new_notebook(cells=[title, *cells], metadata={"kernelspec": kernel}), path)


@pytest.fixture
def tmp_path(tmp_path, request):
    """As pytest's, or a folder of another name in it."""
    folder = tmp_path / getattr(request, "param", "project")
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path):
    for folder in (
        "notebooks/profiles",
        "rrec_lib/recpo",
        "rrec_lib/cli",
        "rrec_lib/exercises",
        "data",
        "results/adapters",
        "book/_static",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for profile in ("smoke", "cpu"):
        (tmp_path / "notebooks" / "profiles" / f"{profile}.yaml").write_text("steps: 1\n")
    for name in ("recpo/rewards.py", "cli/main.py", "exercises/nb01.py", "exercises/nb02.py"):
        (tmp_path / "rrec_lib" / name).write_text("x = 1\n")
    (tmp_path / "data" / "ratings.csv").write_text("1,2\n")
    (tmp_path / "book" / "welcome.md").write_text("# Welcome\n\n```{include} _generated/times.md\n```\n")
    (tmp_path / "book" / "glossary.md").write_text("# Glossary\n\n```{glossary}\n:sorted:\n\narm\n    One side.\n```\n")
    (tmp_path / "_config.yml").write_text(
        'title: T\nauthor: A\nonly_build_toc_files: true\nexecute: {execute_notebooks: "off"}\n'
        "sphinx: {config: {html_extra_path: [book/_extra]}}\n"
    )
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/welcome\nchapters:\n- file: notebooks/01_first\n"
    )  # fmt: skip
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", "print(profile)", FIGURE)
    return tmp_path


@pytest.fixture
def executed(project):
    """The project with a hand-made execution of its notebook: no kernel is started."""
    out = project / "_build" / "executed" / "cpu"
    out.mkdir(parents=True)
    notebook = json.loads((project / "notebooks" / "01_first.ipynb").read_text())
    metadata = {"image/png": {"alt": "A pixel"}}
    figure = {"output_type": "display_data", "data": {"image/png": PIXEL, DARK: PIXEL}, "metadata": metadata}
    notebook["cells"][-1]["outputs"] = [figure]
    (out / "01_first.ipynb").write_text(json.dumps(notebook))
    record = {"key": execute.key_of("01_first", "cpu", project), "seconds": 3.2, "peak_mb": 512, "device": "2 cores"}
    (out / "01_first.json").write_text(json.dumps(record))
    return project
