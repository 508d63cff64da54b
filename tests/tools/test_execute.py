"""Running notebooks: what is skipped, what is measured, and what a failure says and leaves."""

import json
import os
import shutil
import sys
from pathlib import Path

import execute
import nbformat
import pytest


def write_notebook(path, source):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = source
    nbformat.write(notebook, path)


def test_runs_measures_records_and_then_skips(project, capsys):
    results = "import os, pathlib; pathlib.Path(os.environ['RREC_RESULTS_DIR'], 'r').write_text(profile)"
    write_notebook(project / "notebooks" / "01_first.ipynb", f"{results}\nballast = bytearray(200_000_000)")
    execute.execute_all(["01_first"], "smoke", root=project)
    out = project / "_build" / "executed" / "smoke"
    times = json.loads((out / "times.json").read_text())
    assert 200 < times["notebooks"]["01_first"]["peak_mb"] < 1000
    assert times["notebooks"]["01_first"]["seconds"] > 0
    assert "cores" in times["device"]
    assert (project / "_build" / "results" / "smoke" / "r").read_text() == "smoke"
    before = (out / "01_first.ipynb").stat().st_mtime_ns
    capsys.readouterr()
    execute.execute_all(["01_first"], "smoke", root=project)
    assert "unchanged" in capsys.readouterr().out
    assert (out / "01_first.ipynb").stat().st_mtime_ns == before


def second_notebook(project):
    first = project / "notebooks" / "01_first.ipynb"
    return first, Path(shutil.copy(first, first.with_name("02_second.ipynb")))


