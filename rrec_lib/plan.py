"""What a run on GPUs will take: memory per GPU by part, tokens per step, hours. Nothing is loaded but a configuration.

Weights, gradients and optimiser state follow exactly from the model, which is built on the ``meta`` device. Activations
and caches are estimates, see :mod:`rrec_lib.memory`.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from rrec_lib.hardware import users_of_a_process
from rrec_lib.memory import (
    FULL,
    HALF,
    Shape,
    adam_bytes,
    build,
    calibrate,
    kept_bytes,
    kv_cache_bytes,
    working_bytes,
)
from rrec_lib.profiles import Profile

MODELS = Path(__file__).parent / "configs" / "models"
PROMPT_BASE, PROMPT_PER_ITEM = 60, 24  # tokens of the instruction and of a history line, as SmolLM2 counts MovieLens


@dataclass(frozen=True)
class Plan:
    """What one GPU holds and does.

    Attributes:
        model: its name.
        parameters: all values, and how many of them are trained.
        trained: see above.
        shape: of one training pass on one GPU.
        exact: bytes that follow from the weights: parameters, gradients, optimiser state.
        estimated: bytes by formula, while a training pass is at its largest.
        rollout: bytes of keys and values while reasonings are sampled, at another time than the pass.
        tokens_per_step: tokens that all GPUs together train on in an optimiser step, and that they sample.
        hours: of the whole run, None without a throughput.
    """

    model: str
    parameters: int
    trained: int
    shape: Shape
    exact: dict[str, int]
    estimated: dict[str, int]
    rollout: int
    tokens_per_step: dict[str, int]
    hours: float | None

    @property
    def peak(self) -> int:
        """Bytes at the larger of the two moments: a training pass, or sampling."""
        return sum(self.exact.values()) + max(sum(self.estimated.values()), self.rollout)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "peak": self.peak}


def known_models() -> list[str]:
    """Names of the models whose configurations ship with the project."""
    return sorted(path.stem for path in MODELS.glob("*.json"))


def model_configuration(name: str) -> PretrainedConfig:
    """A shipped configuration by its name or the last part of its hub id, or one from a local folder.

    Raises:
        ValueError: for any other name.
    """
    if (Path(name) / "config.json").is_file():
        return AutoConfig.from_pretrained(name)
    path = MODELS / f"{name.rpartition('/')[2].lower()}.json"
    if not path.is_file():
        raise ValueError(
            f"no configuration of model {name!r}; choose one of {', '.join(known_models())}, or give a folder that has"
            " a config.json"
        )
    return AutoConfig.for_model(**json.loads(path.read_text(encoding="utf-8")))


def make_plan(
    profile: Profile,
    gpus: int = 1,
    zero: int = 2,
    users_at_once: int | None = None,
    prompt_tokens: int | None = None,
    optimizer_bits: int = 32,
    tokens_per_second: float | None = None,
) -> Plan:
    """Plan a RecPO run of a profile.

    Args:
        profile: its model, LoRA (``lora_rank`` 0: all weights are trained), rollouts and steps.
        gpus: how many take part.
        zero: DeepSpeed's stage: 0 divides nothing, 1 the optimiser state, 2 the gradients too, 3 the parameters too.
        users_at_once: users of one pass on one GPU; more are accumulated. The profile's, if not given.
        prompt_tokens: length of a user's prompt; a guess from the history window if not given.
        optimizer_bits: 32, or 8 for bitsandbytes' AdamW.
        tokens_per_second: trained and sampled together, of one GPU.

    Raises:
        ValueError: for an unknown model, a number out of range, or users that the GPUs can't share equally.
    """
    per_step, users = profile.training.users_per_step, users_at_once or profile.training.users_at_once
    for name, value, allowed in (
        ("gpus", gpus, gpus >= 1), ("zero", zero, zero in (0, 1, 2, 3)),
        ("users_at_once", users, users is None or users >= 1),
        ("optimizer_bits", optimizer_bits, optimizer_bits in (8, 32)),
        ("prompt_tokens", prompt_tokens, prompt_tokens is None or prompt_tokens >= 2),
        ("tokens_per_second", tokens_per_second, tokens_per_second is None or tokens_per_second > 0),
    ):  # fmt: skip
        if not allowed:
            raise ValueError(
                f"{name} can't be {value}: gpus and users from 1, zero 0 to 3, 8 or 32 bits, rates above 0"
            )
    users, _ = users_of_a_process(per_step, users, gpus)
    config: Any = model_configuration(profile.model.name)
    model = build(config, profile.model, "meta")
    sizes = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    total, trained = sum(p.numel() for p in model.parameters()), sum(sizes)
    rollouts = profile.rollouts
    prompt = prompt_tokens or PROMPT_BASE + PROMPT_PER_ITEM * profile.data.window
    shape = Shape(users, rollouts.group_size, prompt, rollouts.max_new_tokens)
    layers = profile.model.lora_layers or config.num_hidden_layers
    factor = calibrate(config, profile.model)
    kept = kept_bytes(config, shape, layers, profile.model.lora_rank, trained, factor)
    exact = {
        "parameters": (HALF * (total - trained) + FULL * trained) // (gpus if zero == 3 else 1),
        "gradients": FULL * trained // (gpus if zero >= 2 else 1),
        "optimiser state": adam_bytes(sizes, optimizer_bits) // (gpus if zero >= 1 else 1),
    }
    working = working_bytes(config, shape)
    per_user = {"trained": shape.row, "sampled": rollouts.group_size * rollouts.max_new_tokens}
    tokens = {name: per_step * count for name, count in per_user.items()}
    seconds = sum(tokens.values()) / gpus / tokens_per_second if tokens_per_second else None
    return Plan(
        model=profile.model.name,
        parameters=total,
        trained=trained,
        shape=shape,
        exact=exact,
        estimated={**{f"activations: {part}": size for part, size in kept.items()}, "working logits": working},
        rollout=kv_cache_bytes(config, users * rollouts.group_size, prompt + rollouts.max_new_tokens),
        tokens_per_step=tokens,
        hours=seconds * profile.training.steps / 3600 if seconds else None,
    )


def with_model(profile: Profile, name: str | None = None, full: bool = False) -> Profile:
    """The profile with another model, or with all weights trained."""
    model = replace(profile.model, name=name or profile.model.name)
    return replace(profile, model=replace(model, lora_rank=0, lora_layers=None) if full else model)


def plan_table(plan: Plan, profile: Profile, gpus: int, zero: int) -> str:
    """The plan as lines for a terminal."""

    def line(name: str, size: int, kind: str) -> str:
        return f"  {name:24}{size / 1e9:10.2f} GB  {kind}"

    tokens = plan.tokens_per_step
    users = f"{plan.shape.users} user{'s' if plan.shape.users > 1 else ''}"
    length = f"{plan.shape.prompt_tokens} + {plan.shape.group_size} x {plan.shape.new_tokens} tokens"
    lines = [
        f"{plan.model}: {plan.parameters:,} parameters, {plan.trained:,} trained",
        f"{gpus} GPU{'s' if gpus > 1 else ''}, ZeRO stage {zero}, {users} at once, {length} each",
        "",
        "memory per GPU",
        *(line(name, size, "exact") for name, size in plan.exact.items()),
        *(line(name, size, "estimate, training pass") for name, size in plan.estimated.items()),
        line("keys and values", plan.rollout, "estimate, sampling"),
        line("largest moment", plan.peak, "estimate"),
        "",
        f"tokens per step           {tokens['trained']:,} trained, {tokens['sampled']:,} sampled (at most)",
    ]
    if plan.hours is None:
        return "\n".join([*lines, "hours                     give --tokens-per-second, of one GPU"])
    return "\n".join(
        [*lines, f"hours                     {plan.hours:.1f} for {profile.training.steps:,} steps, estimate"]
    )
