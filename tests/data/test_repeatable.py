"""The same raw files give the same bytes, whatever the hash seed and the number of threads."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """import json, sys
from rrec_lib.cli.main import main
print(hash("x"), file=sys.stderr)
sys.exit(any([main(command) for command in json.loads(sys.argv[1])]))"""
RAW = ["--category", "Adversarial_A", "--raw-dir", str(ROOT / "tests" / "reference" / "raw")]
RECIPES = ["clean", "official"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folders that two processes prepared, each with a hash seed and a number of threads, and a hash of each's.

    In processes of their own, since both are fixed when Python starts.
    """
    hashes, folders = set(), []
    for seed, threads in (("1", "1"), ("2", "3")):
        folder = tmp_path_factory.mktemp(f"seed-{seed}")
        window = ["--start", "2016-01", "--end", "2018-12", "--max-faults", "1"]
        commands = [
            ["prepare", "amazon", *RAW, *window, "--recipe", recipe, "--out", str(folder / recipe)]
            for recipe in RECIPES
        ]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads}
        start = [sys.executable, "-c", CODE, json.dumps(commands)]
        done = subprocess.run(start, env=environment, check=True, capture_output=True, text=True)
        hashes.add(done.stderr.split()[0])
        folders.append(folder)
    return hashes, folders


@pytest.mark.parametrize("recipe", RECIPES)
def test_hash_seed_and_threads_change_no_byte(prepared, recipe):
    hashes, folders = prepared
    contents = []
    for out in (folder / recipe for folder in folders):
        files = (file for file in out.rglob("*") if file.is_file())
        contents.append({file.relative_to(out): hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert len(hashes) == 2, "the seeds had no effect, so nothing was shown"
    assert contents[0] == contents[1]
    assert any(name.suffix == ".arrow" for name in contents[0])
