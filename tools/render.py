"""Render the staged book to _build/html: ``python tools/render.py``. Warnings are errors."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from execute import ROOT, BuildError
from stage import stage

PACKAGES = ("jupyter-book", "myst-nb", "Sphinx", "sphinx-book-theme")


def tree_key(folder: Path) -> str:
    """Hash of a folder's files and of the packages that render them."""
    digest = hashlib.sha256(" ".join(f"{package} {version(package)}" for package in PACKAGES).encode())
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
    with tempfile.TemporaryDirectory(
        prefix="rrec-book-"
    ) as folder:  # Jupyter Book takes [ or ] in a path for a pattern
        plain = Path(folder, "src")
        shutil.copytree(source, plain)
        program = str(Path(sys.executable).with_name("jupyter-book"))
        command = [program, "build", str(plain), "--path-output", folder, "-n", "-W", "--keep-going", "--quiet"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        text = done.stdout.decode("utf-8", errors="replace").replace(str(plain), str(source))
        log.write_text(text, encoding="utf-8")
        if Path(folder, "_build", "html").exists():
            shutil.move(Path(folder, "_build", "html"), rendered)
    if done.returncode != 0 or not (rendered / "index.html").exists():
        print(text[-6000:], file=sys.stderr)
        raise BuildError(
            f"the book was not rendered: mend the warnings above (all of them: {log}); _build/html is as before"
        )
    swap(rendered, html, stamp, key)
    print(f"[book] rendered in {time.monotonic() - start:.0f} s: {html.relative_to(root)}/index.html")


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
    arguments = parser.parse_args()
    try:
        render(ROOT, arguments.profile, arguments.force)
    except BuildError as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
