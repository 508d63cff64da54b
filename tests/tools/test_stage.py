"""Staging: plots, folded code, the table of times, and what is refused."""

import base64
import io
import json
import re

import pytest
import stage
import yaml
from execute import BuildError, notebook_names
from PIL import Image

from rrec_lib.core.plotting import DARK


def code(outputs=(), tags=(), source=""):
    metadata = {"tags": list(tags), "papermill": {"duration": 1.5}}
    cell = {"cell_type": "code", "id": "c1", "source": source, "metadata": metadata, "execution_count": 1}
    return {**cell, "outputs": list(outputs)}


def dot(colour):
    """A PNG of one pixel, as a notebook holds it."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def image(metadata, **more):
    data = {"image/png": dot("white"), DARK: dot("black"), "text/plain": "It rises"}
    return {"output_type": "display_data", "data": {**data, **more}, "metadata": metadata}


def staged(cell, plots):
    return stage.stage_notebook({"metadata": {}, "cells": [cell]}, "03_model_architecture", plots)["cells"]


@pytest.mark.parametrize("metadata", [{"image/png": {"alt": 'To "3"'}}, {"alt": 'To "3"'}])
def test_a_plot_stands_in_both_themes_with_its_alt_text_and_its_code_folded(metadata, tmp_path):
    [cell] = staged(code([image(metadata)]), tmp_path / "plots")
    assert "papermill" not in cell["metadata"]
    assert cell["metadata"]["tags"] == ["hide-input"]
    html = cell["outputs"][0]["data"]["text/html"]
    size = 'loading="lazy" width="1" height="1"'
    found = re.findall(rf'<img class="plot only-(\w+)" {size} src="../_static/plots/(\w+\.png)" alt="(.*?)">', html)
    assert [(theme, alt) for theme, _, alt in found] == [("light", "To &quot;3&quot;"), ("dark", "To &quot;3&quot;")]
    pictures = [Image.open(tmp_path / "plots" / name).convert("RGB") for _, name, _ in found]
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(255, 255, 255), (0, 0, 0)]


COMPUTING = "a = 1\nb = 2\nc = 3\n"
PLOTTED = "# how it looks\nfigure, axes = plt.subplots()\nd = 4\nplotting.show(figure, alt=(\n    'x'))\nd"


@pytest.mark.parametrize(
    ("source", "open_part", "folded"),
    [
        (COMPUTING + PLOTTED, COMPUTING.strip(), PLOTTED),
        (COMPUTING + "plotting.show(draw(a), 'x')", COMPUTING.strip(), "plotting.show(draw(a), 'x')"),
        (COMPUTING + "def dots():\n    figure, axes = plt.subplots()\n\n\ndots()", COMPUTING.strip(), None),
        ("a = 1\n" + PLOTTED, None, None),
        (PLOTTED, None, None),
        (COMPUTING + "draw_elsewhere(a)", None, None),
    ],
)
def test_what_a_cell_computes_before_its_plot_stays_open(source, open_part, folded, tmp_path):
    *before, cell = staged(code([image({"alt": "It rises"})], source=source), tmp_path)
    assert [(one["source"], one["outputs"], one["metadata"]) for one in before] == [(open_part, [], {})][: len(before)]
    assert bool(before) is (open_part is not None)
    assert (cell["id"], len(cell["outputs"])) == ("c1", 1)
    assert cell["source"] == folded or "\n".join([*(one["source"] for one in before), cell["source"]]) == source
    assert "hide-input" in cell["metadata"]["tags"]


def test_neither_an_exercise_nor_other_code_is_folded(tmp_path):
    for cell in (code([image({"alt": "It rises"})], ["exercise"], COMPUTING + PLOTTED), code(source=COMPUTING)):
        [found] = staged(cell, tmp_path)
        assert "hide-input" not in found["metadata"].get("tags", [])
        assert found["source"] == cell["source"]


def test_figures_of_pages_stand_in_both_themes():
    text = "a\n\n![To 3](_generated/gain.png)\n\n| ![not alone](x.png) |\n"
    assert stage.plots_in_both_themes(text) == (
        "a\n\n![To 3](_generated/gain.png){.only-light .plot}\n![To 3](_generated/gain-dark.png){.only-dark .plot}\n\n"
        "| ![not alone](x.png) |\n"
    )


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([image({})], "without alt text"),
        ([image({"alt": " "})], "without alt text"),
        ([{**image({"alt": "a"}), "data": {"image/png": dot("white")}}], "without its dark PNG"),
        ([{"output_type": "stream", "name": "stderr", "text": ["a\n", "Warning: old\n"]}], "Warning: old"),
    ],
)
def test_outputs_that_no_page_can_show_are_refused(outputs, message, tmp_path):
    with pytest.raises(BuildError, match=message) as caught:
        staged(code(outputs), tmp_path)
    assert "03_model_architecture, cell 1" in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "tags"),
    [
        ("setup", ["setup", "hide-input"]),
        ("injected-parameters", ["injected-parameters", "remove-cell"]),
        ("parameters", ["parameters"]),
    ],
)
def test_set_up_is_folded_and_injected_parameters_are_removed(tag, tags, tmp_path):
    assert staged(code(tags=[tag]), tmp_path)[0]["metadata"]["tags"] == tags


def test_staged_tree_has_pages_and_executed_notebooks(executed):
    target = executed / "_build" / "src"
    stage.stage(executed, target)
    notebook = json.loads((target / "notebooks" / "01_first.ipynb").read_text())
    assert notebook["cells"][-1]["outputs"]
    assert (target / "book" / "welcome.md").exists()
    assert not (executed / "book" / "_generated").exists()
    first = sorted(path.read_bytes() for path in target.rglob("*") if path.is_file())
    stage.stage(executed, target)
    assert sorted(path.read_bytes() for path in target.rglob("*") if path.is_file()) == first


def test_a_notebooks_links_to_the_glossary_lead_to_the_terms(executed):
    path = executed / "_build" / "executed" / "cpu" / "01_first.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["source"] = "Two [arms](../book/glossary.md), an [elbow](../book/glossary.md)"
    path.write_text(json.dumps(notebook))
    stage.stage(executed, executed / "_build" / "src")
    staged = json.loads((executed / "_build" / "src" / "notebooks" / "01_first.ipynb").read_text())
    assert staged["cells"][0]["source"] == "Two {term}`arms <arm>`, an [elbow](../book/glossary.md)"


def test_former_names_of_notebooks_lead_to_notebooks():
    names = set(notebook_names())
    assert set(stage.MOVED.values()) <= names
    assert not names & set(stage.MOVED)


def test_a_notebook_that_was_not_run_is_named(executed):
    with pytest.raises(BuildError, match=r"01_first has not been run on smoke.*make notebooks PROFILE=smoke"):
        stage.stage(executed, executed / "_build" / "src", "smoke")


def test_times_say_where_they_are_from(executed):
    table = stage.times_table(executed)
    assert "| [01_first](../notebooks/01_first.ipynb) | 3 s, 0.5 GB |" in table
    assert "- `smoke`: not measured yet." in table
    assert "`cpu`: this run, 2 cores." in table
    recorded = {"smoke": {"device": "8 cores", "notebooks": {"01_first": {"seconds": 9.6, "peak_mb": 300}}}}
    (executed / "results" / "times.json").write_text(json.dumps(recorded))
    table = stage.times_table(executed)
    assert "| 10 s, 0.3 GB | 3 s, 0.5 GB |" in table
    assert "`smoke`: recorded run (`results/times.json`), 8 cores." in table


def test_a_notebook_of_exercises_stands_below_its_chapter():
    contents = "chapters:\n  - file: notebooks/01_first\n  - file: notebooks/02_second\n  - file: book/page\n"
    staged = yaml.safe_load(stage.with_companions(contents, ["01_first", "01_first_exercises", "02_second"]))
    below = {"file": "notebooks/01_first", "sections": [{"file": "notebooks/01_first_exercises"}]}
    assert staged == {"chapters": [below, {"file": "notebooks/02_second"}, {"file": "book/page"}]}


def test_the_demos_times_are_the_recorded_ones(tmp_path):
    assert stage.demo_times(tmp_path) == "Not measured yet.\n"
    spread = {"median": 1.24, "min": 0.9, "max": 2.0}
    figures: dict[str, object] = dict.fromkeys(("ready", "first word", "list after it"), spread)
    figures |= {"starts": 3, "users": 8, "cores": 2, "processor": "Some Processor", "arithmetic": "float32"}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo.json").write_text(json.dumps({"figures": figures}), encoding="utf-8")
    table = stage.demo_times(tmp_path)
    assert table.count("| 1.2 s | 0.9 to 2.0 s |") == 3
    assert "2 cores of Some Processor in float32" in table
