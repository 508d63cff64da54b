"""The trial of reasoning: arms that see as many targets, and arms that have the same CPU time.

With reasoning, a warm-up on texts of the taught skills is followed by RecPO. Without, the states behind the bare prompt
are trained for as many targets; and, for the second table, for as long as the arm with reasoning of the same seed took.
Arms that begin alike share what they share: the weights of a stage are trained once a seed. Every run goes on from its
last checkpoint, and a finished one is read back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from rrec_lib.core.profiles import Profile, load_profile
from rrec_lib.core.reading import check_same, read_json, read_json_lines
from rrec_lib.core.results import describe_run, log_lines
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments.ablations import ABLATIONS, WARMUP_ALONE
from rrec_lib.experiments.reference import WITH, WITHOUT
from rrec_lib.experiments.runner import SETTINGS, WINDOW, Options, Run, carry_out
from rrec_lib.model.adapters import LOG, load_adapter
from rrec_lib.model.frozen_states import kept_frozen
from rrec_lib.model.policy import Policy
from rrec_lib.training.callbacks import SAVED, SPENT, TARGETS
from rrec_lib.training.packed_sequences import successive_targets
from rrec_lib.training.run_folder import FILE, settings_of_stage
from rrec_lib.training.skills import SKILLS
from rrec_lib.training.stages import save_stage, train_recpo, warm_up

EQUAL_TARGETS, EQUAL_TIME = "equal-targets", "equal-time"
WARMUP_STEPS, RECPO_STEPS = 400, 250  # of the arm with reasoning
TAUGHT = ("taste", "association", "drift")
FOR_TRIAL: dict[str, Any] = {
    **SETTINGS, "data.window": WINDOW, "rollouts.max_new_tokens": 64,
    "warmup.skills": list(TAUGHT), "warmup.token_share": 0.25, "warmup.token_weight": 1.0,
    "model.dtype": "float32",  # auto is another type on another machine, and arms are trained on several
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One arm of the trial.

    Attributes:
        knobs: what differs from :data:`FOR_TRIAL`.
        recpo: whether RecPO follows the warm-up; if not, the warm-up goes on for as many targets.
        control: what stands before the marker when the arm is read.
        reads: the arm whose weights it reads; its own if None.
    """

    knobs: dict[str, Any] = field(default_factory=dict)
    recpo: bool = True
    control: str = "own"
    reads: str | None = None


ARMS = {
    WITH: Arm(),
    WITHOUT: Arm({"warmup.skills": []}, recpo=False, control="none"),
    WARMUP_ALONE: Arm(recpo=False),
    "distilled": Arm(control="none", reads=WITH),
    **{f"only {skill}": Arm({"warmup.skills": [skill]}) for skill in SKILLS},
    **{line.name: Arm(dict(line.knobs)) for line in ABLATIONS.values() if line.in_trial},
}


def run_trial(
    options: Options,
    arms: Sequence[str] = (WITH, WITHOUT),
    seeds: Sequence[int] = (0, 1, 2),
    budgets: Sequence[str] = (EQUAL_TARGETS, EQUAL_TIME),
    steps: tuple[int, int] = (WARMUP_STEPS, RECPO_STEPS),
) -> None:
    """Train arms, seed by seed, and write their reports, or go on with them.

    Args:
        options: profile, overrides and folders; its hours don't count.
        arms: of :data:`ARMS`.
        seeds: one after the other, so that a comparison is there as soon as possible.
        budgets: of what arms have the same; for equal time the arm without reasoning alone is trained again.
        steps: of the warm-up and of RecPO.

    Raises:
        FileNotFoundError: for equal time, while a seed's reports at equal targets are missing.
        ValueError: if a report or a folder is of a run with other settings.
    """
    print(describe_run(options.profile), flush=True)
    with kept_frozen(options.runs) as frozen:
        for seed in seeds:
            for budget in budgets:
                for name in [one for one in arms if budget == EQUAL_TARGETS or one == WITHOUT]:
                    arm = ARMS[name]
                    profile = load_profile(options.profile, {**FOR_TRIAL, **options.overrides, **arm.knobs})
                    place = replace(options, out=options.out / budget)
                    own = Run(name, arm.control, seed, place, profile, 0.0, more={"steps": steps, "budget": budget})
                    carry_out(own, _Training(arm, budget, steps, frozen))


