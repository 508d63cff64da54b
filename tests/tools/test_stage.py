"""Staging: alt texts, folded cells, the table of times, and what is refused."""

import json

import execute
import numpy as np
import pytest
import stage
from execute import BuildError

from rrec_lib.evaluation.compare import detectable_difference, user_spread
from rrec_lib.evaluation.reports import Report, save_reports


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


def test_the_benchmarks_table_shows_what_is_recorded_and_says_what_is_not(tmp_path):
    assert stage.benchmarks_table(tmp_path).count("not measured yet") == len(stage.BENCHMARKS)
    run = {"ratio": 2.5, "spread": [2.4, 2.75], "rounds": 5, "commit": "abc", "device": "CPU", "time": "2026-01-02T03"}
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    (tmp_path / "results" / "benchmarks" / "rollouts.json").write_text(json.dumps(run))
    table = stage.benchmarks_table(tmp_path)
    assert "| `rollouts` | 2.50 | 2.40 to 2.75 | 5 |" in table
    assert "commit abc, CPU, 2026-01-02" in table
    assert table.count("not measured yet") == len(stage.BENCHMARKS) - 1


def recorded(name, greater, examples="e"):
    ranks = np.array(greater)
    return Report(name, ranks, np.ones_like(ranks), np.arange(len(ranks)) // 2, 0, 200, 0, 100, examples)


def test_the_reference_table_shows_what_was_run_and_names_what_was_not(tmp_path):
    def movielens():
        return stage.reference_tables(tmp_path, tmp_path).split("## ")[1]

    tables = stage.reference_tables(tmp_path, tmp_path)
    assert tables.count("not run yet") == 4 * len(stage.DATA_SETS)
    folder = tmp_path / "results" / "reference" / "movielens-cpu"
    good, poor = [0, 0, 1, 0, 0, 2, 0, 0], [30, 9, 40, 50, 8, 60, 20, 12]
    for seed in (0, 1):
        save_reports(folder / f"with-{seed}.json", [recorded("with reasoning", [*good[:7], seed])], "cpu", "d", seed)
    assert "| R²ec with reasoning | 2 | 0." in movielens()
    assert "| R²ec without reasoning | not run yet |" in movielens()
    assert "With against without" not in movielens()
    save_reports(folder / "without-0.json", [recorded("without reasoning", poor)], "cpu", "d", 0)
    rivals = tmp_path / "results" / "baselines" / "movielens-cpu" / "reports.json"
    save_reports(rivals, [recorded("EASE", [1] * 8), recorded("weak", poor), recorded("chance", [70] * 8)], "cpu", "d")
    table = movielens()
    assert "| EASE, the best tuned baseline | 1 |" in table
    assert "![NDCG@20, best first: R²ec with reasoning 0." in table
    assert (tmp_path / "reference-movielens-cpu.png").read_bytes().startswith(b"\x89PNG")
    (weak,) = [line for line in table.splitlines() if line.startswith("| weak |  | 0.")]  # no search of it stands there
    assert "better by 0." in weak
    assert table.count("With against without reasoning: better by 0.") == 2  # all rows, and capped
    (without,) = [line for line in table.splitlines() if line.startswith("| R²ec without")]
    assert "worse by" in without
    assert "seed 1: 8 rows of 4 users" in table
    spread = user_spread(
        recorded("", [1] * 8).metric("ndcg@20") - recorded("", poor).metric("ndcg@20"), np.arange(8) // 2
    )
    assert "*Detectable*: 8 rows of 4 users. Between the best baseline and each of the next 2 the" in table
    assert f"true difference of 0.000 to {detectable_difference(4, spread):.3f} is then shown" in table
    save_reports(folder / "without-1.json", [recorded("without reasoning", poor, "other")], "cpu", "d", 1)
    with pytest.raises(ValueError, match="different examples"):
        stage.reference_tables(tmp_path, tmp_path)


def test_the_baselines_table_shows_the_recorded_searches(tmp_path):
    assert stage.baselines_table(tmp_path, "movielens-cpu").count("not run yet") == len(stage.BASELINES)
    table = stage.baselines_table(execute.ROOT, "movielens-cpu")
    (ease,) = [line for line in table.splitlines() if line.startswith("| EASE |")]
    recorded = json.loads((execute.ROOT / "results/baselines/movielens-cpu/ease.json").read_text())["trials"]
    best = max(recorded, key=lambda trial: trial["valid"])["parameters"]
    assert ease.endswith(f"| {len(recorded)} | l2 {best['l2']}, length {best['length']} |")
