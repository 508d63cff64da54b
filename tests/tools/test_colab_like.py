"""What `make colab-like` makes of Colab's list and of the working tree; the run itself is the weekly workflow's."""

import subprocess
import sys
from datetime import date, timedelta

import colab_like
import pytest

LIST = """\
# Python: 3.13
# Date: 2026-08-19
Jinja2==3.1.6
nvidia-cublas-cu12==12.8.4.1
cuda-toolkit==12.8.1
torch==2.11.0+cu128
kernel_gateway @ git+https://example.org/kernel_gateway@b134e99
"""
PINS = {"jinja2": "3.1.6", "nvidia-cublas-cu12": "12.8.4.1", "cuda-toolkit": "12.8.1", "torch": "2.11.0"}


def test_the_list_without_addresses_and_local_versions():
    assert colab_like.listed(LIST) == PINS
    assert colab_like.noted(LIST, "Python") == "3.13"


def test_cuda_packages_are_left_to_torch_and_nothing_else_is():
    assert colab_like.constraints(PINS) == ["jinja2==3.1.6", "torch==2.11.0"]


def test_colabs_list_is_whole_and_has_what_is_installed_from_it():
    text = colab_like.LISTED.read_text(encoding="utf-8")
    pins = colab_like.listed(text)
    assert len(pins) > 600
    assert [name for name in colab_like.roots() if colab_like.canonical(name) not in pins] == []
    assert tuple(map(int, pins["torchao"].split(".")[:2])) < (0, 16), "then the set-up cell need not remove it"


@pytest.mark.parametrize(("days", "late"), [(0, False), (60, False), (61, True)])
def test_an_old_list_is_warned_of(days, late):
    said = colab_like.warning(LIST, date(2026, 8, 19) + timedelta(days))
    assert (said is not None) == late
    assert not late or f"{days} days old" in str(said)


def test_another_version_than_the_listed_is_seen():
    installed = {"jinja2": "3.1.5", "torch": "2.11.0+cu130", "cuda-toolkit": "13.0.2", "papermill": "2.7.0"}
    assert colab_like.differences(installed, PINS) == ["jinja2 3.1.5, listed 3.1.6"]


def test_colabs_python_is_found_or_its_lack_told(capsys, monkeypatch, tmp_path):
    here = "{}.{}".format(*sys.version_info)
    assert colab_like.python_like(here) == sys.executable
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert colab_like.python_like("2.0") == sys.executable
    assert "no Python 2.0 here" in capsys.readouterr().out
    other = tmp_path / "python2.0"
    other.write_text("#!/bin/sh\necho 2.0\n")
    other.chmod(0o755)
    assert colab_like.python_like("2.0") == "python2.0"
    other.write_text("#!/bin/sh\nexit 127\n")  # as pyenv's stand-in does for a version that isn't chosen
    assert colab_like.python_like("2.0") == sys.executable


def test_the_copy_has_what_is_not_committed_and_nothing_ignored(tmp_path, monkeypatch):
    root, copy = tmp_path / "root", tmp_path / "copy"
    root.mkdir()
    monkeypatch.setattr(colab_like, "ROOT", root)
    monkeypatch.setattr(colab_like, "COPY", copy)
    for name, text in ((".gitignore", "built\n"), ("kept", "old"), ("gone", "x")):
        (root / name).write_text(text)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    (root / "gone").unlink()
    for name, text in (("kept", "changed"), ("new", "y"), ("built", "z")):
        (root / name).write_text(text)
    for _ in range(2):  # the second copy replaces the first
        colab_like.copy_repository()
        (copy / "left").write_text("over")
    subprocess.run(["git", "clone", "-q", copy.as_uri(), "clone"], cwd=tmp_path, check=True)
    found = {path.name: path.read_text() for path in (tmp_path / "clone").iterdir() if path.is_file()}
    assert found == {".gitignore": "built\n", "kept": "changed", "new": "y"}
