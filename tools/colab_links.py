"""Write the repository's address everywhere it stands: ``python tools/colab_links.py https://github.com/owner/name``."""

import os
import re
import sys
from pathlib import Path

from setup_cell import ROOT, repository

PATTERNS = (
    "pyproject.toml", "_config.yml", "CITATION.cff", "*.md", "book/**/*.md", "notebooks/*.ipynb",
)  # fmt: skip
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9][A-Za-z0-9-]{0,38})/([A-Za-z0-9._-]{1,100}?)(?:\.git)?/?")


def slug_of(url: str) -> str:
    """``owner/name`` of a repository's address.

    Raises:
        ValueError: if ``url`` is not the address of a GitHub repository (Colab opens no others).
    """
    match = ADDRESS.fullmatch(url.strip())
    if not match or match[2] in (".", ".."):
        raise ValueError(
            f"not a GitHub repository: {url!r}; write `make colab-links URL=https://github.com/owner/name`"
        )
    return f"{match[1]}/{match[2]}"


def rewrite(text: str, old: str, new: str) -> str:
    """Replace the repository ``old`` by ``new`` in GitHub and Colab addresses."""
    return re.sub(rf"(github\.com/|/github/){re.escape(old)}(?![A-Za-z0-9_-]|\.(?!git\b)\w)", rf"\g<1>{new}", text)


def relink(url: str, root: Path = ROOT) -> list[Path]:
    """Rewrite the files of ``root``; all of them, or none if one can't be written.

    Returns:
        The files that changed.
    """
    new, old = slug_of(url), slug_of(repository(root))
    changes = {}
    for path in sorted({path for pattern in PATTERNS for path in root.glob(pattern)}):
        before = path.read_text(encoding="utf-8")
        after = rewrite(before, old, new)
        if after != before:
            changes[path] = after
    drafts = {path: path.with_name(path.name + ".tmp") for path in changes}
    try:
        for path, draft in drafts.items():
            draft.write_text(changes[path], encoding="utf-8")
    except OSError:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise
    for path, draft in drafts.items():
        os.replace(draft, path)
    return list(changes)


def main() -> None:
    try:
        changed = relink(sys.argv[1] if len(sys.argv) > 1 else "")
    except (ValueError, OSError) as problem:
        sys.exit(f"error: {problem}")
    print(f"{repository()}: {len(changed)} files changed")
    for path in changed:
        print(f"  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
