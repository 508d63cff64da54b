"""Print the notes of a release that is ready: ``python tools/release.py 0.1.0``. Needs no package."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class NotReadyError(Exception):
    """What stands in the way of a release; the message says what to write where."""


def notes(version: str, root: Path = ROOT) -> str:
    """The changelog's section on a version.

    Raises:
        NotReadyError: if the files don't agree on the version, or the section is missing, undated or empty.
    """
    declared = {
        "pyproject.toml": tomllib.loads(_read(root / "pyproject.toml"))["project"]["version"],
        "CITATION.cff": _find(r"^version: (\S+)", _read(root / "CITATION.cff")),
        "rrec_lib/__init__.py": _find(r'^__version__ = "(.+)"', _read(root / "rrec_lib" / "__init__.py")),
    }
    wrong = [f"{file} says {said}" for file, said in declared.items() if said != version]
    if wrong:
        raise NotReadyError(f"{version} is to be released, but {', '.join(wrong)}")
    heading = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)\n"
    section = _find(rf"{heading}(.*?)(?=^## |\Z)", _read(root / "CHANGELOG.md"), re.DOTALL)
    if not section or not section.strip():
        raise NotReadyError(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)' that says what changed")
    return section.strip() + "\n"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _find(pattern: str, text: str, flags: int = 0) -> str | None:
    found = re.search(pattern, text, re.MULTILINE | flags)
    return found[1] if found else None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/release.py VERSION")
    try:
        print(notes(sys.argv[1]), end="")
    except NotReadyError as problem:
        sys.exit(f"error: {problem}")
