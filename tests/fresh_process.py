"""Scripts in processes of their own, each forked from one that has the slow imports behind it.

To import torch, transformers, peft and trl takes seconds, which a test of something else needn't pay every time. The
same goes for notebooks' kernels.
"""

import atexit
import gc
import multiprocessing
import os
import pickle
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["rrec_lib.training.stages", "rrec_lib.recommend", "matplotlib.pyplot", "papermill", "ipykernel.kernelapp"]
)
ROOT = Path(__file__).parents[1]


def run_script(script: Path, *arguments: object, timeout: float = 600, **variables: str) -> CompletedProcess[str]:
    """Run a script with one thread; its exit status is negative where a signal ended it, as with :mod:`subprocess`.

    Args:
        script: what ``python`` would be given.
        arguments: of the script.
        timeout: in seconds.
        variables: of its environment, beside those of this process.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    return _run([str(script), *map(str, arguments)], os.getcwd(), environment, timeout)


def run_notebook(
    command: Sequence[str | Path], cwd: Path, env: Mapping[str, str], check: bool = False
) -> CompletedProcess[str]:
    """What :mod:`subprocess` does with ``python tools/run_notebook.py ...``; the kernel is forked, too."""
    done = _run(list(map(str, command[1:])), cwd, env, 600, kernel=True)
    print(done.stdout, done.stderr)
    return done


def _run(
    words: list[str], folder: str | Path, environment: Mapping[str, str], timeout: float, kernel: bool = False
) -> CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as name:
        texts = [Path(name) / stream for stream in ("out", "err")]
        process = SERVER.Process(target=_script, args=(words, str(folder), dict(environment), texts, kernel))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(words, timeout)  # else it would look as if the test had killed it
        return CompletedProcess(words, process.exitcode, *(text.read_text() for text in texts))


def _script(words: list[str], folder: str, environment: dict[str, str], texts: list[Path], kernel: bool) -> None:
    gc.freeze()
    for number, text in enumerate(texts, 1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT), number)
    own = [ROOT / name for name in ("tests", "tools")]  # pytest's additions, which no reader has
    sys.path[:] = [entry for entry in sys.path if not any(Path(entry).is_relative_to(place) for place in own)]
    _enter(folder, environment)
    if kernel:
        from jupyter_client.provisioning import local_provisioner as jupyter

        setattr(jupyter, "launch_kernel", ForkedKernel().launch)  # noqa: B010
    sys.argv, sys.path[:0] = words, [str(Path(words[0]).parent)]
    runpy.run_path(words[0], run_name="__main__")


def _enter(folder: str, environment: Mapping[str, str]) -> None:
    """Be in a folder, with these variables and what they say about imports."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))


class ForkedKernel:
    """A process that becomes a notebook's kernel when it is told to; for Jupyter a :class:`subprocess.Popen`.

    It is forked at once, as long as there are no threads and no event loop.
    """

    stdin = stdout = stderr = returncode = None

    def __init__(self) -> None:
        waiting, self.pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.pipe)
                with open(waiting, "rb") as pipe:
                    asked = pipe.read()
                code = _kernel(*pickle.loads(asked)) if asked else 0
            finally:
                os._exit(code)
        os.close(waiting)
        os.setpgid(self.pid, self.pid)  # Jupyter sends signals to the group

    def launch(self, command: list[str], env: dict[str, str], cwd: str | None = None, **options: Any) -> "ForkedKernel":
        """Take the place of ``jupyter_client.launch_kernel``."""
        parent = f"--IPKernelApp.parent_handle={os.getpid()}"  # it ends with its parent, as others do
        with open(self.pipe, "wb") as pipe:
            pickle.dump(([*command, parent], cwd or os.getcwd(), env), pipe)
        return self

    def poll(self) -> int | None:
        return self._status(os.WNOHANG)

    def wait(self) -> int | None:
        return self._status(0)

    def _status(self, options: int) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, options)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _kernel(command: list[str], folder: str, environment: Mapping[str, str]) -> int:
    """Do what ``python ... -m ipykernel_launcher ...`` does."""
    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _enter(folder, environment)
        sys.argv = command[command.index("-m") + 1 :]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
