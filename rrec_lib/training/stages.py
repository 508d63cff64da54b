"""The two training stages as one call each: resume where a run stopped, train, save the adapter with its card."""

import hashlib
import json
import time
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict
from transformers import TrainerCallback

from rrec_lib.core import hardware
from rrec_lib.core.console import say
from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import Profile, available_profiles, load_profile
from rrec_lib.core.reading import read_json
from rrec_lib.core.results import provenance
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.model.adapters import CARD, holds, load_adapter, save_adapter
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.training.callbacks import StepLines, StopOnValid, judge_of
from rrec_lib.training.checkpoints import last_checkpoint
from rrec_lib.training.configuration import check_recpo, check_rows, recpo_config, warmup_arguments
from rrec_lib.training.loop import run_in
from rrec_lib.training.recpo_trainer import RecPOTrainer
from rrec_lib.training.run_folder import claim, settings_of_stage, training_settings
from rrec_lib.training.warmup_trainer import Text, WarmupTrainer

STAGES = ("warmup", "recpo")
OF_READING = ("data.window", "rollouts.max_new_tokens")  # what an adapter has to be read with as it was trained
WARMUP_FIGURES = ("token_loss", "item_loss", "grad_norm")
RECPO_FIGURES = ("reward", "ranking_reward", "similarity_reward", "entropy", "reasoning_tokens", "item_loss")


def warm_up(
    policy: Policy,
    dataset: DatasetDict,
    profile: Profile,
    output_dir: Path,
    seed: int = 0,
    stop: StopOnValid | None = None,
    starts_from: str | None = None,
    restart: bool = False,
    frozen: Path | None = None,
    texts: Sequence[Text] | None = None,
    **overrides: Any,
) -> WarmupTrainer:
    """Run or resume the warm-up; the policy is trained in place.

    Args:
        policy: fresh or trained.
        dataset: splits ``train`` and ``items``.
        profile: sizes and hyperparameters.
        output_dir: checkpoints; a complete one there is resumed from.
        seed: of data order.
        stop: ends the run by valid or by a budget, and keeps its best weights.
        starts_from: hash of the weights it starts from, to which the folder is then tied as well.
        restart: delete what an earlier run left there, and start anew.
        frozen, texts: see :class:`WarmupTrainer`.
        overrides: fields of ``TrainingArguments``, or of ``GRPOConfig``; knobs of RecPO are the profile's.

    Raises:
        ValueError: if the folder is of a run with other settings; see :mod:`rrec_lib.training.run_folder`.
    """
    told = None if texts is None else [text_hash(text, dataset) for text in texts]
    settings = settings_of_stage("warmup", policy, dataset, profile, seed, stop, starts_from, told, **overrides)
    arguments = warmup_arguments(profile, output_dir, seed, **overrides)
    trainer = WarmupTrainer(policy, arguments, dataset, profile, [StepLines(WARMUP_FIGURES)], frozen, texts)
    return run_in(output_dir, trainer, stop, settings, restart)


def text_hash(text: Text, dataset: DatasetDict) -> str:
    """What tells a text of the warm-up from others: a hash of what it says of the training rows, 16 hex digits."""
    said = json.dumps([text(row) for row in dataset["train"]])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def train_recpo(
    policy: Policy,
    dataset: DatasetDict,
    profile: Profile,
    output_dir: Path,
    seed: int = 0,
    callbacks: list[TrainerCallback] | None = None,
    stop: StopOnValid | None = None,
    starts_from: str | None = None,
    restart: bool = False,
    **overrides: Any,
) -> RecPOTrainer:
    """Run or resume RecPO; the policy is trained in place. Arguments as :func:`warm_up`, callbacks instead of lines."""
    callbacks = [StepLines(RECPO_FIGURES)] if callbacks is None else callbacks
    settings = settings_of_stage("recpo", policy, dataset, profile, seed, stop, starts_from, **overrides)
    arguments = recpo_config(profile, output_dir, seed, **overrides)
    check_rows(dataset, profile)
    trainer = RecPOTrainer(policy, arguments, dataset, profile, callbacks)
    return run_in(output_dir, trainer, stop, settings, restart)


def save_stage(
    policy: Policy,
    trainer: WarmupTrainer | RecPOTrainer,
    folder: Path,
    dataset: DatasetDict,
    profile: Profile,
    seed: int = 0,
) -> None:
    """Save a trained stage as an adapter, with how it was made and its log beside it; every process has to call.

    The main process saves, the others wait for it.
    """
    if trainer.is_world_process_zero():
        _save(policy, trainer, folder, dataset, profile, seed)
    trainer.accelerator.wait_for_everyone()


def _save(policy: Policy, trainer: Any, folder: Path, dataset: DatasetDict, profile: Profile, seed: int) -> None:
    catalogue = catalogue_hash(dataset["items"])
    if holds(folder, policy, catalogue):  # a finished run, called again
        return
    history = [row for row in trainer.state.log_history if "loss" in row]
    # Of the weights that are saved: a run that valid judged has its best ones back.
    judge = judge_of(trainer)
    steps = judge.best_step if judge else trainer.state.global_step
    settings = training_settings(profile)
    settings["model"]["dtype"] = policy.dtype_name  # what auto came to
    notes = {
        "profile": profile.name,
        "steps": steps,
        "settings": settings,
        "peak_memory_mb": round(hardware.peak_memory_mb()),
        **provenance(seed),
    }
    save_adapter(policy, folder, catalogue, notes, history)


