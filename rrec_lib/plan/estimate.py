"""What a run on GPUs will take: memory per GPU by part, tokens per step, hours. No weights are loaded.

Weights, gradients and optimiser state follow exactly from the model, which is built on the ``meta`` device. Activations
and caches are estimates, see :mod:`rrec_lib.plan.memory`.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from rrec_lib.core.hardware import users_of_a_process
from rrec_lib.core.profiles import Profile, override
from rrec_lib.core.reading import read_json
from rrec_lib.data.examples import LOADERS
from rrec_lib.data.prepared import MANIFEST, read_manifest
from rrec_lib.plan.memory import (
    FULL,
    WIDTH,
    Shape,
    adam_bytes,
    arithmetic,
    build,
    calibrate,
    kept_bytes,
    kv_cache_bytes,
    merged_bytes,
    working_bytes,
)

MODELS = Path(__file__).parent / "models"
# Tokens as SmolLM2 counts MovieLens: a user's instruction and history lines, an item's instruction and its own lines.
PROMPT_BASE, PROMPT_PER_ITEM, ITEM_BASE, ITEM_OWN = 60, 24, 30, 30
ITEMS_PER_ROW = 8  # the default of packing.packed_states


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
        rollout: bytes while reasonings are sampled, at another time than the pass: keys and values of all of a step's
            users of a process, whose prompts are kept once each, and the linear weights as they are merged or rounded.
        passes: how many training passes a GPU makes in an optimiser step.
        tokens_per_step: of all GPUs together: ``sampled``, ``trained`` in groups and in ``items``, and read without a
            gradient: ``prompts`` before sampling, the item ``table``'s share of a step, ``states`` of what vLLM wrote.
        hours: of the whole run, by ``sampling``, ``training`` and ``reading``; None without rates.
    """

    model: str
    parameters: int
    trained: int
    shape: Shape
    exact: dict[str, int]
    estimated: dict[str, int]
    rollout: int
    passes: int
    tokens_per_step: dict[str, int]
    hours: dict[str, float] | None

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
    return AutoConfig.for_model(**read_json(path))


def catalogue_items(profile: Profile) -> int:
    """How many items a profile's data has, at most.

    Raises:
        ValueError: for an unknown dataset.
    """
    name = profile.data.dataset
    if name in LOADERS:
        return profile.data.catalogue_size or len(LOADERS[name]()[1])
    if (Path(name) / MANIFEST).is_file():
        return int(read_manifest(name)["rows"]["items"])
    raise ValueError(f"unknown dataset {name!r}; choose one of {', '.join(LOADERS)}, or a prepared folder")


