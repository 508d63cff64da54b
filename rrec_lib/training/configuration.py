"""From a profile to what TRL and Transformers want to know; a knob of theirs that no profile has is set here."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from rrec_lib.core.hardware import check_optimizer, needs_loss_scaling, users_of_a_process
from rrec_lib.core.profiles import Profile
from rrec_lib.recpo.vllm import STOP

# Of GRPOConfig's, what neither RecPO's sampling nor its loss reads.
UNREAD = (
    "beta", "delta", "entropy_coef", "importance_sampling_level", "loss_type", "mask_truncated_completions", "min_p",
    "off_policy_mask_threshold", "repetition_penalty", "reward_weights", "scale_rewards", "sync_ref_model",
    "top_entropy_quantile", "top_p", "use_adaptive_entropy",
)  # fmt: skip


def _shared(profile: Profile, output_dir: Path, seed: int) -> dict[str, Any]:
    return {
        "output_dir": str(output_dir),
        "seed": seed,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "fp16": needs_loss_scaling(profile.model.dtype),
        "bf16": False,  # autocast is the policy's own choice, see hardware.choose_dtype
        "use_cpu": not torch.cuda.is_available(),
    }


def warmup_arguments(profile: Profile, output_dir: Path, seed: int = 0, **overrides: Any) -> TrainingArguments:
    """Training arguments of the warm-up stage; ``overrides`` are fields of ``TrainingArguments``."""
    settings = {
        **_shared(profile, output_dir, seed),
        "max_steps": profile.warmup.steps,
        "per_device_train_batch_size": users_of_a_process(profile.warmup.users_per_step)[0],
        "learning_rate": profile.warmup.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": rise_of(profile),
        "save_steps": 20,
        "remove_unused_columns": False,
    }
    return TrainingArguments(**{**settings, **overrides})


def rise_of(profile: Profile) -> int:
    """Steps in which the warm-up's learning rate rises."""
    return max(profile.warmup.steps // 20, 1)


def recpo_config(profile: Profile, output_dir: Path, seed: int = 0, **overrides: Any) -> GRPOConfig:
    """The configuration of TRL that a profile asks for, on as many processes as were launched.

    Args:
        profile: sizes and hyperparameters.
        output_dir: of checkpoints.
        seed: of data order and sampling.
        overrides: fields of ``GRPOConfig``.

    Raises:
        ValueError: for settings that contradict each other, or users that can't be shared among the processes.
    """
    group_size = profile.rollouts.group_size
    users, passes = users_of_a_process(profile.training.users_per_step, profile.training.users_at_once)
    settings = {
        **_shared(profile, output_dir, seed),
        "max_steps": profile.training.steps,
        "per_device_train_batch_size": users * group_size,
        "gradient_accumulation_steps": passes,
        "num_generations": group_size,
        "max_completion_length": profile.rollouts.max_new_tokens,
        "temperature": profile.rollouts.temperature,
        "top_k": profile.rollouts.top_k,
        "optim": check_optimizer(profile.training.optimizer),
        "learning_rate": profile.training.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": profile.training.warmup_steps,
        "epsilon": profile.training.clip_eps,
        "save_steps": profile.training.save_steps,
        "use_vllm": profile.rollouts.vllm is not None,
        "vllm_mode": profile.rollouts.vllm or "colocate",
        # TRL turns it on, under the only name that every supported version of Transformers knows.
        "gradient_checkpointing": None,
        # TRL's default multiplies a trajectory's ratios; under top-K sampling all are below 1, so the product vanishes.
        "vllm_importance_sampling_mode": "token_truncate",
        **overrides,
    }
    if settings["use_vllm"]:
        settings["generation_kwargs"] = {**STOP, **(settings.get("generation_kwargs") or {})}
    return GRPOConfig(**settings)


def check_rows(dataset: DatasetDict, profile: Profile) -> None:
    """Require training rows for at least one step of RecPO, since TRL leaves a step out that can't be filled.

    Raises:
        ValueError: if there are fewer than a step takes.
    """
    rows, users = len(dataset["train"]), profile.training.users_per_step
    if rows < users:
        raise ValueError(f"training.users_per_step is {users}, but there are {rows} training rows, too few for a single"
                         f" step; set it to {rows} or less")  # fmt: skip


def check_recpo(args: GRPOConfig) -> None:
    """Refuse what TRL takes and RecPO can't.

    Raises:
        ValueError: naming the settings that contradict each other.
    """
    check_optimizer(OptimizerNames(args.optim).value)
    usual = {field.name: field.default for field in fields(GRPOConfig)}
    if idle := [name for name in UNREAD if name in usual and getattr(args, name) != usual[name]]:
        raise ValueError(f"{', '.join(idle)}: RecPO's sampling and loss do not read this; leave it as TRL has it")
    if args.use_vllm and not is_vllm_available():
        raise ValueError(
            "rollouts.vllm needs vLLM, which is not installed: `pip install trl[vllm]` on a machine with a CUDA"
            " GPU, or set rollouts.vllm to null to sample with the policy itself"
        )
    if args.per_device_train_batch_size % int(args.num_generations or 1):
        raise ValueError(
            f"per_device_train_batch_size counts trajectories, {args.per_device_train_batch_size}, and must be a"
            f" multiple of num_generations, {args.num_generations}, so that micro-batches hold whole groups"
        )
    if args.save_strategy == "steps" and args.save_steps % args.logging_steps:
        raise ValueError(
            f"save_steps {args.save_steps} must be a multiple of logging_steps {args.logging_steps}: a run resumed"
            " between two log lines would average the second over fewer steps"
        )
    if args.steps_per_generation != args.gradient_accumulation_steps:
        raise ValueError(
            "steps_per_generation must equal gradient_accumulation_steps: old log-probabilities are taken at a"
            f" batch's first use, before any update; got {args.steps_per_generation} and"
            f" {args.gradient_accumulation_steps}"
        )
