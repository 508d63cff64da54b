"""What a confined process may not do, and what it may."""

import subprocess
import sys
from pathlib import Path

import confine
import pytest

TOOLS = Path(confine.__file__).parent
PROGRAM = """
import ctypes, os, socket, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tools!r})
import confine
folder, outside = Path({folder!r}), {outside!r}
os.chdir(folder)
confine.limit(2**30, 20)
kernel = confine.confine(folder) if {kernel} else None
watch = confine.Watch(folder)
with watch.on():
    try:
        {code}
    except (OSError, MemoryError) as problem:
        print(type(problem).__name__, problem)
    else:
        print("done")
print(kernel, watch.refused)
"""


@pytest.fixture
def confined(tmp_path):
    """Run a line of code in a confined process; its output. ``outside`` is a file that it may not write."""
    (tmp_path / "own").mkdir()
    (tmp_path / "outside").write_text("before")

    def run(code: str, kernel: bool = False) -> str:
        places = {"tools": str(TOOLS), "folder": str(tmp_path / "own"), "outside": str(tmp_path / "outside")}
        program = PROGRAM.format(code=code, kernel=kernel, **places)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert (tmp_path / "outside").read_text() == "before"
        return done.stdout + done.stderr[-300:]

    return run


@pytest.mark.parametrize(
    "code",
    [
        "open('file', 'w').write('x')",
        "os.mkdir('sub'); open('sub/file', 'wb').close(); os.rename('sub/file', 'file'); os.remove('file')",
        "open(os.devnull, 'w').write('x')",
        "open(outside).read()",
    ],
)
@pytest.mark.parametrize("kernel", [False, True])
def test_what_stays_in_its_folder_is_allowed(confined, code, kernel):
    assert confined(code, kernel).startswith("done")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open(outside, 'w')", "outside its own folder"),
        ("open(outside, 'r+')", "outside its own folder"),
        ("open('../other', 'x')", "outside its own folder"),
        ("os.symlink(outside, 'link'); open('link', 'w')", "outside its own folder"),
        ("os.remove(outside)", "outside its own folder"),
        ("os.rename('../outside', 'mine')", "outside its own folder"),
        ("Path(outside).write_text('x')", "outside its own folder"),
        ("os.truncate(outside, 0)", "outside its own folder"),
        ("socket.create_connection(('127.0.0.1', 9))", "network"),
        ("socket.getaddrinfo('example.org', 80)", "network"),
        ("subprocess.run(['true'])", "another program"),
        ("os.system('true')", "another program"),
        ("os.fork()", "another program"),
        ("os.kill(os.getppid(), 0)", "a signal"),
    ],
)
def test_what_is_tried_outside_is_refused_and_said(confined, code, said):
    told = confined(code)
    assert told.startswith("PermissionError refused here")
    assert said in told.splitlines()[-1]


def test_memory_has_a_limit(confined):
    assert confined("bytearray(2**31)").startswith("MemoryError")
    assert confined("bytearray(2**28)").startswith("done")


LIBC = "libc = ctypes.CDLL(None, use_errno=True); "
PAST_PYTHON = {
    "a file": LIBC + "assert libc.open(outside.encode(), os.O_WRONLY) < 0",
    "a new file": LIBC + "assert libc.open((outside + '2').encode(), os.O_CREAT | os.O_WRONLY, 0o600) < 0",
    "a removed file": LIBC + "assert libc.unlink(outside.encode()) < 0",
    "a program": LIBC + "assert libc.execv(b'/bin/true', None) < 0",
}


@pytest.mark.parametrize("what", PAST_PYTHON)
def test_the_kernel_refuses_what_python_does_not_see(confined, what):
    told = confined(PAST_PYTHON[what], kernel=True)
    if told.splitlines()[-1].startswith("False"):
        pytest.skip("this kernel has no Landlock")
    assert told.startswith("done"), told


def test_without_the_kernel_that_would_have_gone_through(confined):
    """Control of the test above."""
    assert "AssertionError" in confined(LIBC + "assert libc.open(outside.encode(), os.O_WRONLY) < 0")
