"""Staging: alt texts, folded cells, the table of times, and what is refused."""

import json

import pytest
import stage
import yaml
from execute import BuildError, notebook_names


def code(outputs=(), tags=()):
    metadata = {"tags": list(tags), "papermill": {"duration": 1.5}}
    return {"cell_type": "code", "source": "", "metadata": metadata, "outputs": list(outputs), "execution_count": 1}


def image(metadata):
    return {"output_type": "display_data", "data": {"image/png": "aGk="}, "metadata": metadata}


@pytest.mark.parametrize("metadata", [{"image/png": {"alt": "It rises"}}, {"alt": "It rises"}])
def test_alt_text_goes_where_myst_nb_looks(metadata):
    staged = stage.stage_cell(code([image(metadata)]), "cell")
    assert staged["metadata"]["mystnb"] == {"image": {"alt": "It rises"}}
    assert "papermill" not in staged["metadata"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([image({})], "without alt text"),
        ([image({"alt": " "})], "without alt text"),
        ([image({"alt": "a"}), image({"alt": "b"})], "one figure a cell"),
        ([{"output_type": "stream", "name": "stderr", "text": ["a\n", "Warning: old\n"]}], "Warning: old"),
    ],
)
def test_outputs_that_no_page_can_show_are_refused(outputs, message):
    with pytest.raises(BuildError, match=message) as caught:
        stage.stage_cell(code(outputs), "03_model_architecture, cell 7")
    assert "03_model_architecture, cell 7" in str(caught.value)


def test_set_up_is_folded_and_injected_parameters_are_removed():
    assert "hide-input" in stage.stage_cell(code(tags=["setup"]), "")["metadata"]["tags"]
    assert "remove-cell" in stage.stage_cell(code(tags=["injected-parameters"]), "")["metadata"]["tags"]
    assert stage.stage_cell(code(tags=["parameters"]), "")["metadata"]["tags"] == ["parameters"]


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
    assert "| [01_first](../notebooks/01_first.ipynb) | not measured yet | 3 s, 0.5 GB |" in table
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
    figures = dict.fromkeys(("ready", "first word", "list after it"), spread)
    figures |= {"starts": 3, "users": 8, "cores": 2, "processor": "Some Processor", "arithmetic": "float32"}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo.json").write_text(json.dumps({"figures": figures}), encoding="utf-8")
    table = stage.demo_times(tmp_path)
    assert table.count("| 1.2 s | 0.9 to 2.0 s |") == 3
    assert "2 cores of Some Processor in float32" in table
