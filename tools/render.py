"""Render the staged book to _build/html: ``python tools/render.py``. Warnings are errors.

With ``--links`` it renders nothing and asks other hosts whether the links to them still lead somewhere.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from execute import ROOT, BuildError
from stage import stage

PACKAGES = ("jupyter-book", "myst-nb", "Sphinx", "sphinx-book-theme")
MENDED = (  # what axe-core finds in the pages that these packages make (tests/browser/test_accessible.py)
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),  # its text says more
    (r'(<a class="[^"]*reference internal"[^>]*>([^<"]*)</a><details[^>]*>)<summary>', r'\1<summary aria-label="\2">'),
    (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),  # its text says more
    (r'(<i class="theme-switch[^>]*?) +title="[^"]*"', r"\1"),  # the button has a name
    (r' role="(?:list|doc-biblioentry)"', ""),  # the one may not hold the other
)


def tree_key(folder: Path) -> str:
    """Hash of a folder's files and of the packages that render them."""
    digest = hashlib.sha256(" ".join(f"{package} {version(package)}" for package in PACKAGES).encode())
    digest.update(str(MENDED).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"\n{path.relative_to(folder)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def render(root: Path = ROOT, profile: str = "cpu", force: bool = False) -> None:
    """Stage and render; _build/html is replaced only by a rendering without a warning.

    Raises:
        BuildError: if staging or rendering fails.
    """
    build = root / "_build"
    source, html, stamp = build / "src", build / "html", build / "html.key"
    stage(root, source, profile)
    key = tree_key(source)
    if html.exists() and stamp.exists() and stamp.read_text() == key and not force:
        print(f"[book] unchanged: {html.relative_to(root)}/index.html")
        return
    start = time.monotonic()
    print("[book] rendering ...", flush=True)
    work = build / "render"
    shutil.rmtree(work, ignore_errors=True)  # a warning of an earlier run must not hide in a cached page
    work.mkdir()
    log, rendered = work / "log.txt", work / "html"
    with jupyter_book(source, "-n", "-W", "--keep-going") as (failed, text, made):
        log.write_text(text, encoding="utf-8")
        if made.exists():
            shutil.move(made, rendered)
    if failed or not (rendered / "index.html").exists():
        print(text[-6000:], file=sys.stderr)
        raise BuildError(
            f"the book was not rendered: mend the warnings above (all of them: {log}); _build/html is as before"
        )
    mend(rendered)
    swap(rendered, html, stamp, key)
    print(f"[book] rendered in {time.monotonic() - start:.0f} s: {html.relative_to(root)}/index.html")


def mend(pages: Path) -> None:
    """Put right in rendered pages what keeps readers with a screen reader from them."""
    for path in pages.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for pattern, replacement in MENDED:
            text = re.sub(pattern, replacement, text)
        path.write_text(text, encoding="utf-8")


@contextmanager
def jupyter_book(source: Path, *options: str) -> Iterator[tuple[bool, str, Path]]:
    """Run Jupyter Book on a copy of the staged book.

    Returns:
        Whether it failed, what it printed, and the folder that it wrote, which is gone after the block.
    """
    with tempfile.TemporaryDirectory(prefix="rrec-book-") as folder:  # it takes [ or ] in a path for a pattern
        plain = Path(folder, "src")
        shutil.copytree(source, plain)
        program = str(Path(sys.executable).with_name("jupyter-book"))
        command = [program, "build", str(plain), "--path-output", folder, "--quiet", *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        text = done.stdout.decode("utf-8", errors="replace").replace(str(plain), str(source))
        yield done.returncode != 0, text, Path(folder, "_build", "html")


def check_links(root: Path = ROOT, profile: str = "cpu") -> None:
    """Ask the hosts of the book's external links for each of them.

    Raises:
        BuildError: if one leads nowhere, or nothing could be asked.
    """
    source = root / "_build" / "links"
    stage(root, source, profile)
    print("[book] asking other hosts ...", flush=True)
    with jupyter_book(source, "--builder", "linkcheck") as (_, text, made):
        if not (made / "output.json").is_file():
            raise BuildError(f"no link could be asked for:\n{text[-2000:]}")
        lines = [json.loads(line) for line in (made / "output.json").read_text(encoding="utf-8").splitlines()]
    broken = [
        f"{line['filename']}:{line['lineno']}: {line['uri']} ({line['info'][:80]})"
        for line in lines
        if line["status"] == "broken"
    ]
    if broken:
        raise BuildError("\n".join([f"{len(broken)} of {len(lines)} links lead nowhere:", *broken]))
    print(f"[book] {sum(line['status'] in ('working', 'redirected') for line in lines)} of {len(lines)} links answer")


def swap(new: Path, current: Path, stamp: Path, key: str) -> None:
    """Put ``new`` in the place of ``current``, which is gone for no longer than two renames take."""
    old = current.with_name(current.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    if current.exists():
        os.replace(current, old)
    os.replace(new, current)
    stamp.write_text(key)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="cpu", help="whose executed notebooks to render (default: cpu)")
    parser.add_argument("--force", action="store_true", help="render even if nothing changed")
    parser.add_argument("--links", action="store_true", help="ask other hosts for the book's links instead")
    arguments = parser.parse_args()
    try:
        if arguments.links:
            check_links(ROOT, arguments.profile)
        else:
            render(ROOT, arguments.profile, arguments.force)
    except BuildError as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
