"""Put the pages and the executed notebooks together in _build/src, from which the book is rendered."""

import ast
import base64
import hashlib
import io
import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

from docstrings import writers_text
from execute import ROOT, BuildError, by_row, measured_times, notebook_names, profile_names
from glossary import terms, with_terms
from pictures import smaller
from PIL import Image
from slides import decks_table, write_decks

from rrec_lib.core.plotting import DARK
from rrec_lib.core.profiles import knobs_table
from rrec_lib.data.faults import rules_table
from rrec_lib.experiments.asking import asking_table
from rrec_lib.experiments.leaderboard import leaderboard_tables
from rrec_lib.experiments.published import published_tables
from rrec_lib.experiments.tables import DATA_SETS, baselines_table, benchmarks_table, reference_tables
from rrec_lib.experiments.verdict_page import verdict_fragments

EXPLORE = ROOT / "book" / "_static" / "explore"
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
DIAGRAM = re.compile(r"^!\[([^\]]+)\]\((\S*_figures/)([\w-]+)\.svg\)$", re.MULTILINE)
PLOT = re.compile(r"^!\[(.+)\]\((\S+)\.png\)$", re.MULTILINE)  # its text may hold intervals in brackets
PLOTTING = re.compile(r"\b(?:plt\.|plotting\.show\()")
DARK_RULES = re.compile(r"@media \(prefers-color-scheme: dark\) \{\n(.*?)\n\}\n", re.DOTALL)
PROFILE_ORDER = ("smoke", "cpu", "t4", "paper")
MOVED = {  # the notebooks' former names, whose pages were linked to
    "04_recpo_reward_design": "05_recpo_reward_design",
    "05_gpu_training": "06_gpu_training",
    "06_evaluation": "07_evaluation",
    "07_reading_the_official_code": "08_reading_the_official_code",
    "08_ablations": "09_ablations",
}
REDIRECT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>This page has moved</title>
<script>location.replace("{new}.html" + location.search + location.hash)</script>
<noscript><meta http-equiv="refresh" content="0; url={new}.html"></noscript>
</head>
<body><h1>This page has moved</h1><a href="{new}.html">{new}</a></body>
</html>
"""


def stage(source: Path, target: Path, profile: str = "cpu") -> None:
    """Fill ``target`` afresh.

    Args:
        source: the repository.
        target: folder to fill; what it held is deleted.
        profile: whose executed notebooks to take.

    Raises:
        BuildError: if a notebook has not been executed, or its output can't be shown as it is.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "book", target / "book", ignore=shutil.ignore_patterns("_generated"))
    for path in (source / "_config.yml", source / "_toc.yml", *source.glob("*.py")):  # pages show pieces of code
        shutil.copy(path, target / path.name)
    known = terms((source / "book" / "glossary.md").read_text(encoding="utf-8"))
    for path in (target / "book" / "_figures").glob("*.svg"):
        for theme, svg in themed(path.read_text(encoding="utf-8")).items():
            path.with_name(f"{path.stem}-{theme}.svg").write_text(svg, encoding="utf-8")
    for path in (target / "book").rglob("*.md"):
        path.write_text(in_both_themes(path.read_text(encoding="utf-8")), encoding="utf-8")
    (target / "notebooks").mkdir()
    (target / "_toc.yml").write_text(with_companions((source / "_toc.yml").read_text(), notebook_names(source)))
    for name in notebook_names(source):
        executed = source / "_build" / "executed" / profile / f"{name}.ipynb"
        if not executed.exists():
            raise BuildError(f"{name} has not been run on {profile}: run `make notebooks PROFILE={profile}`")
        plots = target / "book" / "_static" / "plots"
        staged = stage_notebook(json.loads(executed.read_text(encoding="utf-8")), name, plots)
        for cell in staged["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = with_terms("".join(cell["source"]), known)
        text = json.dumps(staged, indent=1, ensure_ascii=False) + "\n"
        (target / "notebooks" / f"{name}.ipynb").write_text(text, encoding="utf-8")
    extra = target / "book" / "_extra"  # `html_extra_path` puts what it holds among the pages
    write_decks(source, target / "notebooks", extra / "slides", profile)
    redirects = extra / "notebooks"
    redirects.mkdir(parents=True)
    for old, new in MOVED.items():
        (redirects / f"{old}.html").write_text(REDIRECT.format(new=new), encoding="utf-8")
    generated = target / "book" / "_generated"
    generated.mkdir()
    pages = {
        "times": times_table(source),
        "benchmarks": benchmarks_table(source),
        "asking": asking_table(source, generated),
        "faults": rules_table(),
        "knobs": knobs_table(),
        "slides": decks_table(source),
        "demo": demo_times(source),
        "writers": writers_text(),
    }
    pages |= {"published": published_tables(), "reference": reference_tables(source, generated)}
    pages["leaderboard"] = leaderboard_tables(source)
    pages |= {f"when-{name}": text for name, text in verdict_fragments(source, generated).items()}
    pages |= {f"baselines-{name}": baselines_table(source, name) for name in DATA_SETS}
    for name, text in pages.items():
        (generated / f"{name}.md").write_text(plots_in_both_themes(text), encoding="utf-8")


def with_companions(contents: str, names: list[str]) -> str:
    """The table of contents, where each chapter's notebook of exercises stands below the chapter."""

    def place(match: re.Match[str]) -> str:
        line, indent, name = match[0], match[1], f"{match[2]}_exercises"
        return f"{line}\n{indent}  sections:\n{indent}  - file: notebooks/{name}" if name in names else line

    return re.sub(r"^( *)- file: notebooks/(\w+)$", place, contents, flags=re.MULTILINE)


def stage_notebook(notebook: dict[str, Any], name: str, plots: Path) -> dict[str, Any]:
    """Make an executed notebook ready for MyST-NB: plots in both themes, their code folded, no run-time metadata.

    Args:
        notebook: as executed.
        name: its name, for errors.
        plots: folder that the plots are written to, ``_static/plots`` of the book.
    """
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "papermill"}
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(notebook["cells"], 1):
        before, code = code_before_plot(cell)
        if before:
            cells.append({**cell, "id": f"{cell['id']}-before", "source": before, "outputs": [], "metadata": {}})
        cells.append(stage_cell({**cell, "source": code}, f"{name}, cell {number}", plots))
    return {**notebook, "metadata": metadata, "cells": cells}


