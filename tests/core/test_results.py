"""Provenance: a result names this project's own commit, or none."""

import os
import shutil
import subprocess
import sys

import pytest

from rrec_lib.core import paths, results


def git(folder, *command):
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", "-C", folder, *author, *command], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def outer(tmp_path, monkeypatch):
    """A repository of somebody else's, and in it an unpacked archive of this project."""
    git(tmp_path, "init", "-q")
    (tmp_path / "thesis.tex").write_text("x")
    git(tmp_path, "add", "thesis.tex")
    git(tmp_path, "commit", "-qm", "theirs")
    project = tmp_path / "rrec"
    (project / "rrec_lib" / "core").mkdir(parents=True)
    shutil.copy(paths.__file__, project / "rrec_lib" / "core")
    monkeypatch.setattr(paths, "REPOSITORY", project.resolve())
    results._head.cache_clear()
    yield tmp_path
    results._head.cache_clear()


def test_an_archive_unpacked_in_another_repository_has_no_commit(outer):
    assert results.provenance()["commit"] is None


def test_an_archive_unpacked_over_another_repository_has_none_either(outer, monkeypatch):
    shutil.move(outer / "rrec" / "rrec_lib", outer / "rrec_lib")
    monkeypatch.setattr(paths, "REPOSITORY", outer.resolve())
    assert results.provenance()["commit"] is None


def test_a_checkout_names_its_own_commit_whatever_git_variables_say(outer, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(outer))
    own = outer / "rrec"
    with monkeypatch.context() as clean:
        clean.delenv("GIT_DIR")
        clean.delenv("GIT_WORK_TREE")
        git(own, "init", "-q")
        git(own, "add", ".")
        git(own, "commit", "-qm", "ours")
        head = git(own, "rev-parse", "--short", "HEAD").strip()
    assert results.provenance()["commit"] == head
    with (own / "rrec_lib" / "core" / "paths.py").open("a") as file:
        file.write("# changed since\n")
    assert results.provenance()["commit"] == head  # of the code that this process has loaded
    results._head.cache_clear()
    assert results.provenance()["commit"] == f"{head}-dirty"


def test_a_command_can_be_run_again_as_it_stands(tmp_path):
    package = tmp_path / "asks"
    package.mkdir()
    code = "from rrec_lib.core.results import provenance\nprint(provenance()['command'])\n"
    for name in ("__main__.py", "alone.py"):
        (package / name).write_text(code)
    path = os.pathsep.join([str(tmp_path), str(paths.REPOSITORY)])

    def said(*command):
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, *command], check=True, capture_output=True, text=True, env=environment
        ).stdout.strip()

    assert said("-m", "asks", "--x", "1") == "python -m asks --x 1"
    assert said(str(package / "alone.py"), str(tmp_path / "out")) == "alone.py out"