@dataclass(frozen=True)
class _Training:
    """Brings a fresh policy to an arm's weights; returns what its training saw and took."""

    arm: Arm
    budget: str
    steps: tuple[int, int]
    frozen: Path

    def __call__(self, run: Run, policy: Policy, dataset: DatasetDict) -> dict[str, Any]:
        source = run if self.arm.reads is None else replace(run, name=self.arm.reads)
        length = self.steps[0]
        if not self.arm.recpo:  # as many targets as RecPO's steps have
            length += round(self.steps[1] * run.profile.training.users_per_step / targets_a_step(dataset, run.profile))
        if self.budget == EQUAL_TIME:
            length = _as_long(run, length)
        taught = "+".join(run.profile.warmup.skills) or "bare"
        shared = source.below(run.options.runs).with_name(f"{taught}-{length}-{run.seed}")
        logs = [_stage(run, "warmup", policy, dataset, shared, length, frozen=self.frozen)]
        if self.arm.recpo:
            logs.append(_stage(run, "recpo", policy, dataset, source.below(run.options.runs), self.steps[1]))
        ends = [next(row for row in reversed(log) if TARGETS in row) for log in logs]
        spent = {TARGETS: sum(row[TARGETS] for row in ends)}
        # As if nothing had been kept: else an arm would be cheap because another had paid for its rows before.
        spent[SPENT] = sum(row[SPENT] + row.get(SAVED, 0.0) for row in ends)
        return {**spent, "trained_as": source.name}


def _stage(
    run: Run, stage: str, policy: Policy, dataset: DatasetDict, folder: Path, steps: int, **options: Any
) -> list[dict[str, Any]]:
    """Train a stage, or load its weights if another arm has trained it; the log's rows."""
    adapter = folder / f"{stage}-adapter"
    profile = run.profile
    if stage == "warmup":
        profile = replace(profile, training=replace(profile.training, item_softmax="batch"))
    if (adapter / LOG).is_file():
        settings = settings_of_stage(stage, policy, dataset, profile, run.seed, max_steps=steps)
        check_same(adapter, read_json(folder / stage / FILE), settings, "give the same ones, or other --runs")
    else:
        train: Any = warm_up if stage == "warmup" else train_recpo
        trainer = train(policy, dataset, profile, folder / stage, run.seed, max_steps=steps, **options)
        save_stage(policy, trainer, adapter, dataset, profile, run.seed)
        log_lines(trainer.state.log_history, run.below(run.options.out, f"-{stage}.jsonl"))
    load_adapter(policy, adapter, catalogue_hash(dataset["items"]))
    return read_json_lines(adapter / LOG)


def targets_a_step(dataset: DatasetDict, profile: Profile) -> float:
    """Mean number of targets in a step of the warm-up."""
    train = list(dataset["train"].select_columns(["user_id", "history", "seen"]))
    packed = successive_targets(train, profile.warmup.targets_per_user)
    return profile.warmup.users_per_step * len(train) / len(packed)


def _as_long(run: Run, length: int) -> int:
    """Steps that take as long as the arm with reasoning of the same seed did, by what both took at equal targets."""
    arms = []
    for name in (WITH, WITHOUT):
        at = replace(run, name=name, options=replace(run.options, out=run.options.out.parent / EQUAL_TARGETS)).report
        if not at.is_file():
            raise FileNotFoundError(f"{at} is missing: run both arms at equal targets first")
        arms.append(load_reports(at)[0].run)
    made = [f"{arm['commit']} on {arm.get('processor')}, {arm['device']}" for arm in arms]
    if made[0] != made[1]:
        raise ValueError(f"{WITH} was trained by {made[0]}, {WITHOUT} by {made[1]}: their seconds can't be compared; "
                         "train both by the same code on the same machine")  # fmt: skip
    seconds = [arm[SPENT] for arm in arms]
    return round(length * seconds[0] / seconds[1])
