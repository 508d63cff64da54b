"""Profiles: every size and hyperparameter of a run, read from ``notebooks/profiles/*.yaml``."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_type_hints

import yaml

from rrec_lib.paths import resource


@dataclass(frozen=True)
class ModelProfile:
    name: str  # "smollm2-135m-instruct", "tiny-random", a local folder, or a hub id
    dtype: str  # "auto" (measured), "float32", "bfloat16" or "float16"
    lora_rank: int | None  # None or 0 trains all weights instead
    lora_alpha: int
    lora_layers: int | None  # adapt only the last n layers, so that gradients stop below them; None adapts all
    revision: str | None = None  # commit, tag or branch of a hub id; None takes the newest


@dataclass(frozen=True)
class DataProfile:
    dataset: str  # "movielens"
    max_users: int | None  # keep the users with the most recent activity; None keeps all
    catalogue_size: int | None  # keep the films rated most often in the first 80 % of the log
    min_target_rating: float  # only films "liked" this much become targets
    k_core: int
    window: int  # history length in the prompt


@dataclass(frozen=True)
class RolloutProfile:
    group_size: int  # G
    max_new_tokens: int
    temperature: float
    top_k: int
    vllm: str | None  # "colocate" or "server" lets vLLM write, through TRL; None samples with the policy itself


@dataclass(frozen=True)
class RewardProfile:
    beta: float  # weight of R_c in the fused reward
    ndcg_k: int
    temperature: float  # τ of the item softmax


@dataclass(frozen=True)
class WarmupProfile:
    steps: int
    users_per_step: int
    targets_per_user: int  # the most successive targets of a user that share a row
    sentence_every: int  # steps; in each such a sentence before the marker, else the prompt's end at once. 0: never
    item_negatives: int  # items drawn into each step: beside the batch's targets, or as the catalogue's fresh rows
    token_weight: float  # of the sentences' cross-entropy, beside the item term's 1
    learning_rate: float


@dataclass(frozen=True)
class TrainingProfile:
    steps: int
    users_per_step: int  # B, of all processes together
    users_at_once: int | None  # of one pass in one process; more passes are accumulated. None: all of its users
    learning_rate: float
    warmup_steps: int  # of the learning rate
    clip_eps: float
    advantage: str  # "grpo" or "rloo"
    optimizer: str  # a name of Transformers', such as "adamw_torch" or "paged_adamw_8bit"
    item_softmax: str  # "batch" as in the paper, or "catalogue"; the warm-up's too
    item_refresh_steps: int
    save_steps: int


@dataclass(frozen=True)
class EvaluationProfile:
    sample_size: int  # test examples, drawn by seed
    max_rows_per_user: int
    bootstrap_samples: int
    batch_size: int


@dataclass(frozen=True)
class Profile:
    name: str
    model: ModelProfile
    data: DataProfile
    rollouts: RolloutProfile
    reward: RewardProfile
    warmup: WarmupProfile
    training: TrainingProfile
    evaluation: EvaluationProfile
    adapters: dict[str, str | None]  # stage ("warmup", "recpo") -> folder of a recorded adapter
    lab: dict[str, Any]  # knobs of rrec_lib.lab.LabConfig that differ from its defaults, for a live run


T = TypeVar("T")


def available_profiles() -> list[str]:
    """Names of the profiles that ship with the project."""
    return sorted(path.stem for path in resource("notebooks/profiles").glob("*.yaml"))


def load_profile(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """Read a profile by name.

    Args:
        name: one of :func:`available_profiles`.
        overrides: dotted keys to new values, such as ``{"training.steps": 5}``.

    Raises:
        ValueError: for an unknown profile, section or key, or a missing one.
    """
    if name not in available_profiles():
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(available_profiles())}")
    path = resource("notebooks/profiles") / f"{name}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    hints = get_type_hints(Profile)
    sections = {key: _section(hints[key], raw.get(key), f"{path.name}: {key}") for key in hints if key not in _PLAIN}
    profile = Profile(name=name, adapters=raw.get("adapters") or {}, lab=raw.get("lab") or {}, **sections)
    for key, value in (overrides or {}).items():
        if key == "model.name" and value != profile.model.name and "model.revision" not in (overrides or {}):
            profile = _override(profile, "model.revision", None)  # it is of the other model
        profile = _override(profile, key, value)
    return profile


_PLAIN = {"name", "adapters", "lab"}


def _section(cls: type[T], raw: dict[str, Any] | None, where: str) -> T:
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    given = set(raw or {})
    if given != names:
        raise ValueError(f"{where}: missing {sorted(names - given)}, unknown {sorted(given - names)}")
    return cls(**(raw or {}))


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``"training.steps=5"`` as ``{"training.steps": 5}``; values are YAML, ``null`` and ``1e-4`` included.

    Raises:
        ValueError: for a setting without ``=``, or whose value is not YAML.
    """
    overrides = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"a setting reads KEY=VALUE, such as training.steps=5, got {setting!r}")
        try:
            overrides[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"the value of {setting!r} can't be read; quote text that has special signs") from None
    return overrides


def _override(profile: Profile, key: str, value: Any) -> Profile:
    section, _, field = key.partition(".")
    current = getattr(profile, section, None)
    if current is None or section in _PLAIN or field not in {f.name for f in fields(current)}:
        raise ValueError(f"unknown profile key {key!r}; write section.field, such as 'training.steps'")
    expected = get_type_hints(type(current))[field]
    if expected is float and not isinstance(value, bool):
        with suppress(TypeError, ValueError):  # 1 for 1.0, and 1e-4, which YAML takes for text
            value = float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"{key} takes {getattr(expected, '__name__', expected)}, got {value!r}")
    return replace(profile, **{section: replace(current, **{field: value})})
