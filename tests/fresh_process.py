"""Scripts in processes of their own, each forked from one that has the slow imports behind it.

To import torch, transformers, peft and trl takes seconds, which a test of something else needn't pay every time.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["rrec_lib.training.stages", "rrec_lib.recommend"])
ROOT = Path(__file__).parents[1]


def run_script(script: Path, *arguments: object, timeout: float = 600) -> CompletedProcess[str]:
    """Run a script with one thread; its exit status is negative where a signal ended it, as with :mod:`subprocess`."""
    words = [str(script), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        texts = [Path(folder) / name for name in ("out", "err")]
        process = SERVER.Process(target=_run, args=(words, dict(os.environ), os.getcwd(), *texts))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(words, timeout)  # else it would look as if the test had killed it
        return CompletedProcess(words, process.exitcode, *(text.read_text() for text in texts))


def _run(words: list[str], environment: dict[str, str], folder: str, *texts: Path) -> None:
    for number, text in enumerate(texts, 1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    os.chdir(folder)
    sys.argv, sys.path[:0] = words, [str(Path(words[0]).parent), str(ROOT)]
    runpy.run_path(words[0], run_name="__main__")