def code_before_plot(cell: dict[str, Any]) -> tuple[str, str]:
    """A cell's code, which stays open, and that from the statement on that begins its plot, which is folded.

    A line or two before the plot are folded with it, since alone they say little.
    """
    source = "".join(cell["source"])
    if not is_plot(cell):
        return "", source
    lines = source.splitlines()
    starts = [node.lineno - 1 for node in ast.parse(source).body if PLOTTING.search(ast.unparse(node))]
    start = starts[0] if starts else 0
    while start and lines[start - 1].startswith("#"):
        start -= 1
    before = "\n".join(lines[:start]).strip()
    return (before, "\n".join(lines[start:])) if before.count("\n") >= 2 else ("", source)


def is_plot(cell: dict[str, Any]) -> bool:
    """Whether a cell shows a plot and is no exercise's."""
    return any(is_image(output) for output in cell.get("outputs", [])) and "exercise" not in cell["metadata"].get(
        "tags", []
    )


def stage_cell(cell: dict[str, Any], where: str, plots: Path) -> dict[str, Any]:
    """Stage one cell; see :func:`stage_notebook`."""
    if cell["cell_type"] == "markdown":
        cell = {**cell, "source": in_both_themes("".join(cell["source"]))}
    dropped = ("papermill", "execution", "collapsed", "jupyter")
    metadata = {key: value for key, value in cell["metadata"].items() if key not in dropped}
    tags = list(metadata.get("tags", []))
    if "injected-parameters" in tags:
        tags.append("remove-cell")
    if "setup" in tags:
        tags.append("hide-input")
        metadata["mystnb"] = {"code_prompt_show": "Set-up: show", "code_prompt_hide": "Set-up: hide"}
    if is_plot(cell):
        tags.append("hide-input")
        metadata["mystnb"] = {"code_prompt_show": "The plot's code: show", "code_prompt_hide": "The plot's code: hide"}
    if "outputs" in cell:
        cell = {**cell, "outputs": [plot(out, where, plots) if is_image(out) else out for out in cell["outputs"]]}
    for output in cell.get("outputs", []):
        if output.get("name") == "stderr":
            text = "".join(output["text"]).strip().splitlines()
            raise BuildError(
                f"{where} wrote to stderr, which no page shows: {text[-1] if text else ''!r}; mend its cause"
            )
    source = with_explorable("".join(cell["source"]), where) if cell["cell_type"] == "markdown" else cell["source"]
    return {**cell, "source": source, "metadata": {**metadata, "tags": tags} if tags else metadata}