def make_plan(
    profile: Profile,
    gpus: int = 1,
    zero: int = 2,
    users_at_once: int | None = None,
    prompt_tokens: int | None = None,
    item_tokens: int | None = None,
    optimizer_bits: int = 32,
    rates: tuple[float, float] | None = None,
) -> Plan:
    """Plan a RecPO run of a profile.

    Args:
        profile: its model, LoRA (``lora_rank`` 0: all weights are trained), rollouts and steps.
        gpus: how many take part.
        zero: DeepSpeed's stage: 0 divides nothing, 1 the optimiser state, 2 the gradients too, 3 the parameters too.
        users_at_once: users of one pass on one GPU; more are accumulated. The profile's, if not given.
        prompt_tokens: length of a user's prompt; a guess from the history window if not given.
        item_tokens: length of an item's prompt; a film's, if not given.
        optimizer_bits: 32, or 8 for bitsandbytes' AdamW.
        rates: tokens that one GPU samples in a second, and tokens that it trains on.

    Raises:
        ValueError: for an unknown model, a number out of range, or users that the GPUs can't share equally.
    """
    per_step = profile.training.users_per_step
    users = profile.training.users_at_once if users_at_once is None else users_at_once
    for name, value, allowed in (
        ("gpus", gpus, gpus >= 1), ("zero", zero, zero in (0, 1, 2, 3)),
        ("users_at_once", users, users is None or users >= 1),
        ("optimizer_bits", optimizer_bits, optimizer_bits in (8, 32)),
        ("prompt_tokens", prompt_tokens, prompt_tokens is None or prompt_tokens >= 2),
        ("item_tokens", item_tokens, item_tokens is None or item_tokens > ITEM_BASE),
        ("rates", rates, rates is None or all(rate > 0 for rate in rates)),
    ):  # fmt: skip
        if not allowed:
            raise ValueError(
                f"{name} can't be {value}: gpus and users from 1, zero 0 to 3, 8 or 32 bits, rates above 0, prompts of"
                f" 2 tokens or more, items' of {ITEM_BASE + 1} or more"
            )
    users, passes = users_of_a_process(per_step, users, gpus)
    config: Any = model_configuration(profile.model.name)
    model, dtype = build(config, profile.model, "meta"), arithmetic(profile.model)
    sizes = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    total, trained = sum(p.numel() for p in model.parameters()), sum(sizes)
    rollouts = profile.rollouts
    prompt = prompt_tokens or PROMPT_BASE + PROMPT_PER_ITEM * profile.data.window
    shape = Shape(users, rollouts.group_size, prompt, rollouts.max_new_tokens)
    layers = profile.model.lora_layers or config.num_hidden_layers
    factor = calibrate(config, profile.model)
    own = item_tokens - ITEM_BASE if item_tokens else ITEM_OWN
    whole = profile.training.item_softmax == "catalogue"
    items = profile.training.item_negatives if whole else per_step  # that are encoded in a step, at most
    rows = item_rows(-(-items // gpus), own)
    kept = kept_bytes(config, shape, layers, profile.model.lora_rank, trained, factor, dtype)
    kept_for_items = kept_bytes(config, rows, layers, profile.model.lora_rank, 0, factor, dtype)
    exact = {
        "parameters": (WIDTH[dtype] * (total - trained) + FULL * trained) // (gpus if zero == 3 else 1),
        "gradients": FULL * trained // (gpus if zero >= 2 else 1),
        "optimiser state": adam_bytes(sizes, optimizer_bits) // (gpus if zero >= 1 else 1),
    }
    tokens = {
        "sampled": per_step * rollouts.group_size * rollouts.max_new_tokens,
        "trained": per_step * shape.row,
        "items": item_rows(items, own).tokens,
        "prompts": per_step * prompt,
        "table": item_rows(catalogue_items(profile), own).tokens // profile.training.item_refresh_steps,
        "states": per_step * shape.row if rollouts.vllm else 0,
    }
    return Plan(
        model=profile.model.name,
        parameters=total,
        trained=trained,
        shape=shape,
        exact=exact,
        estimated={
            **{f"activations: {part}": size for part, size in kept.items()},
            "activations: items": kept_for_items["layers"] + kept_for_items["attention"],
            "working logits": working_bytes(config, shape, dtype),
        },
        rollout=kv_cache_bytes(config, users * passes, prompt + rollouts.group_size * rollouts.max_new_tokens, dtype)
        + merged_bytes(model, profile.model, dtype),
        passes=passes,
        tokens_per_step=tokens,
        hours=_hours(tokens, profile.training.steps, gpus, rates, bool(profile.model.lora_rank)) if rates else None,
    )


def item_rows(items: int, own: int) -> Shape:
    """Items as they are packed behind their instruction."""
    return Shape(-(-items // ITEMS_PER_ROW), min(items, ITEMS_PER_ROW), ITEM_BASE, own)


def _hours(tokens: dict[str, int], steps: int, gpus: int, rates: tuple[float, float], lora: bool) -> dict[str, float]:
    """Hours by what is done. Reading does half of a training pass's products, a third if all weights are trained."""
    sampled, trained = rates
    seconds = {
        "sampling": tokens["sampled"] / sampled,
        "training": (tokens["trained"] + tokens["items"]) / trained,
        "reading": (tokens["prompts"] + tokens["table"] + tokens["states"]) / trained / (2 if lora else 3),
    }
    return {part: value * steps / gpus / 3600 for part, value in seconds.items()}


def with_model(profile: Profile, name: str | None = None, full: bool = False, dtype: str | None = None) -> Profile:
    """The profile with another model, with all weights trained, or with another type of matrix products."""
    model = profile.model if name in (None, profile.model.name) else replace(profile.model, name=name, revision=None)
    profile = replace(profile, model=replace(model, lora_rank=0, lora_layers=None) if full else model)
    return profile if dtype is None else override(profile, "model.dtype", dtype)


def plan_table(plan: Plan, profile: Profile, gpus: int, zero: int) -> str:
    """The plan as lines for a terminal."""

    def line(name: str, size: int, kind: str) -> str:
        return f"  {name:24}{size / 1e9:10.2f} GB  {kind}"

    tokens, training = plan.tokens_per_step, profile.training
    users = f"{plan.passes} pass{'es' if plan.passes > 1 else ''} of {plan.shape.users} user"
    users += "s" if plan.shape.users > 1 else ""
    length = f"{plan.shape.prompt_tokens} + {plan.shape.group_size} x {plan.shape.new_tokens} tokens"
    states = f", {tokens['states']:,} for states" if tokens["states"] else ""
    lines = [
        f"{plan.model}: {plan.parameters:,} parameters, {plan.trained:,} trained, {arithmetic(profile.model)}",
        f"{gpus} GPU{'s' if gpus > 1 else ''}, ZeRO stage {zero}; a step is {users}, {length} each",
        "",
        "memory per GPU",
        *(line(name, size, "exact") for name, size in plan.exact.items()),
        *(line(name, size, "estimate, training pass") for name, size in plan.estimated.items()),
        line("texts and merged weights", plan.rollout, "estimate, sampling"),
        line("largest moment", plan.peak, "estimate"),
        "",
        "tokens per step, at most",
        f"  sampled {tokens['sampled']:>26,}",
        f"  trained {tokens['trained']:>26,}  and {tokens['items']:,} of items",
        f"  read    {tokens['prompts']:>26,}  of prompts, {tokens['table']:,} of the item table, which is encoded anew"
        f" every {training.item_refresh_steps} steps{states}",
        "",
    ]
    if plan.hours is None:
        return "\n".join(
            [*lines, "hours: give --sampled-tokens-per-second and --trained-tokens-per-second, of one GPU"]
        )
    parts = {**plan.hours, "together": sum(plan.hours.values())}
    return "\n".join(
        [*lines, f"hours for {training.steps:,} steps", *(f"  {name:24}{hours:10.1f}" for name, hours in parts.items())]
    )
