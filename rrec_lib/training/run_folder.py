"""A run's folder is tied to all that the run's outcome depends on, and takes no other run."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict

from rrec_lib.core.processes import of_main
from rrec_lib.core.profiles import Profile, non_defaults
from rrec_lib.core.reading import check_same, read_json
from rrec_lib.core.results import write_json
from rrec_lib.evaluation.reports import data_hash
from rrec_lib.model.policy import Policy
from rrec_lib.training.callbacks import BEST, STEPS, StopOnValid
from rrec_lib.training.checkpoints import all_checkpoints
from rrec_lib.training.configuration import rise_of

FILE = "settings.json"
LATER = {"starts_from", "rise", "texts"}  # older folders don't say
_SECTIONS = ("model", "data", "rollouts", "reward", "warmup", "training", "evaluation")
_OF_THE_PROCESS = {
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "logging_steps",
    "report_to",
    "disable_tqdm",
    "use_cpu",
}


def settings_of(profile: Profile, **more: Any) -> dict[str, Any]:
    """What a run's outcome depends on beside its seed: runs that differ in it are no seeds of one arm.

    Args:
        profile: whose sections count, with the data set's name instead of its path.
        more: whatever else does.

    Returns:
        Nested dictionaries as JSON holds them.
    """
    sections = {name: non_defaults(getattr(profile, name)) for name in _SECTIONS}
    sections["data"]["dataset"] = Path(profile.data.dataset).name
    catalogue = profile.training.item_softmax == "catalogue"
    if catalogue and profile.training.item_negatives == profile.warmup.item_negatives:
        sections["training"].pop("item_negatives", None)  # older reports say it once, for both stages
    return json.loads(json.dumps({"profile": {"name": profile.name, **sections}, **more}))


def training_settings(profile: Profile) -> dict[str, Any]:
    """What of :func:`settings_of` trained weights depend on; not how a step is divided, what is saved or evaluated."""
    settings = settings_of(profile)["profile"]
    del settings["evaluation"], settings["training"]["users_at_once"], settings["training"]["save_steps"]
    return settings


def run_name(profile: Profile, stage: str, seed: int) -> str:
    """A folder's name for a run from a stage: another for every other setting, so that none resumes another's."""
    settings = hashlib.sha256(json.dumps(settings_of(profile, stage=stage, seed=seed)).encode()).hexdigest()
    return f"{profile.name}-from-{stage}-seed-{seed}-{settings[:8]}"


def settings_of_stage(
    stage: str,
    policy: Policy,
    dataset: DatasetDict,
    profile: Profile,
    seed: int,
    stop: StopOnValid | None = None,
    starts_from: str | None = None,
    texts: Sequence[str] | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """All that the outcome of a training stage depends on.

    Not where files lie, what is saved, or how a step is divided, but for the warm-up, in which each process's negatives
    are the items of its own rows.

    Args:
        stage: ``"warmup"``, on which nothing of RecPO's sections bears but the item softmax; or ``"recpo"``.
        policy: whose base weights count.
        dataset: what is trained on.
        profile: sizes and hyperparameters.
        seed: of data order and sampling.
        stop: what ends the run beside its steps.
        starts_from: hash of the weights that the stage finds; None if not known, and then not compared.
        texts: hashes of what stands before the marker in the warm-up, if it isn't the profile's skills.
        overrides: fields of the trainer's arguments.
    """
    settings = training_settings(profile)
    training = settings["training"]
    for section, name in (("model", "name"), ("model", "revision"), ("data", "dataset")):
        settings[section].pop(name, None)  # hashes of the weights and the data stand below
    settings["model"]["dtype"] = of_main(policy.dtype_name)  # auto may measure another
    if stage == "warmup":
        settings["training"] = {name: training[name] for name in ("item_softmax", "item_refresh_steps")}
        settings["reward"] = {"temperature": profile.reward.temperature}
        del settings["rollouts"]
    else:
        del settings["warmup"]
        training["item_negatives"] = profile.training.item_negatives
    changed = {name: value for name, value in overrides.items() if name not in _OF_THE_PROCESS}
    length = settings["training" if stage == "recpo" else "warmup"]
    length["steps"] = changed.pop("max_steps", length["steps"])
    if stop is not None:  # the steps are then only where it may end at the latest, and the rate follows the budget
        length["steps"] = None
        settings |= {"evaluated_every": stop.every, "budget": stop.budget}
        if stop.patience != StopOnValid.PATIENCE:
            settings["patience"] = stop.patience
    if stage == "warmup" and length["steps"] != profile.warmup.steps:  # of which the rise is a share
        settings["rise"] = rise_of(profile)
    if texts is not None:
        settings["texts"] = list(texts)
    if stage == "warmup" and (count := PartialState().num_processes) > 1:  # each has its own rows' items as negatives
        settings["processes"] = count
    hashes = {"data_hash": data_hash(dataset), "base_weights": policy.base_hash}
    if starts_from is not None:
        hashes["starts_from"] = starts_from
    return json.loads(json.dumps({**settings, "overrides": changed, "seed": seed, **hashes}, default=str))


def claim(folder: Path, settings: dict[str, Any], may_write: bool = True) -> None:
    """Tie a folder to a run, or check that it is this one's.

    Args:
        folder: of checkpoints; made if it is not there.
        settings: see :func:`settings_of_stage`.
        may_write: false to check alone, as all processes but the first do.

    Raises:
        ValueError: if the folder is of a run with other settings, or holds checkpoints and does not say with which.
    """
    path = folder / FILE
    kept = read_json(path) if path.is_file() else None
    reached = [int(one.name.rpartition("-")[2]) for one in all_checkpoints(folder)]
    if any(map(all_checkpoints, [folder, *folder.glob("*/")])):  # a run that made none left nothing to go on from
        remedy = "give the same ones, name another folder, or start anew (`rrec train --restart`)"
        check_same(folder, kept and _made_alike(kept, settings, max(reached, default=0)), settings, remedy)
        settings = {**(kept or {}), **settings}
    if may_write and kept != settings:
        write_json(path, settings)


def clear(folder: Path) -> None:
    """Delete what a run has left in its folder, and nothing that others put there."""
    for checkpoint in all_checkpoints(folder):
        shutil.rmtree(checkpoint)
    for name in (FILE, BEST, STEPS):
        (folder / name).unlink(missing_ok=True)


def _made_alike(kept: dict[str, Any], settings: dict[str, Any], reached: int) -> dict[str, Any]:
    """What was kept, but for what makes no other run.

    RecPO's rate is constant, so a longer run is the shorter one gone on with, unless that is past the end already; and
    what a folder from before a setting was kept had for it is not known, nor always where a stage starts from.
    """
    alike = {**kept, **{key: value for key, value in settings.items() if key in LATER and key not in kept}}
    if "starts_from" not in settings:
        alike.pop("starts_from", None)
    if kept.get("model", {}).get("dtype") == "auto":  # an older folder's, which doesn't say what it came to
        alike["model"] = {**kept["model"], "dtype": settings["model"]["dtype"]}
    before, now = (one.get("training", {}).get("steps") for one in (kept, settings))
    if before is not None and now is not None and now >= reached:
        alike["training"] = {**kept["training"], "steps": now}
    return alike
