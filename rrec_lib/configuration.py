"""RecPO's settings: TRL's configuration with RecPO's choices, and what a profile makes of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from rrec_lib.advantages import ADVANTAGES
from rrec_lib.checkpoints import GRAD_NORM_LIMIT
from rrec_lib.hardware import check_optimizer, needs_loss_scaling, users_of_a_process
from rrec_lib.item_tower import check_item_softmax
from rrec_lib.objective import TOKEN_NORMALIZATIONS
from rrec_lib.profiles import Profile
from rrec_lib.vllm_rollouts import STOP


@dataclass
class RecPOConfig(GRPOConfig):
    """TRL's configuration with RecPO's choices.

    TRL's own names stand for ε (``epsilon``), G (``num_generations``), sampling (``temperature``, ``top_k``) and the
    longest reasoning (``max_completion_length``).
    """

    reward_beta: float = field(default=0.05, metadata={"help": "Weight of the similarity reward R_c."})
    ndcg_k: int = field(default=1000, metadata={"help": "Cutoff of the ranking reward."})
    item_temperature: float = field(default=0.02, metadata={"help": "τ of both item softmaxes."})
    advantage: str = field(default="grpo", metadata={"help": "Advantage estimator: grpo or rloo."})
    token_weight: float = field(default=1.0, metadata={"help": "Of the token term; 0 rewards no token."})
    token_normalization: str = field(default="trajectory", metadata={"help": "See objective.recpo_loss."})
    logq_correction: bool = field(default=False, metadata={"help": "Correct the in-batch softmax for popularity."})
    extra_negatives: int = field(default=0, metadata={"help": "Items drawn for each step, whatever its targets."})
    item_softmax: str = field(default="batch", metadata={"help": "Of the item term: over the batch, or catalogue."})
    item_refresh_steps: int = field(default=10, metadata={"help": "Encode the whole item table every n steps."})
    grad_norm_limit: float = field(default=GRAD_NORM_LIMIT, metadata={"help": "A larger norm stops the run."})
    # TRL turns it on, under the only name that every supported version of Transformers knows.
    gradient_checkpointing: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Refused, see checkpoints."}
    )
    # TRL's default multiplies a trajectory's ratios; under top-K sampling all are below 1, so the product vanishes.
    vllm_importance_sampling_mode: str = field(default="token_truncate", metadata={"help": "See vllm_rollouts."})

    def __post_init__(self) -> None:
        check_optimizer(str(getattr(self.optim, "value", self.optim)))  # Transformers makes it a member of a class
        super().__post_init__()
        if self.use_vllm:
            self._check_vllm()
            given: Any = self.generation_kwargs or {}
            self.generation_kwargs = {**STOP, **given}
        if self.advantage not in ADVANTAGES:
            raise ValueError(f"unknown advantage {self.advantage!r}; choose one of {', '.join(ADVANTAGES)}")
        if self.token_normalization not in TOKEN_NORMALIZATIONS:
            raise ValueError(f"unknown token_normalization {self.token_normalization!r}; {TOKEN_NORMALIZATIONS}")
        if self.per_device_train_batch_size % int(self.num_generations or 1):
            raise ValueError(
                f"per_device_train_batch_size counts trajectories, {self.per_device_train_batch_size}, and must be a"
                f" multiple of num_generations, {self.num_generations}, so that micro-batches hold whole groups"
            )
        check_item_softmax(self.item_softmax, self.extra_negatives)
        if self.extra_negatives < 0:
            raise ValueError(f"extra_negatives must be 0 (none) or more, got {self.extra_negatives}")
        if self.save_strategy == "steps" and self.save_steps % self.logging_steps:
            raise ValueError(
                f"save_steps {self.save_steps} must be a multiple of logging_steps {self.logging_steps}: a run resumed"
                " between two log lines would average the second over fewer steps"
            )
        if self.steps_per_generation != self.gradient_accumulation_steps:
            raise ValueError(
                "steps_per_generation must equal gradient_accumulation_steps: old log-probabilities are taken at a"
                f" batch's first use, before any update; got {self.steps_per_generation} and"
                f" {self.gradient_accumulation_steps}"
            )

    def _check_vllm(self) -> None:
        if self.vllm_mode not in ("colocate", "server"):
            raise ValueError(f"rollouts.vllm is colocate, server or null, got {self.vllm_mode!r}")
        if not is_vllm_available():
            raise ValueError(
                "rollouts.vllm needs vLLM, which is not installed: `pip install trl[vllm]` on a machine with a CUDA"
                " GPU, or set rollouts.vllm to null to sample with the policy itself"
            )


def recpo_config(profile: Profile, output_dir: Path, seed: int = 0, **overrides: Any) -> RecPOConfig:
    """The configuration a profile asks for, on as many processes as were launched.

    Args:
        profile: sizes and hyperparameters.
        output_dir: of checkpoints.
        seed: of data order and sampling.
        overrides: fields of :class:`RecPOConfig`.

    Raises:
        ValueError: for settings that contradict each other, or users that can't be shared among the processes.
    """
    group_size = profile.rollouts.group_size
    users, passes = users_of_a_process(profile.training.users_per_step, profile.training.users_at_once)
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": seed,
        "max_steps": profile.training.steps,
        "per_device_train_batch_size": users * group_size,
        "gradient_accumulation_steps": passes,
        "num_generations": group_size,
        "max_completion_length": profile.rollouts.max_new_tokens,
        "temperature": profile.rollouts.temperature,
        "top_k": profile.rollouts.top_k,
        "reward_beta": profile.reward.beta,
        "ndcg_k": profile.reward.ndcg_k,
        "item_temperature": profile.reward.temperature,
        "advantage": profile.training.advantage,
        "item_softmax": profile.training.item_softmax,
        "extra_negatives": profile.warmup.item_negatives if profile.training.item_softmax == "catalogue" else 0,
        "item_refresh_steps": profile.training.item_refresh_steps,
        "optim": profile.training.optimizer,
        "learning_rate": profile.training.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": profile.training.warmup_steps,
        "epsilon": profile.training.clip_eps,
        "save_steps": profile.training.save_steps,
        "save_total_limit": 2,
        "use_vllm": profile.rollouts.vllm is not None,
        "vllm_mode": profile.rollouts.vllm or "colocate",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "fp16": needs_loss_scaling(profile.model.dtype),
        "bf16": False,  # autocast is the policy's own choice, see hardware.choose_dtype
        "use_cpu": not torch.cuda.is_available(),
    }
    return RecPOConfig(**{**settings, **overrides})