def test_two_notebooks_at_a_time_share_the_cores(project, monkeypatch):
    """Each waits for the other to have begun, which one after the other would never end."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(execute, "cores_and_memory", lambda: (6, 24.0))
    assert [execute.jobs_here(profile) for profile in ("smoke", "cpu", "t4")] == [2, 2, 1]
    for path, other in zip(second_notebook(project), ("02", "01"), strict=True):
        meet = "import os, pathlib, time; here = pathlib.Path(os.environ['RREC_RESULTS_DIR'])"
        wait = f"while not (here / '{other}').exists(): time.sleep(.05)"
        write_notebook(path, f"{meet}\n(here / '{path.name[:2]}').write_text(os.environ['OMP_NUM_THREADS'])\n{wait}")
    execute.execute_all(execute.select([], project), "smoke", root=project)
    results = project / "_build" / "results" / "smoke"
    assert [(results / name).read_text() for name in ("01", "02")] == ["3", "3"]
    assert execute.measured_times("smoke", project)["device"].endswith(", 2 notebooks at a time")


@pytest.mark.parametrize(("cores", "memory"), [(1, 24.0), (8, 8.0)])
def test_without_room_for_two_it_is_one_at_a_time(monkeypatch, cores, memory):
    monkeypatch.setattr(execute, "cores_and_memory", lambda: (cores, memory))
    assert execute.jobs_here("cpu") == 1


def test_what_runs_beside_a_failure_is_kept_and_nothing_else_begins(project, capsys):
    first, second = second_notebook(project)
    shutil.copy(first, first.with_name("03_third.ipynb"))
    write_notebook(first, "raise ValueError('the film is torn')")
    write_notebook(second, "import time; time.sleep(6)")
    with pytest.raises(execute.BuildError, match="the film is torn"):
        execute.execute_all(execute.select([], project), "smoke", root=project, jobs=2)
    assert "what still runs may end" in capsys.readouterr().out
    out = project / "_build" / "executed" / "smoke"
    assert sorted(path.name for path in out.glob("*.ipynb")) == ["02_second.ipynb"]


def test_failure_names_cell_error_and_remedy_and_keeps_the_good_output(executed):
    write_notebook(executed / "notebooks" / "01_first.ipynb", "raise ValueError('the film is torn')")
    out = executed / "_build" / "executed" / "cpu"
    before = (out / "01_first.ipynb").read_bytes()
    with pytest.raises(execute.BuildError) as caught:
        execute.execute_all(["01_first"], "cpu", root=executed)
    message = str(caught.value)
    assert "notebooks/01_first.ipynb" in message
    assert "the film is torn" in message
    assert "raise ValueError" in message
    partial = out / "running" / "01_first" / "01_first.ipynb"
    assert str(partial) in message
    assert "the film is torn" in partial.read_text()
    assert (out / "01_first.ipynb").read_bytes() == before


@pytest.mark.parametrize(("jobs", "remedy"), [(1, r"want of memory\."), (2, r"want of memory; with JOBS=1")])
def test_killed_kernel_is_a_failure_too(project, jobs, remedy):
    write_notebook(project / "notebooks" / "01_first.ipynb", "import os; os._exit(9)")
    with pytest.raises(execute.BuildError, match=f"01_first(?s:.*){remedy}"):
        execute.execute_all(["01_first"], "smoke", root=project, jobs=jobs)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("notebooks/01_first.ipynb", True),
        ("notebooks/profiles/cpu.yaml", True),
        ("notebooks/profiles/smoke.yaml", False),
        ("rrec_lib/recpo/rewards.py", True),
        ("rrec_lib/cli/main.py", False),
        ("rrec_lib/experiments/runner.py", True),
        ("rrec_lib/experiments/ablations.py", True),
        ("rrec_lib/exercises/nb01.py", True),
        ("rrec_lib/exercises/nb02.py", False),
        ("rrec_lib/exercises/quizzes/01.yaml", True),
        ("rrec_lib/exercises/quizzes/02.yaml", False),
        ("data/ratings.csv", True),
        ("book/welcome.md", False),
        ("results/gpu/device/tests.json", False),
    ],
)
def test_key_changes_with_what_the_notebook_depends_on(project, file, counts):
    (project / file).parent.mkdir(parents=True, exist_ok=True)
    (project / file).touch()
    before = execute.key_of("01_first", "cpu", project)
    (project / file).write_text((project / file).read_text() + " ")
    assert (execute.key_of("01_first", "cpu", project) != before) is counts


def test_key_changes_with_a_new_adapter(project):
    before = execute.key_of("01_first", "cpu", project)
    (project / "results" / "adapters" / "weights").write_bytes(b"1")
    assert execute.key_of("01_first", "cpu", project) != before


def test_names_and_profiles_are_checked(project):
    assert execute.select([], project) == ["01_first"]
    assert execute.select(["01"], project) == execute.select(["notebooks/01_first.ipynb"], project) == ["01_first"]
    with pytest.raises(execute.BuildError, match="choose from 01_first"):
        execute.select(["02"], project)
    with pytest.raises(execute.BuildError, match="unknown profile 'gpu'; choose PROFILE=cpu, smoke"):
        execute.execute_all(["01_first"], "gpu", root=project)


def test_kernels_run_offline_on_the_profiles_that_ship_everything(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert execute.kernel_environment("cpu", tmp_path, "s")["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in execute.kernel_environment("t4", tmp_path, "s")
    assert execute.kernel_environment("t4", tmp_path, "s")["PATH"] == os.environ["PATH"]


def test_recording_times_needs_every_notebook(executed):
    execute.record_times("cpu", executed)
    recorded = json.loads((executed / "results" / "times.json").read_text())
    assert recorded["cpu"]["notebooks"]["01_first"] == {"seconds": 3.2, "peak_mb": 512}
    with pytest.raises(execute.BuildError, match="not run on smoke yet: 01_first"):
        execute.record_times("smoke", executed)


def test_a_foreign_kernel_of_the_same_name_is_not_started(project, tmp_path, monkeypatch):
    """Wherever a reader keeps one: in a folder of JUPYTER_PATH, or among their own data."""
    for number, variable in enumerate(("JUPYTER_PATH", "JUPYTER_DATA_DIR")):
        kernel = tmp_path / f"foreign{number}" / "kernels" / "python3"
        kernel.mkdir(parents=True)
        spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec))
        monkeypatch.setenv(variable, str(tmp_path / f"foreign{number}"))
    source = "import os, pathlib, sys; pathlib.Path(os.environ['RREC_RESULTS_DIR'], 'r').write_text(sys.executable)"
    write_notebook(project / "notebooks" / "01_first.ipynb", source)
    execute.execute_all(["01_first"], "smoke", root=project)
    assert (project / "_build" / "results" / "smoke" / "r").read_text() == sys.executable


def test_the_notebooks_of_exercises_share_a_row_of_a_table():
    times = {"01_a": (9, 500), "01_a_exercises": (2, 300), "02_b": (8, 400), "02_b_exercises": (3, 200)}
    rows = execute.by_row({name: {"seconds": s, "peak_mb": mb} for name, (s, mb) in times.items()})
    assert list(rows) == ["01_a", "02_b", "exercises and quizzes, 2 notebooks"]
    assert rows["exercises and quizzes, 2 notebooks"] == {"seconds": 5, "peak_mb": 300}
