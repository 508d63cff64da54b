"""What a GPU is asked once it is at hand: tests, notebooks, benchmarks, a reference run; each leaves a record.

A stage's record is OUT/DEVICE/STAGE.json; what it printed, and what it goes on from, is in WORK/DEVICE. Called again,
killed or out of time, a run goes on with what has no record of a good end.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rrec_lib.core.paths import REPOSITORY, cache_dir
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import describe_device, plain, provenance, write_json

ROOT = REPOSITORY or Path()
NOTEBOOKS = ("01", "06", "07")
BENCHMARKS = ("rollouts", "recpo_step", "item_encoding")
HOURS = 0.04  # of training, of each arm of the reference run
RESULTS = "results"  # what notebooks record, below the folder for all else
Variables = Callable[[Path, str], dict[str, str]]
TAIL = 15  # lines of a failed stage's output that its record keeps


class StageError(Exception):
    """Why a stage has no figures."""


@dataclass(frozen=True)
class Stage:
    """A command and how its figures are read.

    Attributes:
        name: of its record.
        command: what runs, behind the Python that runs this script.
        figures: reads what the command has left; raises :class:`StageError` where it failed although it ended well.
    """

    name: str
    command: list[str]
    figures: Callable[[], dict[str, Any]]


def stages(profile: str, work: Path, out: Path) -> list[Stage]:
    """All stages in their order: what is short and says most comes first."""
    quick = ["--quick"] if profile == "smoke" else []
    return [
        gpu_tests(work),
        *(benchmark(name, quick, work) for name in BENCHMARKS),
        *(notebook(number, profile, work) for number in NOTEBOOKS),
        reference(profile, work, out),
    ]


def gpu_tests(work: Path) -> Stage:
    report = work / "tests.xml"
    command = ["-m", "pytest", "-m", "gpu", "tests", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]

    def figures() -> dict[str, Any]:
        cases = list(ElementTree.parse(report).iter("testcase"))
        skipped = {case.get("name", ""): s.get("message", "") for case in cases for s in case.findall("skipped")}
        if torch.cuda.is_available() and len(skipped) == len(cases):
            raise StageError(f"all {len(cases)} tests were skipped although there is a GPU; {report} says why")
        return {"passed": len(cases) - len(skipped), "skipped": skipped}

    return Stage("tests", command, figures)


def benchmark(name: str, quick: list[str], work: Path) -> Stage:
    result = work / f"{name}.json"

    def figures() -> dict[str, Any]:
        measured = read_json(result)
        return {key: measured[key] for key in ("ratio", "spread", "rounds")} | measured["figures"]

    return Stage(f"benchmark-{name}", [f"benchmarks/{name}.py", *quick, "--out", str(result)], figures)


def notebook(number: str, profile: str, work: Path) -> Stage:
    """A notebook, executed as ``make notebooks`` does."""
    source = next((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    folder, results = work / "notebooks", work / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{source.stem}.json"

    def figures() -> dict[str, Any]:
        process = read_json(report)
        if error := process.pop("error"):
            raise StageError(error)
        return {"process": process, "notebook": read_json(results / f"{source.stem}.json")["figures"]}

    command = ["tools/run_notebook.py", str(source), str(folder / source.name), profile, str(report)]
    return Stage(f"notebook-{number}", command, figures)


def reference(profile: str, work: Path, out: Path) -> Stage:
    """SmolLM2 with and without reasoning, one seed, minutes of training; it goes on from its own checkpoints."""
    reports = out / "reference"
    command = ["scripts/reference_run.py", "--profile", profile, "--seeds", "0"]
    command += ["--runs", str(work / "reference"), "--out", str(reports)]
    tiny = ["--hours", "0.0005", "--every", "2", "2", "--rows", "8", "--set", "training.users_per_step=2"]
    command += tiny if profile == "smoke" else ["--hours", str(HOURS)]

    def figures() -> dict[str, Any]:
        """The whole reports stand beside this record, in reference/."""
        found = [read_json(path)["figures"] for path in sorted(reports.glob(f"*-{profile}/*.json"))]
        return {
            name: {"rows": report["rows"], **{key: report["metrics"][key] for key in ("ndcg@20", "hit@20")}}
            for reports_of_run in found
            for name, report in reports_of_run.items()
        }

    return Stage("reference", command, figures)


def run_stages(
    out: Path,
    work: Path,
    profile: str,
    minutes: float,
    variables: Variables,
    only: Sequence[str] | None = None,
    needs_gpu: bool = True,
) -> int:
    """Run what has no record yet.

    Args:
        out: folder of records.
        work: folder of all else.
        profile: of the notebooks and the reference run.
        minutes: after which nothing runs on.
        variables: environment of a stage's processes, from the folder of the notebooks' results and one for sockets.
        only: names of stages; None runs all.
        needs_gpu: false to try the stages on the processor.

    Returns:
        0 if all stages have a record in the end, 1 if one failed, 2 if the time was not enough.

    Raises:
        ValueError: without a GPU, or for a stage that is not one.
    """
    device = describe_device()
    if needs_gpu and not device.startswith("GPU"):
        raise ValueError("no CUDA GPU found; `--device cpu --profile smoke` tries all stages on the processor")
    out, work = out.resolve() / slug(device), work.resolve() / slug(device)
    work.mkdir(parents=True, exist_ok=True)
    todo = chosen(stages(profile, work, out), only)
    print(f"{device}, commit {provenance()['commit'] or 'unknown (name it in RREC_COMMIT)'}, profile {profile}: {out}")
    end, outcomes = time.monotonic() + 60 * minutes, list[str]()
    for number, stage in enumerate(todo, 1):
        head, path = f"[gpu-run {number}/{len(todo)}] {stage.name}", out / f"{stage.name}.json"
        if (recorded := finished(path, profile)) is not None:
            print(f"{head}: recorded, commit {recorded['commit']}", flush=True)
            continue
        if (left := end - time.monotonic()) <= 0:
            outcomes.append("cut")
            print(f"{head}: no time left", flush=True)
            continue
        print(f"{head}: running ...", flush=True)
        record = execute(stage, work / f"{stage.name}.log", left, variables)
        outcomes.append(record["outcome"])
        if record["outcome"] != "cut":
            write_json(path, {"name": stage.name, "profile": profile, **provenance(0), **record})
        why = record.get("error", "longer than was left of --minutes" if record["outcome"] == "cut" else "")
        print(f"{head}: {record['outcome']}, {record['seconds']:.0f} s {why}".rstrip(), flush=True)
    print("all stages are recorded" if set(outcomes) <= {"passed"} else "run the same command again to go on")
    return 1 if "failed" in outcomes else 2 if "cut" in outcomes else 0


def slug(device: str) -> str:
    """A device's name as a folder's: ``"GPU, NVIDIA H200"`` is ``nvidia-h200``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower().removeprefix("gpu, ")).strip("-")