def load_stage(profile: Profile, dataset: DatasetDict, stage: str, seed: int = 0) -> Policy:
    """Load a policy as a stage left it.

    Args:
        profile: names the recorded adapters.
        dataset: its catalogue must be the one the adapter was trained on.
        stage: ``"base"`` (fresh LoRA, the identity), ``"warmup"`` or ``"recpo"``. A profile without a recorded
            adapter for the stage gives the base.
        seed: of fresh LoRA weights.

    Raises:
        ValueError: for an unknown stage, or an adapter that is tied to something else.
    """
    if stage not in ("base", *STAGES):
        raise ValueError(f"unknown stage {stage!r}; choose base, {', '.join(STAGES)}")
    policy = load_policy(profile.model, seed)
    folder = profile.adapters.get(stage)
    if folder is not None:
        card = load_adapter(policy, _adapter_path(folder), catalogue_hash(dataset["items"]))
        for knob, (then, now) in read_otherwise(card, profile).items():
            say(f"note: the adapter in {folder} was trained with {knob}={then} and is read with {now}; "
                f"--set {knob}={then} reads it as it was trained")  # fmt: skip
    return policy


def read_otherwise(card: dict[str, Any], profile: Profile) -> dict[str, tuple[Any, Any]]:
    """In what a profile would read an adapter otherwise than it was trained: by knob, what it was and what it is."""
    now = {knob: attrgetter(knob)(profile) for knob in OF_READING}
    return {knob: (then, now[knob]) for knob, then in trained_with(card).items() if then != now[knob]}


def trained_with(card: dict[str, Any], knobs: Sequence[str] = OF_READING) -> dict[str, Any]:
    """What an adapter's card says of knobs, ``"section.knob"``; where an older one has no settings, its profile's are.

    A type that the card calls ``auto`` says nothing of what it came to.
    """
    settings = card.get("settings")
    if settings is None and card.get("profile") in available_profiles():
        settings = training_settings(load_profile(card["profile"]))
    found = {knob: (settings or {}).get(knob.partition(".")[0], {}).get(knob.partition(".")[2]) for knob in knobs}
    return {knob: value for knob, value in found.items() if value not in (None, "auto")}


def has_adapter(profile: Profile, stage: str) -> bool:
    """Whether the profile names a recorded adapter for a stage."""
    return profile.adapters.get(stage) is not None


def adapter_card(profile: Profile, stage: str) -> dict[str, Any]:
    """The card of a recorded adapter: what it is tied to and how it was made."""
    return read_json(_adapter_path(str(profile.adapters[stage])) / CARD, "seed")


def _adapter_path(folder: str | Path) -> Path:
    """Of an adapter that stands below the working directory, or ships with the project."""
    return Path(folder) if Path(folder).is_dir() else resource(str(folder))


def make_adapters(
    profile: Profile,
    dataset: DatasetDict,
    out: Path,
    seed: int = 0,
    stages: tuple[str, ...] = STAGES,
    restart: bool = False,
) -> None:
    """Train stages one after the other and save each as ``out/STAGE-adapter``.

    Killed at any point and called again, it goes on from the last complete checkpoint. RecPO alone starts from the
    warm-up in ``out``, which it ends first if that was stopped; else from the profile's recorded one, if there is one.
    A warm-up of no steps is left out.

    Args:
        profile: sizes and hyperparameters.
        dataset: prepared data.
        out: folder of checkpoints and adapters.
        seed: of LoRA weights, data order and sampling.
        stages: of :data:`STAGES`, in that order.
        restart: delete what earlier runs left of these stages first.

    Raises:
        FileExistsError: if an adapter's place is taken by something else.
        OSError: if another process trains there.
        ValueError: if the folder is of a run with other settings, or the profile's settings contradict each other.
    """
    if "recpo" in stages:
        check_recpo(
            recpo_config(profile, out / "recpo", seed)
        )  # what it refuses is better said before the warm-up than behind it
        check_rows(dataset, profile)
    for folder in (out / f"{stage}-adapter" for stage in stages):
        if folder.exists() and not (folder / CARD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} holds no {CARD}, so it is not replaced; move it away, or choose another "
                                  "folder")  # fmt: skip
    anew = stages if restart else ()
    if stages == ("recpo",) and last_checkpoint(out / "warmup"):  # its adapter's weights are rounded, its own aren't
        if PartialState().is_main_process:
            say(f"recpo: starts from the warm-up in {out / 'warmup'}")
        stages = STAGES
    policy = load_stage(profile, dataset, "warmup" if stages == ("recpo",) else "base", seed)
    for stage in stages:  # before any work
        if stage not in anew:
            claim(out / stage, settings_of_stage(stage, policy, dataset, profile, seed), may_write=False)
    for stage in stages:
        if stage == "warmup" and profile.warmup.steps == 0:
            say("warmup: left out, since warmup.steps is 0")
            continue
        start = time.monotonic()
        train = warm_up if stage == "warmup" else train_recpo
        found = weights_hash(policy.model, only_trainable=True)
        trainer = train(policy, dataset, profile, out / stage, seed, starts_from=found, restart=stage in anew)
        save_stage(policy, trainer, out / f"{stage}-adapter", dataset, profile, seed)
        if trainer.is_world_process_zero():
            print(f"{stage}: {time.monotonic() - start:.0f} s, saved {out / f'{stage}-adapter'}", flush=True)
