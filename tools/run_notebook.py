"""Run one notebook with papermill and say what it took: ``python tools/run_notebook.py SOURCE OUTPUT PROFILE REPORT``.

A process of its own, so that the peak memory it reads off belongs to this notebook's kernel alone.
"""

import json
import resource
import sys
import time
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config


def run(source: str, output: str, profile: str) -> dict[str, object]:
    """Execute ``source`` into ``output``.

    Returns:
        ``seconds``, the kernel's ``cpu_seconds`` and ``peak_mb`` (resident memory), and ``error``: ``None``, or a
        sentence naming the cell and what it raised.
    """
    start = time.monotonic()
    error = None
    try:
        papermill.execute_notebook(
            source,
            output,
            parameters={"profile": profile},
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
            config=Config({"KernelManager": {"transport": "ipc"}}),  # no ports: nothing to collide or to listen in
        )
    except PapermillExecutionError as problem:
        first = next((line.strip() for line in problem.source.splitlines() if line.strip()), "")
        error = f"code cell {problem.exec_count} ({first!r}) raised {problem.ename}: {problem.evalue}"
    except Exception as problem:  # a kernel that was killed, a notebook that is not JSON
        error = f"{type(problem).__name__}: {problem}"
    kernel = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return {
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(kernel.ru_utime + kernel.ru_stime, 1),
        "peak_mb": round(kernel.ru_maxrss * unit / 1e6),
        "error": error,
    }


if __name__ == "__main__":
    source_path, output_path, profile_name, report_path = sys.argv[1:]
    report = run(source_path, output_path, profile_name)
    Path(report_path).write_text(json.dumps(report), encoding="utf-8")
