"""The wheel alone, away from the repository, is a working library and command."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HISTORY = ("Alien (1979)", "Blade Runner (1982)")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Run a program of a new environment that has the wheel; every other package comes from this one.

    Of this environment only the folder of packages is on the path: its editable rrec_lib, which a ``.pth`` file names,
    is not.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    venv, empty = folder / "venv", folder / "empty"
    empty.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = (venv / "lib").glob("python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment["RREC_CACHE"] = str(folder / "cache")

    def start(program: str, *arguments: str) -> str:
        command = [venv / "bin" / program, *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert list(empty.iterdir()) == []
        return done.stdout

    return start


def test_the_wheel_holds_the_library_its_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rrec_lib"}
    assert "rrec_lib/py.typed" in names
    shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rrec_lib").rglob("*.py")}
    shipped.add("rrec_lib/_bundled/recpo_in_one_file.py")  # notebook 06 starts from it
    assert {name for name in names if name.endswith(".py")} == shipped


def test_the_library_comes_from_the_wheel(run):
    code = "import rrec_lib; from rrec_lib.core import paths; print(rrec_lib.__file__, paths.REPOSITORY)"
    file, repository = run("python", "-c", code).split()
    assert "elsewhere" in file
    assert not Path(file).is_relative_to(ROOT)
    assert repository == "None"


def test_it_recommends_what_the_repository_recommends(run, tmp_path):
    arguments = ("recommend", *HISTORY, "-k", "5", "--json")
    elsewhere = json.loads(run("rrec", *arguments))
    titles = [item["title"] for item in elsewhere["items"]]
    assert len(set(titles)) == 5
    assert not set(titles) & set(HISTORY)
    here = {**os.environ, "RREC_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "rrec_lib.cli", *arguments]
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == elsewhere
