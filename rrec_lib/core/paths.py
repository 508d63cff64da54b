"""Where the project's own files and its caches are."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

_PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else None


def resource(relative: str) -> Path:
    """Path of a file or folder that the project ships.

    In a clone it lies in the repository; in an installed wheel, in ``rrec_lib/_bundled``.

    Args:
        relative: path from the repository's root, such as ``"notebooks/profiles"``.

    Returns:
        The existing path.

    Raises:
        FileNotFoundError: if neither place has it.
    """
    roots = [root for root in (REPOSITORY, _PACKAGE / "_bundled") if root is not None]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    tried = ", ".join(str(root / relative) for root in roots)
    raise FileNotFoundError(f"{relative} is missing (looked at {tried}); restore it with git or reinstall rrec-lib")


def cache_dir() -> Path:
    """Folder for derived files: ``$RREC_CACHE``, or ``rrec`` in the user's cache folder. Safe to delete.

    Raises:
        OSError: if there is no such folder and none can be made; the message says why and what to set.
    """
    path = _cache_path()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OSError(
            f"the cache folder {path} can't be made ({problem.strerror}); set RREC_CACHE to a folder that you may write"
        ) from problem
    return path


def _cache_path() -> Path:
    """An empty variable counts as unset; otherwise caches would land in the working directory."""
    if given := os.environ.get("RREC_CACHE"):
        return Path(os.path.expanduser(given))
    if os.path.isabs(shared := os.environ.get("XDG_CACHE_HOME", "")):  # its standard ignores relative ones
        return Path(shared) / "rrec"
    try:
        return Path.home() / ".cache" / "rrec"
    except RuntimeError as problem:  # a container's user id without a name
        raise OSError("this user has no home directory; set RREC_CACHE to a folder that you may write") from problem


def kept(folder: str | Path) -> Path:
    """A folder of the reader's that outlives the session, such as one on a mounted drive; made if need be.

    Raises:
        FileNotFoundError: if the folder it would lie in is not there. A drive that isn't mounted is not to be replaced
            by a folder of the same name, which would go with the session.
    """
    path = Path(folder).absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}, where {path.name} is to be kept, is missing: mount it or make it")
    path.mkdir(exist_ok=True)
    return path


class BusyError(OSError):
    """A folder that another process works in."""


class NoRoomError(OSError):
    """A full disk, and where."""


@contextmanager
def room_named(path: Path) -> Iterator[None]:
    """Turn a full disk into an ``OSError`` that names ``path``, whichever library finds it out."""
    try:
        yield
    except NoRoomError:
        raise
    except Exception as problem:
        if isinstance(problem, SafetensorError) or no_room(problem):
            raise NoRoomError(f"{path} can't be written ({problem}); make room there") from problem
        raise


def no_room(problem: Exception) -> bool:
    """Whether a disk or a quota is full, or a file too large for it; tokenizers says it with a bare ``Exception``."""
    names = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    return any(name in str(problem) for name in names)


@contextmanager
def replacing(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """A new file beside ``path`` to write to, which takes its place once the block ends well and is gone otherwise.

    Args:
        path: its folder is made if it is not there.
        suffix: of the new file's name, for writers that look at it.
    """
    path = path.resolve()  # a link stays, and what it points to is replaced
    with room_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        with room_named(path):
            yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``folder`` once the block ends well and is gone otherwise.

    What was there is moved aside first, and deleted last.
    """
    folder = folder.resolve()
    with room_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    new, old = staging / "new", staging / "old"
    try:
        new.mkdir()
        with room_named(folder):
            yield new
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        if old.exists() and not folder.exists():  # put back what was there, whatever came between
            os.replace(old, folder)
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep this machine's other processes from working in a folder while a block does; it is made if need be.

    Raises:
        BusyError: if another one works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Let the processes of this machine enter a block one after the other, as ``lock`` is free: a file or a folder."""
    with _locked(lock, fcntl.LOCK_EX):
        yield


@contextmanager
def in_use(folder: Path) -> Iterator[Callable[[], bool]]:
    """Share a folder with other processes of this machine; it is made if need be.

    Yields:
        A function that tells whether no other process is in such a block of the same folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock"), fcntl.LOCK_SH) as opened:  # who deletes the folder leaves it
        folder.mkdir(exist_ok=True)

        def alone() -> bool:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(opened, fcntl.LOCK_SH)  # trying for more has let go of it
                return False
            except OSError:  # of drives without locks
                pass
            return True

        yield alone


@contextmanager
def _locked(lock: Path, how: int) -> Iterator[int]:
    """Hold a lock on a file or a folder; without one on drives that have none, as those mounted from elsewhere may."""
    opened = os.open(lock, os.O_RDONLY if lock.is_dir() else os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(opened, how)
        except BlockingIOError as problem:
            raise BusyError(f"another process is at work in {lock}; let it end, or name another folder") from problem
        except OSError:
            pass
        yield opened
    finally:
        os.close(opened)
