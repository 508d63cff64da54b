"""The same raw files give the same bytes, whatever the hash seed and the number of threads."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = "import sys; from rrec_lib.cli.main import main; print(hash('x'), file=sys.stderr); sys.exit(main(sys.argv[1:]))"
RAW = ["--category", "Adversarial_A", "--raw-dir", ROOT / "tests" / "reference" / "raw"]


@pytest.mark.parametrize("recipe", ["clean", "official"])
def test_hash_seed_and_threads_change_no_byte(recipe, tmp_path):
    """In processes of their own, since both are fixed when Python starts."""
    hashes, contents = set(), []
    for seed, threads in (("1", "1"), ("2", "3")):
        out = tmp_path / seed
        window = ["--recipe", recipe, "--start", "2016-01", "--end", "2018-12", "--max-faults", "1", "--out", out]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads}
        command = [sys.executable, "-c", CODE, "prepare", "amazon", *RAW, *window]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        hashes.add(done.stderr.split()[0])
        files = (file for file in out.rglob("*") if file.is_file())
        contents.append({file.relative_to(out): hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert len(hashes) == 2, "the seeds had no effect, so nothing was shown"
    assert contents[0] == contents[1]
    assert any(name.suffix == ".arrow" for name in contents[0])
