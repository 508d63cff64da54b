"""Notebook 06 with ``keep``: a session that dies takes nothing along, and the same notebook goes on in the next."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import execute
import numpy as np
import pytest
from fresh_process import run_notebook

from rrec_lib.core import paths, results
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.training.run_folder import run_name
from rrec_lib.training.stages import load_stage, train_recpo

ROOT = Path(__file__).resolve().parent.parent.parent
DIES = """\
import sys
sys.path.append({tests!r})
import resume_run
resume_run.die_at("before the update", 3)"""


def session(keep: Path, dies: bool = False) -> tuple[str, str]:
    """Run notebook 06 on smoke where nothing else stays: its error and what it printed."""
    notebook = json.loads((ROOT / "notebooks" / "06_gpu_training.ipynb").read_text(encoding="utf-8"))
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    parameters = notebook["cells"][place := tags.index(["parameters"])]
    parameters["source"] = "".join(parameters["source"]).replace("keep = None", f"keep = {str(keep)!r}")
    if dies:
        source = DIES.format(tests=str(ROOT / "tests" / "training"))
        notebook["cells"].insert(place + 1, {**parameters, "id": "dies", "metadata": {}, "source": source})
    with tempfile.TemporaryDirectory(prefix="rrec-") as name:
        folder = Path(name)
        (folder / "in.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        environment = execute.kernel_environment("smoke", folder / "results", name)
        command: list[str | Path] = [sys.executable, execute.RUNNER, "in.ipynb", "out.ipynb", "smoke", "report.json"]
        run_notebook(command, cwd=folder, env=environment)
        executed = json.loads((folder / "out.ipynb").read_text(encoding="utf-8"))
        outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
        error = json.loads((folder / "report.json").read_text(encoding="utf-8"))["error"]
    return error, "".join("".join(output.get("text", "")) for output in outputs)


def test_a_notebook_whose_session_died_goes_on_and_ends_as_if_it_had_not(tmp_path):
    keep = tmp_path / "drive"
    error, _ = session(keep, dies=True)
    assert "DeadKernelError" in error
    assert [path.parent.name for path in keep.glob("*/checkpoint-*/complete")] == ["checkpoint-2"]
    assert not (keep / "results").exists()

    error, printed = session(keep)
    assert error is None
    assert "resuming from checkpoint-2\n" in printed
    figures = json.loads((keep / "results" / "06_gpu_training.json").read_text(encoding="utf-8"))["figures"]
    assert figures["went_on_from"] == "checkpoint-2"

    cfg = load_profile("smoke")
    dataset = prepare_profile(cfg)
    whole = train_recpo(load_stage(cfg, dataset, "base"), dataset, cfg, tmp_path / "whole", callbacks=[])
    log = [row for row in whole.state.log_history if "reward" in row]
    assert figures["steps"] == len(log) == 4
    for half, rows in (("first", log[:2]), ("second", log[2:])):
        assert figures[f"reward_{half}_half"] == pytest.approx(np.mean([row["reward"] for row in rows]), abs=1e-9)
    assert figures["entropy_last"] == pytest.approx(log[-1]["entropy"], abs=1e-9)
    assert log[-1]["reward"] != log[-2]["reward"]  # else any step would do


def test_every_setting_has_a_folder_of_its_own():
    cfg = load_profile("smoke")
    others = [replace(cfg, name="cpu"), load_profile("smoke", {"training.learning_rate": 0.5})]
    names = {run_name(*run) for run in [(cfg, "base", 0), (cfg, "base", 1), (cfg, "warmup", 0)]}
    names |= {run_name(other, "base", 0) for other in others}
    assert len(names) == 5
    assert run_name(load_profile("smoke"), "base", 0) == run_name(cfg, "base", 0)


def test_a_drive_that_is_not_mounted_is_named_and_not_made(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="MyDrive, where rrec is to be kept, is missing: mount it"):
        results.record("x", {"a": 1}, "smoke", keep=tmp_path / "MyDrive" / "rrec")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert results.record("x", {"a": 1}, "smoke", keep="rrec") == tmp_path / "rrec" / "results" / "x.json"
    assert paths.kept("rrec") == tmp_path / "rrec"
