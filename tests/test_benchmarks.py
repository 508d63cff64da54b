"""Every benchmark runs on tiny sizes, and its last line is the short form of its result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def last_line(script, *arguments):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["rollouts", "recpo_step", "item_encoding", "memory", "prepare", "evaluation"])
def test_the_last_line_is_json_and_a_quick_run_records_nothing(name):
    recorded = ROOT / "results" / "benchmarks" / f"{name}.json"
    before = recorded.read_bytes() if recorded.exists() else None
    result = json.loads(last_line(f"{name}.py", "--quick"))
    assert set(result) == {"name", "ratio", "spread"}
    assert result["name"] == name
    assert 0 < result["spread"][0] <= result["ratio"] <= result["spread"][1]
    assert (recorded.read_bytes() if recorded.exists() else None) == before


def test_a_script_that_fails_is_noticed():
    with pytest.raises(AssertionError, match="No such file"):
        last_line("no_such_script.py")