def with_explorable(text: str, where: str, static: str = "../_static/explore") -> str:
    """Give ``<div class="explore" data-explore="NAME">`` its still picture, and after the ``</div>`` its scripts.

    A notebook holds the sentence alone, so that JupyterLab, Colab and GitHub, which run no script of a text, show that.

    Args:
        text: a cell; most are returned as they are. One holds one explorable, and nothing else.
        where: named in the error.
        static: address of ``book/_static/explore``, seen from the page.

    Raises:
        BuildError: if there is no such explorable.
    """
    found = re.match(r'<div class="explore" data-explore="([a-z-]+)">\n', text)
    if not found:
        return text
    name = found[1]
    if not (EXPLORE / f"{name}.js").is_file() or not (EXPLORE / f"{name}.svg").is_file():
        raise BuildError(f"{where} embeds {name!r}, but {EXPLORE} has no {name}.js with its still picture {name}.svg")
    picture = (EXPLORE / f"{name}.svg").read_text(encoding="utf-8")
    alt = picture.partition("<title>")[2].partition("</title>")[0].replace('"', "&quot;")
    scripts = ["frame", *([f"{name}-data"] if (EXPLORE / f"{name}-data.js").is_file() else []), name]
    body = text[found.end() :].strip().removesuffix("</div>").strip()
    return "\n".join(
        [
            f'<link rel="stylesheet" href="{static}/frame.css">',
            found[0].strip(),
            f'<img src="{static}/{name}.svg" alt="{alt}">',
            f"\n{body}\n\n</div>",
            *(f'<script src="{static}/{script}.js"></script>' for script in scripts),
        ]
    )


def in_both_themes(text: str) -> str:
    """Each diagram that stands on a line of its own, twice: the book's stylesheet shows that of the reader's theme.

    Elsewhere the one file follows the system, so text and notebooks stay plain Markdown.
    """

    def twice(found: re.Match[str]) -> str:
        alt, folder, name = " ".join(found[1].split()), found[2], found[3]  # a line's end would be lost
        themes = ("light", "dark")
        return "\n".join(f"![{alt}]({folder}{name}-{theme}.svg){{.only-{theme} .diagram}}" for theme in themes)

    return DIAGRAM.sub(twice, text)


def themed(svg: str) -> dict[str, str]:
    """The light and the dark picture of a file that holds both; nothing of one that holds one."""
    if not DARK_RULES.search(svg):
        return {}
    return {"light": DARK_RULES.sub("", svg), "dark": DARK_RULES.sub(lambda found: found[1] + "\n", svg)}


def plots_in_both_themes(text: str) -> str:
    """Each figure that ``plotting.save(..., both=True)`` has written, twice, as :func:`in_both_themes`."""
    return PLOT.sub(r"![\1](\2.png){.only-light .plot}\n![\1](\2-dark.png){.only-dark .plot}", text)


def plot(output: dict[str, Any], where: str, plots: Path) -> dict[str, Any]:
    """A figure's output as HTML with its light and its dark picture, which are written to files, and one alt text."""
    alt, data, html = alt_text(output, where), output["data"], ""
    for theme, kind in (("light", "image/png"), ("dark", DARK)):
        if kind not in data:
            raise BuildError(
                f"{where} shows a figure without its {theme} PNG: show it with plotting.show(fig, alt=...)"
            )
        picture = smaller(base64.b64decode("".join(data[kind])))
        name = f"{hashlib.sha256(picture).hexdigest()[:16]}.png"  # a new figure has a new address: no stale cache
        plots.mkdir(parents=True, exist_ok=True)
        (plots / name).write_bytes(picture)
        width, height = Image.open(
            io.BytesIO(picture)
        ).size  # lazy: the other theme's isn't fetched, nor does text jump
        size = f'loading="lazy" width="{width}" height="{height}"'
        html += f'<img class="plot only-{theme}" {size} src="../_static/{plots.name}/{name}" alt="{escape(alt)}">'
    return {**output, "data": {"text/html": html}, "metadata": {"alt": alt}}


