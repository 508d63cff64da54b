"""Run the notebooks on a profile into _build/executed/PROFILE, skipping those for which nothing changed."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "accelerate", "datasets", "matplotlib", "numpy", "pandas", "peft", "polars", "pyarrow", "torch", "transformers",
    "trl",
)  # fmt: skip
RUNNER = Path(__file__).with_name("run_notebook.py")
UNREAD = ("cli/", *(f"experiments/{name}.py" for name in ("gpu_run", "model_parts", "tables")))
OFFLINE = {"smoke", "cpu"}  # profiles whose model and data ship with the project
ROOM = 12  # GiB that two notebooks at a time ask for: the largest pair takes 8


class BuildError(Exception):
    """Something the reader can put right; the message says how."""


def notebook_names(root: Path = ROOT) -> list[str]:
    """Names of the book's notebooks, without ``.ipynb``, in reading order."""
    return sorted(path.stem for path in (root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def profile_names(root: Path = ROOT) -> list[str]:
    """Names of the profiles in ``notebooks/profiles``."""
    return sorted(path.stem for path in (root / "notebooks" / "profiles").glob("*.yaml"))


def select(names: list[str], root: Path = ROOT) -> list[str]:
    """Full names for what the reader typed (``06``, ``06_gpu_training`` or a path); all of them for nothing."""
    every = notebook_names(root)
    chosen = []
    for name in names:
        found = [full for full in every if Path(name).stem in (full, full[:2])]
        if not found:
            raise BuildError(f"no notebook {name!r}; choose from {', '.join(every)}")
        chosen += found
    return chosen or every


def inputs(name: str, profile: str, root: Path = ROOT) -> list[Path]:
    """Every file on which the output of a notebook depends."""
    own = f"nb{name[:2]}.py"
    library = [
        path
        for path in (root / "rrec_lib").rglob("*.py")
        if not (path.name.startswith("nb") and path.name != own)
        and not path.relative_to(root / "rrec_lib").as_posix().startswith(UNREAD)
    ]
    library += root.glob("*.py")  # RecPO in one file
    quizzes = root / "rrec_lib" / "exercises" / "quizzes"
    told = [path for path in (root / "rrec_lib").rglob("*.*") if path.suffix in (".json", ".yaml")]
    library += [path for path in told if path.parent != quizzes or path.stem == name[:2]]
    shipped = [path for folder in ("data", "results") for path in (root / folder).rglob("*") if path.is_file()]
    # Of runs elsewhere, or not finished; no notebook reads them.
    unread = tuple(root / "results" / name for name in ("times.json", "gpu", "stages"))
    shipped = [path for path in shipped if not any(path.is_relative_to(other) for other in unread)]
    notebook = root / "notebooks" / f"{name}.ipynb"
    return [notebook, root / "notebooks" / "profiles" / f"{profile}.yaml", *sorted(library), *sorted(shipped)]


def key_of(name: str, profile: str, root: Path = ROOT) -> str:
    """Hash of a notebook's inputs, of what runs it, and of the main packages' versions."""
    versions = [platform.python_version(), *(f"{package} {version(package)}" for package in PACKAGES)]
    digest = hashlib.sha256("\n".join(versions).encode())
    for tool in (Path(__file__), RUNNER):
        digest.update(tool.read_bytes())
    for path in inputs(name, profile, root):
        digest.update(f"\n{path.relative_to(root)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def cores_and_memory() -> tuple[int, float]:
    """Cores that this process may use, and the machine's memory in GiB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def jobs_here(profile: str) -> int:
    """How many notebooks to run at a time: two where there is room for them and no GPU to share.

    A core each is faster than two cores for one: of a model this small, a second thread saves less than half.
    """
    cores, memory = cores_and_memory()
    return 2 if profile in OFFLINE and cores >= 2 and memory >= ROOM else 1


def device() -> str:
    """The machine in words: cores, memory, what slows it down, and the GPU if there is one."""
    cores, memory = cores_and_memory()
    words = f"{cores} cores, {memory:.0f} GiB memory"
    processor = Path("/proc/cpuinfo")
    if processor.exists() and "_bf16" not in processor.read_text(encoding="utf-8"):
        words += ", no bfloat16 in hardware"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
        words += f", {names[0].strip()}" if names[0].strip() else ""
    return words


def execute(name: str, profile: str, out: Path, results: Path, root: Path = ROOT, jobs: int = 1) -> dict[str, Any]:
    """Run one notebook; its previous output stays in place unless this run ends well.

    Args:
        name: a name from :func:`notebook_names`.
        profile: a name from :func:`profile_names`.
        out: folder for the executed notebook and, beside it, its key and figures.
        results: folder that the notebook's own records go to.
        jobs: how many notebooks run at a time; each has its share of the cores.

    Returns:
        ``key``, ``seconds``, ``peak_mb`` and ``device``.

    Raises:
        BuildError: naming the notebook, the cell, the error and where the partial notebook lies.
    """
    work = out / "running" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    results.mkdir(parents=True, exist_ok=True)
    key = key_of(name, profile, root)  # before the run: a file edited meanwhile must cause another
    source, partial, report = root / "notebooks" / f"{name}.ipynb", work / f"{name}.ipynb", work / "report.json"
    command: list[str | Path] = [sys.executable, RUNNER, source, partial, profile, report]
    with tempfile.TemporaryDirectory(prefix="rrec-") as sockets:
        from ipykernel.kernelspec import write_kernel_spec  # here: Colab's runs begin without it

        write_kernel_spec(Path(sockets) / "kernels" / "python3")  # this environment's, before any other of that name
        subprocess.run(command, cwd=work, env=kernel_environment(profile, results, sockets, jobs), check=False)
    figures = {"error": "its process was killed"}
    if report.exists():
        figures = json.loads(report.read_text(encoding="utf-8"))
    error = figures.pop("error")
    if error:
        killed = any(sign in error for sign in ("was killed", "DeadKernel"))
        alone = "; with JOBS=1 one notebook runs at a time" if jobs > 1 else ""
        raise BuildError(
            f"{source.relative_to(root)} on profile {profile}: {error}\n"
            + (f"  Perhaps for want of memory{alone}.\n" if killed else "")
            + f"  As far as it ran, with the traceback: {partial}\n"
            f"  Mend it and run the same command again; earlier outputs are untouched."
        )
    shared = f", {jobs} notebooks at a time" if jobs > 1 else ""
    record = {"key": key, **figures, "device": device() + shared}
    os.replace(partial, out / f"{name}.ipynb")
    report.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(report, out / f"{name}.json")
    shutil.rmtree(work)
    return record


def kernel_environment(profile: str, results: Path, sockets: str, jobs: int = 1) -> dict[str, str]:
    """Environment variables of a notebook's process."""
    variables = {
        **({"OMP_NUM_THREADS": str(max(cores_and_memory()[0] // jobs, 1))} if jobs > 1 else {}),
        **os.environ,
        "RREC_RESULTS_DIR": str(results),
        "RREC_PROGRESS": "off",  # pages show results, not bars
        "TOKENIZERS_PARALLELISM": "false",
        "JUPYTER_RUNTIME_DIR": sockets,  # a short path: socket names have a limit
        "JUPYTER_PLATFORM_DIRS": "1",  # else Jupyter warns
        "JUPYTER_PATH": sockets,  # where this environment's kernel is written to; the reader's own have no place
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, for want of widgets, which a page could not show
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if profile in OFFLINE:
        variables |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return variables


def read_record(name: str, out: Path) -> dict[str, Any] | None:
    """What the last good run of a notebook left beside its output, or ``None``."""
    path = out / f"{name}.json"
    if not (path.exists() and (out / f"{name}.ipynb").exists()):
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def execute_all(
    names: Iterable[str], profile: str, force: bool = False, root: Path = ROOT, jobs: int | None = None
) -> None:
    """Run notebooks into ``_build/executed/PROFILE``, printing progress; begin no other once one has failed.

    Args:
        names: full names, from :func:`select`.
        profile: a name from :func:`profile_names`.
        force: run even what has not changed.
        root: the project's folder.
        jobs: how many run at a time; :func:`jobs_here` if None.
    """
    if profile not in profile_names(root):
        raise BuildError(f"unknown profile {profile!r}; choose PROFILE={', '.join(profile_names(root))}")
    names, jobs = list(names), jobs or jobs_here(profile)
    out, results = root / "_build" / "executed" / profile, root / "_build" / "results" / profile
    start = time.monotonic()

    def bring_up_to_date(number: int, name: str) -> None:
        head = f"[{profile} {number}/{len(names)}] {name}"
        record = read_record(name, out)
        if record and not force and record["key"] == key_of(name, profile, root):
            print(f"{head}: unchanged", flush=True)
            return
        print(f"{head}: running ...", flush=True)
        record = execute(name, profile, out, results, root, jobs)
        print(f"{head}: {record['seconds']:.0f} s, at most {record['peak_mb']} MB", flush=True)

    waiting = iter(enumerate(names, 1))
    with ThreadPoolExecutor(jobs) as pool:  # each thread waits for a process
        running = {pool.submit(bring_up_to_date, *one) for one in islice(waiting, jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            if running and any(one.exception() for one in done):
                print(f"[{profile}] one has failed; what still runs may end, and is kept", flush=True)
            for one in done:
                one.result()
            running |= {pool.submit(bring_up_to_date, *one) for one in islice(waiting, len(done))}
    write_times(profile, root)
    print(
        f"[{profile}] {len(names)} notebooks in {time.monotonic() - start:.0f} s: {out.relative_to(root)}", flush=True
    )


def measured_times(profile: str, root: Path = ROOT) -> dict[str, Any]:
    """Seconds and peak memory of each notebook that was run here: ``{"device": ..., "notebooks": {name: ...}}``."""
    out = root / "_build" / "executed" / profile
    records = {name: record for name in notebook_names(root) if (record := read_record(name, out))}
    times = {name: {key: record[key] for key in ("seconds", "peak_mb")} for name, record in records.items()}
    return {"device": "; ".join(sorted({record["device"] for record in records.values()})), "notebooks": times}


def by_row(times: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The rows of a table of times: a chapter each, and the notebooks of exercises in one."""
    rows = {name: figures for name, figures in times.items() if not name.endswith("_exercises")}
    rest = [figures for name, figures in times.items() if name not in rows]
    if rest:
        seconds, peak = sum(figures["seconds"] for figures in rest), max(figures["peak_mb"] for figures in rest)
        rows[f"exercises and quizzes, {len(rest)} notebooks"] = {"seconds": seconds, "peak_mb": peak}
    return rows


def write_times(profile: str, root: Path = ROOT) -> None:
    """Write ``_build/executed/PROFILE/times.json``."""
    path = root / "_build" / "executed" / profile / "times.json"
    path.write_text(json.dumps(measured_times(profile, root), indent=1) + "\n", encoding="utf-8")


def record_times(profile: str, root: Path = ROOT) -> None:
    """Keep this machine's times of a profile in ``results/times.json``, for readers who have not run it."""
    times = measured_times(profile, root)
    missing = [name for name in notebook_names(root) if name not in times["notebooks"]]
    if missing:
        raise BuildError(f"not run on {profile} yet: {', '.join(missing)}; run `make notebooks PROFILE={profile}`")
    path = root / "results" / "times.json"
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**recorded, profile: times}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote the times of {profile} to {path.relative_to(root)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks to run, such as 06 or 06_gpu_training (default: all)")
    parser.add_argument("--profile", default="cpu", help="a file of notebooks/profiles (default: cpu)")
    parser.add_argument("--force", action="store_true", help="run even what has not changed")
    parser.add_argument("--jobs", type=int, help="notebooks at a time (default: 2 where there is room, else 1)")
    parser.add_argument("--record", action="store_true", help="run nothing; copy the last times to results/times.json")
    arguments = parser.parse_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error("--jobs has to be at least 1")
    try:
        if arguments.record:
            record_times(arguments.profile)
        else:
            execute_all(select(arguments.names), arguments.profile, arguments.force, jobs=arguments.jobs)
    except BuildError as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; run the same command again, finished notebooks are kept")


if __name__ == "__main__":
    main()
