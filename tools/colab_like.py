"""Run the notebooks as Colab would: ``python tools/colab_like.py`` (``make colab-like``).

_build/colab/venv gets what the book touches in the versions of tests/colab_packages.txt, on Colab's Python where this
machine has it, and keeps it until the list changes. In it the set-up cell runs as it stands in the notebooks, and then
the notebooks, their set-up cells included. ``google.colab`` is a stub, and a copy of the working tree answers for the
repository's address. Torch comes in the listed release, with the CUDA packages that its wheel asks for.
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
from datetime import date
from pathlib import Path

import execute
import setup_cell
from environments import ROOT, by_name, make, pip, project, steps
from install import MODEL_PACKAGE

LISTED = ROOT / "tests" / "colab_packages.txt"
HOME = ROOT / "_build" / "colab"
PYTHON, COPY = HOME / "venv" / "bin" / "python", HOME / "repository"
RUNS = {"smoke": [], "cpu": ["01", "06", "07"]}  # the notebooks of a profile; none named: all of them
STALE = 60  # days
KERNEL = ["ipykernel", "ipython", "pip", "setuptools"]
FOUND_THERE = [  # what transformers, peft and accelerate import where they find it
    "diffusers", "scikit-learn", "scipy", "sentencepiece", "tensorboard", "tiktoken", "torchao", "torchvision", "wandb",
]  # fmt: skip
RUNNER = "papermill>=2.6"  # Colab runs the cells itself
call = steps("colab-like", "beside Colab's versions; see tests/colab_packages.txt for them", cwd=HOME)
NEXT = """\
from rrec_lib.model.policy import load_policy
from rrec_lib.core.profiles import load_profile

load_policy(load_profile(profile).model)"""


def canonical(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(text: str) -> dict[str, str]:
    """Versions by name, without local parts such as ``+cu128``, and without what comes from an address."""
    pins = re.findall(r"^([\w.-]+)==([^+\s]+)", text, re.MULTILINE)
    return {canonical(name): version for name, version in pins}


def noted(text: str, what: str) -> str:
    """``Python`` or ``Date`` of the list, from its head."""
    return re.search(rf"^# {what}: (\S+)$", text, re.MULTILINE)[1]  # type: ignore[index]


def warning(text: str, today: date) -> str | None:
    """A sentence if the list is old."""
    days = (today - date.fromisoformat(noted(text, "Date"))).days
    if days <= STALE:
        return None
    return f"warning: {LISTED.name} is {days} days old; put Colab's newest list in its place, as its head says"


def constraints(pins: dict[str, str]) -> list[str]:
    """The list for ``pip -c``; the CUDA packages are left to torch's wheel, which is built for another CUDA there."""
    return [f"{name}=={version}" for name, version in pins.items() if not re.match("nvidia-|cuda-", name)]


def roots(root: Path = ROOT) -> list[str]:
    """What to install before the set-up cell: the library's dependencies that Colab has, the kernel, what is found."""
    needed = by_name(project(root)["dependencies"])
    return [name for name in needed if name not in setup_cell.PINNED] + KERNEL + FOUND_THERE


def differences(installed: dict[str, str], pins: dict[str, str]) -> list[str]:
    """Packages that are not in the listed version, as sentences."""
    allowed = dict(line.split("==") for line in constraints(pins))
    return [
        f"{name} {version}, listed {allowed[name]}"
        for name, version in sorted(installed.items())
        if name in allowed and version.partition("+")[0] != allowed[name]
    ]


def python_like(version: str) -> str:
    """A Python of that version: on the path or pyenv's; else the one that is running."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in [sys.executable, f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]:
        ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if shutil.which(python) and subprocess.run(ask, capture_output=True, text=True).stdout.strip() == version:
            return python
    print(f"[colab-like] no Python {version} here: this is Python {sys.version.split()[0]}, as near as it gets")
    return sys.executable


def build(text: str) -> None:
    """Colab's packages in _build/colab/venv, unless they are there, and nothing that the set-up cell installs."""
    pins, python = listed(text), python_like(noted(text, "Python"))
    key = hashlib.sha256(repr((text, roots(), RUNNER, python, str(HOME))).encode()).hexdigest()
    stamp, limits = HOME / "venv" / "installed", HOME / "constraints.txt"
    HOME.mkdir(parents=True, exist_ok=True)
    if not (stamp.is_file() and stamp.read_text() == key):
        limits.write_text("\n".join(constraints(pins)) + "\n", encoding="utf-8")
        make(call, HOME / "venv", ["-c", limits, *roots(), RUNNER], base=python)
        stamp.write_text(key)
    call(*pip(PYTHON, "uninstall", "-qq", "-y", "rrec-lib", *setup_cell.PINNED, MODEL_PACKAGE.partition("==")[0]))
    call(*pip(PYTHON, "install", "-qq", "--no-deps", f"torchao=={pins['torchao']}"))  # the set-up cell removes it