def is_image(output: dict[str, Any]) -> bool:
    """Whether an output is a figure."""
    return any(kind in output.get("data", {}) for kind in IMAGES)


def alt_text(output: dict[str, Any], where: str) -> str:
    """The alt text that an image output carries in its metadata."""
    metadata = output.get("metadata", {})
    nested = [metadata[kind]["alt"] for kind in IMAGES if "alt" in metadata.get(kind, {})]
    alt = nested[0] if nested else metadata.get("alt", "")
    if not alt.strip():
        raise BuildError(f"{where} shows a figure without alt text: show it with plotting.show(fig, alt=...)")
    return alt


def times_table(source: Path) -> str:
    """Markdown table of what each notebook took on each profile: run here, else recorded, else not measured yet."""
    path = source / "results" / "times.json"
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    profiles = [name for name in PROFILE_ORDER if name in profile_names(source)]
    columns, notes = {}, []
    for profile in profiles:
        here, kept = measured_times(profile, source), recorded.get(profile, {"notebooks": {}, "device": ""})
        columns[profile] = by_row({**kept["notebooks"], **here["notebooks"]})
        words = [f"this run, {here['device']}"] if here["notebooks"] else []
        if set(kept["notebooks"]) - set(here["notebooks"]):
            words.append(f"recorded run (`results/times.json`), {kept['device']}")
        notes += [f"- `{profile}`: {'; '.join(words)}."] if words else []
    measured = [profile for profile in profiles if columns[profile]] or profiles
    left_out = [f"`{profile}`" for profile in profiles if profile not in measured]
    notes += [f"- {', '.join(left_out)}: not measured yet."] if left_out else []
    names = [name for name in notebook_names(source) if not name.endswith("_exercises")]
    links = {name: f"[{name}](../notebooks/{name}.ipynb)" for name in names}
    others = {name: name for column in columns.values() for name in column if name.startswith("exercises")}
    rows = [
        f"| {link} | " + " | ".join(_cell(columns[profile].get(name)) for profile in measured) + " |"
        for name, link in {**links, **others}.items()
    ]
    head = ["| notebook | " + " | ".join(f"`{p}`" for p in measured) + " |", "|---|" + "---|" * len(measured)]
    legend = ["", "Seconds of wall clock and peak resident memory of the notebook's own process. Measured on:", ""]
    return "\n".join([*head, *rows, *(legend + notes if notes else [])]) + "\n"


def demo_times(source: Path) -> str:
    """What a reader of the demo waits for, from results/demo.json."""
    path = source / "results" / "demo.json"
    if not path.exists():
        return "Not measured yet.\n"
    found = json.loads(path.read_text(encoding="utf-8"))["figures"]
    words = {"ready": "until the page is there", "first word": "until the first word of a reasoning",
             "list after it": "from there to the list"}  # fmt: skip
    rows = [
        f"| {words[name]} | {found[name]['median']:.1f} s | {found[name]['min']:.1f} to {found[name]['max']:.1f} s |"
        for name in words
    ]
    return "\n".join(
        [
            "| what you wait for | median | spread |",
            "|---|---|---|",
            *rows,
            "",
            f"Recorded run (`results/demo.json`): {found['starts']} starts with the catalogue's table in the cache and "
            f"{found['users']} users, seen in the browser, on {found['cores']} cores of {found['processor']} in "
            f"{found['arithmetic']}. A first start converts the model and encodes the catalogue as well, which takes a "
            "minute or two.",
            "",
        ]
    )


def _cell(times: dict[str, float] | None) -> str:
    return f"{times['seconds']:.0f} s, {times['peak_mb'] / 1000:.1f} GB" if times else "not measured yet"


if __name__ == "__main__":
    stage(ROOT, ROOT / "_build" / "src")
