"""`rrec train` as ``test_processes.py`` starts it, once per process: each reports what it did to the files of the run.

Arguments: the folder of the run, the folder of the reports, and further arguments of `rrec train`.
"""

import itertools
import json
import os
import sys
from pathlib import Path

from rrec_lib.cli.main import main
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training import callbacks
from rrec_lib.training.stages import warm_up

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def watch(folder: Path) -> list[str]:
    """A list that grows with each change of the folder's files by this process."""
    changes: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        path = Path(str(arguments[1 if event == "os.rename" else 0])) if written or event in CHANGES else None
        if path is not None and path.is_relative_to(folder):
            changes.append(f"{event} {path.relative_to(folder)}")

    sys.addaudithook(hook)
    return changes


def judged_run(folder: Path, rank: int) -> tuple[int, int, str]:
    """A warm-up that valid ends, where processes measure differently: its last step, its best one, its weights."""
    values = iter([[0.1, 0.3, 0.2, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]][rank])
    seconds = itertools.count(step=[1, 1000][rank])
    callbacks.spent = lambda: next(seconds)
    stop = callbacks.StopOnValid(lambda: next(values), every=1, budget=100, patience=2)
    profile = load_profile("smoke")
    policy = load_policy(profile.model)
    trainer = warm_up(policy, prepare_profile(profile), profile, folder, stop=stop, max_steps=6)
    return trainer.state.global_step, stop.best_step, weights_hash(policy.model, only_trainable=True)


if __name__ == "__main__":
    run, reports, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    changes = watch(run)
    code = main(["train", "--profile", "smoke", "--out", str(run / "train"), *sys.argv[3:]])
    report = {"code": code, "judged": judged_run(run / "judged", rank), "changes": changes}
    (reports / f"{rank}.json").write_text(json.dumps(report), encoding="utf-8")
