"""``make gpu-run`` as a whole, on the processor."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_stage_runs_on_the_processor_and_goes_on_after_a_kill(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "gpu_run.py"), "--device", "cpu", "--profile", "smoke"]
    command += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--minutes", "30"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def found():
        paths = (tmp_path / "out").glob("cpu-*/*.json")
        return {path.stem: (path.stat().st_mtime_ns, json.loads(path.read_text())["outcome"]) for path in paths}

    first = subprocess.Popen(command, env=environment)
    end = time.monotonic() + 300
    while len(found()) < 2:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
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