def check(pins: dict[str, str], when: str) -> None:
    """End here if a package is not as listed."""
    ask = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    said = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout
    installed = {canonical(name): version for name, version in json.loads(said).items()}
    if differing := differences(installed, pins):
        sys.exit(f"error: {when}, these are not Colab's versions: {'; '.join(differing)}")
    print(f"[colab-like] {when}: {sum(name in pins for name in installed)} packages as listed", flush=True)


def copy_repository() -> None:
    """The working tree, uncommitted changes included, as a repository of one commit."""
    shutil.rmtree(COPY, ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in files.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():  # not one that was deleted
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    git = ["git", "-c", "user.name=colab-like", "-c", "user.email=colab-like@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "The working tree"]):
        subprocess.run([*git, *words], cwd=COPY, check=True)


def as_in_colab() -> dict[str, str]:
    """The environment of a session: ``google.colab`` in its kernels, and the copy behind the repository's address."""
    startup = HOME / "ipython" / "profile_default" / "startup" / "colab.py"
    stub = HOME / "stub" / "google" / "colab" / "__init__.py"
    imports = f"import sys\n\nsys.path.append({str(stub.parents[2])!r})\nimport google.colab\n"
    for file, text in ((stub, ""), (startup, imports)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    rule = {f"url.{COPY.as_uri()}.insteadOf": setup_cell.repository()}
    first = int(os.environ.get("GIT_CONFIG_COUNT", 0))
    variables = {"IPYTHONDIR": str(startup.parents[2]), "GIT_CONFIG_COUNT": str(first + len(rule))}
    for number, (name, value) in enumerate(rule.items(), first):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def set_up(session: dict[str, str]) -> None:
    """Run the notebooks' set-up cell where nothing is installed yet and, in the same kernel, load a policy."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((COPY / "notebooks").glob("*.ipynb"))]
    heads = [[c for c in n["cells"] if {"setup", "parameters"} & set(c["metadata"].get("tags", []))] for n in notebooks]
    if any([cell["source"] for cell in head] != [cell["source"] for cell in heads[0]] for head in heads):
        sys.exit("error: the set-up cells differ: run `python tools/setup_cell.py`")
    follows = {**heads[0][0], "id": "next", "metadata": {}, "source": NEXT}
    book, report = HOME / "set_up.ipynb", HOME / "set_up.json"
    setup_cell.write_json(book, {**notebooks[0], "cells": [*heads[0], follows]})
    with tempfile.TemporaryDirectory(prefix="rrec-") as sockets:
        env = {**execute.kernel_environment("smoke", HOME, sockets), **session}
        call(PYTHON, execute.RUNNER, book, HOME / "set_up_run.ipynb", "smoke", report, env=env)
    if error := json.loads(report.read_text(encoding="utf-8"))["error"]:
        sys.exit(f"error: the set-up cell, or the first lines after it: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=RUNS, help="the notebooks of this profile alone")
    only = parser.parse_args().only
    text = LISTED.read_text(encoding="utf-8")
    if late := warning(text, date.today()):
        print(late, flush=True)
    build(text)
    check(listed(text), "before the set-up cell")
    copy_repository()
    session = as_in_colab()
    set_up(session)
    check(listed(text), "after it")
    for profile in [only] if only else RUNS:
        runs = [COPY / "tools" / "execute.py", *RUNS[profile], "--profile", profile]
        call(PYTHON, *runs, env={**os.environ, **session}, cwd=COPY)
    check(listed(text), "after the notebooks")
    print(f"[colab-like] the notebooks run beside Colab's versions of {noted(text, 'Date')}")


if __name__ == "__main__":
    main()
