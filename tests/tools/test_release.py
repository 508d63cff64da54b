"""A release has one version everywhere, and notes."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import release

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "rrec_lib").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    (tmp_path / "rrec_lib" / "__init__.py").write_text('"""X."""\n\n__version__ = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 1.2.0 (2026-05-04)\n\n- New.\n\n## 1.1.0 (2026-01-02)\n\n- Old.\n"
    )
    return tmp_path


def test_notes_are_the_versions_own_section(tree):
    assert release.notes("1.2.0", tree) == "- New.\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pyproject.toml", "1.2.0", "1.1.0", "pyproject.toml says 1.1.0"),
        ("CITATION.cff", "\nversion: 1.2.0", "\nversion: 1.1.0", "CITATION.cff says 1.1.0"),
        ("rrec_lib/__init__.py", "1.2.0", "1.2.0.dev0", "__init__.py says 1.2.0.dev0"),
        ("CHANGELOG.md", "(2026-05-04)", "(unreleased)", "no section '## 1.2.0"),
        ("CHANGELOG.md", "- New.\n", "", "no section '## 1.2.0"),
        ("CHANGELOG.md", "1.2.0", "1.2.0.1", "no section '## 1.2.0"),
    ],
)
def test_what_stands_in_the_way_is_named(tree, file, old, new, said):
    text = (tree / file).read_text()
    assert old in text
    (tree / file).write_text(text.replace(old, new))
    with pytest.raises(release.NotReadyError, match=said):
        release.notes("1.2.0", tree)


def test_the_projects_own_files_agree_and_another_version_is_refused():
    command = [sys.executable, str(ROOT / "tools" / "release.py")]
    now = subprocess.run([*command, VERSION], capture_output=True, text=True, check=False)
    assert now.stdout.startswith("The whole path") or "has no section" in now.stderr  # dated when it is released
    other = subprocess.run([*command, "9.9.9"], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert other.stderr.count(f"says {VERSION}") == 3