def chosen(every: list[Stage], names: Sequence[str] | None) -> list[Stage]:
    """The stages of these names, in their order; all of them for none."""
    if unknown := sorted(set(names or ()) - {stage.name for stage in every}):
        raise ValueError(f"no stage {', '.join(unknown)}; choose from {', '.join(stage.name for stage in every)}")
    return [stage for stage in every if not names or stage.name in names]


def finished(path: Path, profile: str) -> dict[str, Any] | None:
    """The record of a stage that ended well on this profile."""
    record = read_json(path) if path.is_file() else {}
    return record if record.get("outcome") == "passed" and record.get("profile") == profile else None


def execute(stage: Stage, log: Path, seconds: float, variables: Variables) -> dict[str, Any]:
    """Run a stage in processes of its own, none of which outlives it.

    Returns:
        ``outcome``: passed, failed or cut (it needed longer than ``seconds``), ``seconds``, ``stage_command``, and
        ``figures`` or ``error``.
    """
    start = time.monotonic()
    record: dict[str, Any] = {"stage_command": _no_folders(" ".join(["python", *stage.command]))}
    try:
        with tempfile.TemporaryDirectory(prefix="rrec-") as sockets:
            path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # this tree's library
            own = {"PYTHONPATH": path, "RREC_CACHE": str(cache_dir())}  # the tests', too: a model is converted once
            given = {**variables(log.parent / RESULTS, sockets), **own}
            code = call([sys.executable, *stage.command], log, given, seconds)
        if code is None:
            record |= {"outcome": "cut"}
        elif code:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
            raise StageError(f"exit status {code}; its last lines:\n" + "\n".join(lines))
        else:
            record |= {"outcome": "passed", "figures": plain(stage.figures(), stage.name)}
    except (StageError, OSError, ValueError, KeyError) as problem:
        record |= {"outcome": "failed", "error": _no_folders(str(problem))}
    return record | {"seconds": round(time.monotonic() - start, 1)}


def call(command: list[str], log: Path, variables: dict[str, str], seconds: float) -> int | None:
    """Exit status of a command that prints into ``log``; None if it ran past its time and was ended."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=variables,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # everything is written so that this can happen at any moment
                process.wait()


def _end_with_parent() -> None:
    """Where this script is killed, its stage shall not go on unseen beside the next call's (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _no_folders(text: str) -> str:
    """Paths from the project's folder on, of others the last part: records are passed on, folders name their owner."""
    return re.sub(r"(?<![\w.:/])/[^\s\"']*/", "", text.replace(f"{ROOT}{os.sep}", ""))
