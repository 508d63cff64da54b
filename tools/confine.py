"""Confine this process: writing in one folder only, no network, no other programs, limits of memory and time.

For mistakes and cheap tricks, in two layers. Python's audit hook says what was tried, everywhere, and could be got
round from C. Where the kernel has Landlock (Linux 5.13 or later), it refuses whatever the hook didn't see.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {  # audit events, and how many of their first arguments are paths
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1,
    "os.symlink": 2, "os.truncate": 1, "os.utime": 1,
}  # fmt: skip
REFUSED = {
    "network": ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"),
    "another program": (
        "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn",
    ),
    "a signal": ("os.kill", "os.killpg"),
}  # fmt: skip
NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
DIES_WITH_PARENT, NO_NEW_PRIVILEGES = 1, 38  # prctl


class Watch:
    """What the process tried and was refused, and whether its code is the reader's at the moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.refused: list[str] = []
        self._on = False
        sys.addaudithook(self._look)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Refuse in this block."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        for what, events in REFUSED.items():
            if event in events:
                self._refuse(f"{what} ({event})")
        paths = list(arguments[: PATHS.get(event, 0)])
        if event == "open" and arguments[2] & WRITING:
            paths = [arguments[0]]
        for path in paths:
            if isinstance(path, (str, bytes, os.PathLike)) and not self._allowed(os.fsdecode(path)):
                self._refuse(f"writing to {os.fsdecode(path)}, outside its own folder")

    def _allowed(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == os.devnull or os.path.commonpath([self.folder, real]) == self.folder

    def _refuse(self, what: str) -> None:
        if what not in self.refused:
            self.refused.append(what)
        raise PermissionError(f"refused here: {what}")


def limit(memory: int, seconds: int) -> None:
    """Hold this process to ``memory`` bytes of its own data, and to ``seconds`` of processor time."""
    wanted = [(resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, 2**28)]
    for kind, most in [*wanted, (resource.RLIMIT_CORE, 0)]:
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def confine(folder: Path) -> bool:
    """Let the kernel refuse what is not this process's business, as far as it can.

    Returns:
        Whether it refuses writing outside ``folder``.
    """
    if sys.platform != "linux":
        return False
    kernel = ctypes.CDLL(None, use_errno=True)
    kernel.prctl(DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    kernel.unshare(NEW_USER | NEW_NETWORK)  # a network without a way out, where users may make one
    version = kernel.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    files = sum(1 << bit for bit in (1, *range(4, 13), *([13] * (version > 1)), *([14] * (version > 2))))
    programs, connections, signals = 1, 3 * (version > 3), 2 * (version > 5)
    asked = (ctypes.c_uint64 * 3)(files | programs, connections, signals)
    rules = kernel.syscall(CREATE_RULESET, asked, 8 * (1 + (version > 3) + (version > 5)), 0)
    for path, rights in ((folder, files), (Path(os.devnull), 1 << 1)):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        beneath = rights.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        if kernel.syscall(ADD_RULE, rules, 1, beneath, 0):
            return False
        os.close(place)
    kernel.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return kernel.syscall(RESTRICT_SELF, rules, 0) == 0
