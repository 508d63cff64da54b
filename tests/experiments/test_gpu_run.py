"""What a GPU is asked, without one: each stage leaves its record, and a second call goes on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrec_lib.core.reading import read_json
from rrec_lib.experiments import gpu_run
from rrec_lib.experiments.gpu_run import Stage, run_stages

ROOT = Path(__file__).resolve().parents[2]


def variables(results, sockets):
    return dict(os.environ)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run these stages on the processor; what was recorded is in ``tmp_path / "out"``."""
    monkeypatch.setenv("RREC_COMMIT", "abc1234")

    def start(stages, minutes=5.0, profile="smoke", only=None):
        monkeypatch.setattr(gpu_run, "stages", lambda *_: stages)
        return run_stages(tmp_path / "out", tmp_path / "work", profile, minutes, variables, only, needs_gpu=False)

    return start


def made_up(folder, **codes):
    """Stages that note each start in a file and run a line of Python."""
    return [
        Stage(name, ["-c", f"open({str(folder / name)!r}, 'a').write('x'); {code}"], lambda: {"value": 1.5})
        for name, code in codes.items()
    ]


def records(folder):
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("out/cpu-*/*.json")}


def starts(folder):
    return {path.name: len(path.read_text()) for path in folder.iterdir() if path.is_file()}


def test_a_second_call_runs_what_is_missing_or_failed(run, tmp_path, capsys):
    ran = tmp_path / "ran"
    ran.mkdir()
    bad = "raise ValueError('the film /home/me/secret/reel.bin is torn')"
    codes = {"good": "pass", "bad": bad, "long": "import time; time.sleep(60)", "last": "pass"}
    assert run(made_up(ran, **codes), minutes=3 / 60) == 1
    found = records(tmp_path)
    assert {name: record["outcome"] for name, record in found.items()} == {"good": "passed", "bad": "failed"}
    good = found["good"]
    assert good["figures"] == {"value": 1.5}
    assert (good["commit"], good["profile"], good["seed"]) == ("abc1234", "smoke", 0)
    assert good["device"].startswith("CPU")
    assert "the film reel.bin is torn" in found["bad"]["error"]
    assert starts(ran) == {"good": 1, "bad": 1, "long": 1}
    assert "long: cut" in (said := capsys.readouterr().out)
    assert "last: no time left" in said
    stages = made_up(ran, **dict.fromkeys(("good", "bad", "last"), "pass"))
    for _ in range(2):
        assert run(stages) == 0
        assert starts(ran) == {"good": 1, "bad": 2, "long": 1, "last": 1}
    assert run(stages, profile="cpu", only=["good"]) == 0  # a tiny run's records are none of a full one
    assert starts(ran)["good"] == 2
    with pytest.raises(ValueError, match="no stage goood; choose from good, bad, last"):
        run(stages, only=["goood"])


def test_figures_that_are_not_finite_or_not_there_are_a_failure(run, tmp_path):
    nan = Stage("nan", ["-c", "pass"], lambda: {"value": float("nan")})
    none = Stage("none", ["-c", "pass"], lambda: read_json(Path("/no/such/file.json")))
    assert run([nan, none]) == 1
    assert {record["outcome"] for record in records(tmp_path).values()} == {"failed"}


def test_without_a_gpu_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_run, "describe_device", lambda: "CPU, 2 threads")
    with pytest.raises(ValueError, match="no CUDA GPU found; `--device cpu --profile smoke`"):
        run_stages(tmp_path, tmp_path, "cpu", 1, variables)


def test_a_device_names_its_folder():
    assert gpu_run.slug("GPU, NVIDIA H200") == "nvidia-h200"
    assert gpu_run.slug("GPU, Tesla T4") == "tesla-t4"
    assert gpu_run.slug("CPU, 2 threads") == "cpu-2-threads"


def test_all_that_was_promised_is_a_stage(tmp_path):
    named = [stage.name for stage in gpu_run.stages("cpu", tmp_path, tmp_path)]
    notebooks, benchmarks = ("01", "06", "07"), ("rollouts", "recpo_step", "item_encoding")
    assert sorted(named) == sorted(
        ["tests", "reference", *(f"notebook-{n}" for n in notebooks), *(f"benchmark-{b}" for b in benchmarks)]
    )
    for stage in gpu_run.stages("cpu", tmp_path, tmp_path):
        assert stage.command[0] == "-m" or (ROOT / stage.command[0]).is_file()
        assert "--quick" not in stage.command


KILLED = """
import os, sys
from pathlib import Path
from rrec_lib.core.reading import read_json
from rrec_lib.experiments import gpu_run
note = "import os; open(os.path.join(os.environ['RAN'], '{}'), 'a').write(str(os.getpid()) + ' '); {}"
codes = {"first": "pass", "second": os.environ["SECOND"]}
gpu_run.stages = lambda *_: [gpu_run.Stage(name, ["-c", note.format(name, code)], dict) for name, code in codes.items()]
out, work = Path(sys.argv[1], "out"), Path(sys.argv[1], "work")
sys.exit(gpu_run.run_stages(out, work, "smoke", 5, lambda *_: dict(os.environ), needs_gpu=False))
"""


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a stage with its script")
def test_killed_in_the_middle_it_leaves_nothing_running_and_goes_on(tmp_path):
    ran = tmp_path / "ran"
    ran.mkdir()
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAN": str(ran)}
    first = subprocess.Popen(command, env={**environment, "SECOND": "import time; time.sleep(300)"})
    try:
        wait_for(lambda: (ran / "second").is_file() and (ran / "second").read_text().endswith(" "))
        stage = int((ran / "second").read_text())
        assert alive(stage)
    finally:
        first.kill()
        first.wait()
    wait_for(lambda: not alive(stage), 10)
    again = subprocess.run(command, env={**environment, "SECOND": "pass"}, check=False)
    assert again.returncode == 0
    assert len((ran / "first").read_text().split()) == 1
    assert len((ran / "second").read_text().split()) == 2
