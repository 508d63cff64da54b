"""Profiles: every size and hyperparameter of a run and its range, read from ``notebooks/profiles/*.yaml``."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from rrec_lib.paths import resource

# The upper ends are far above any use: beyond them numbers overflow, or a run fails and blames its learning rate.
_MOST = 10**9
Count = Annotated[int, Field(ge=1, le=_MOST, description=f"a whole number from 1 to {_MOST:,}")]
Natural = Annotated[int, Field(ge=0, le=_MOST, description=f"a whole number from 0 to {_MOST:,}")]
Rank = Annotated[int, Field(ge=0, le=4096, description="a whole number from 0 to 4,096")]
Alpha = Annotated[int, Field(ge=1, le=4096, description="a whole number from 1 to 4,096")]
Group = Annotated[int, Field(ge=2, le=1024, description="a whole number from 2 to 1,024")]
Rate = Annotated[float, Field(gt=0, le=1, description="a number above 0, at most 1")]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3, description="a number from 0.001 to 1,000")]
Epsilon = Annotated[float, Field(gt=0, le=1e3, description="a number above 0, at most 1,000")]
Weight = Annotated[float, Field(ge=0, le=1e3, description="a number from 0 to 1,000")]
Rating = Annotated[float, Field(ge=0, le=5, description="a number from 0 to 5")]
Share = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]
Name = Annotated[str, Field(min_length=1, description="text")]

_STRICT = ConfigDict(strict=True)  # true is no number, "5" is no number


@dataclass(frozen=True, config=_STRICT)
class ModelProfile:
    name: Name  # "smollm2-135m-instruct", "tiny-random", a local folder, or a hub id
    dtype: Literal["auto", "float32", "bfloat16", "float16"]  # auto is measured
    lora_rank: Rank | None  # None or 0 trains all weights instead
    lora_alpha: Alpha
    lora_layers: Count | None  # adapt only the last n layers, so that gradients stop below them; None adapts all
    revision: Name | None = None  # commit, tag or branch of a hub id; None takes the newest


@dataclass(frozen=True, config=_STRICT)
class DataProfile:
    dataset: Name  # "movielens", or a folder that `rrec prepare` has written
    max_users: Count | None  # keep the users with the most recent activity; None keeps all
    catalogue_size: Count | None  # keep the films rated most often in the first 80 % of the log
    min_target_rating: Rating  # only films "liked" this much become targets
    k_core: Natural
    window: Count  # history length in the prompt


@dataclass(frozen=True, config=_STRICT)
class RolloutProfile:
    group_size: Group  # G
    max_new_tokens: Count
    temperature: Temperature
    top_k: Natural  # 0: among all
    vllm: Literal["colocate", "server"] | None  # lets vLLM write, through TRL; None samples with the policy itself


@dataclass(frozen=True, config=_STRICT)
class RewardProfile:
    beta: Share  # weight of R_c in the fused reward
    ndcg_k: Count
    temperature: Temperature  # τ of the item softmax


@dataclass(frozen=True, config=_STRICT)
class WarmupProfile:
    steps: Natural  # 0 leaves the stage out
    users_per_step: Count
    targets_per_user: Count  # the most successive targets of a user that share a row
    sentence_every: Natural  # steps; in each such a sentence before the marker, else the prompt's end at once. 0: never
    item_negatives: Natural  # items drawn into each step: beside the batch's targets, or as the catalogue's fresh rows
    token_weight: Weight  # of the sentences' cross-entropy, beside the item term's 1
    learning_rate: Rate


@dataclass(frozen=True, config=_STRICT)
class TrainingProfile:
    steps: Count
    users_per_step: Count  # B, of all processes together
    users_at_once: Count | None  # of one pass in one process; more passes are accumulated. None: all of its users
    learning_rate: Rate
    warmup_steps: Natural  # of the learning rate
    clip_eps: Epsilon
    advantage: Literal["grpo", "rloo"]
    optimizer: Name  # a name of Transformers', such as "adamw_torch" or "paged_adamw_8bit"
    item_softmax: Literal["batch", "catalogue"]  # over the batch as in the paper; the warm-up's too
    item_refresh_steps: Count
    save_steps: Count


@dataclass(frozen=True, config=_STRICT)
class EvaluationProfile:
    sample_size: Count  # test examples, drawn by seed
    max_rows_per_user: Count
    bootstrap_samples: Count
    batch_size: Count


@dataclass(frozen=True, config=_STRICT)
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


def load_profile(name: str, overrides: dict[str, Any] | Sequence[str] | str | None = None) -> Profile:
    """Read a profile by name.

    Args:
        name: one of :func:`available_profiles`.
        overrides: dotted keys to new values, such as ``{"training.steps": 5}``; or texts for :func:`parse_overrides`,
            one or several, as papermill's ``-p overrides training.steps=5`` hands them on.

    Raises:
        ValueError: for an unknown profile, section or key, a missing one, or a value outside its range.
    """
    if name not in available_profiles():
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(available_profiles())}")
    path = resource("notebooks/profiles") / f"{name}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    hints = get_type_hints(Profile)
    sections = {key: _section(hints[key], raw.get(key), path.name, key) for key in hints if key not in _PLAIN}
    profile = Profile(name=name, adapters=raw.get("adapters") or {}, lab=raw.get("lab") or {}, **sections)
    if not isinstance(overrides, dict):
        overrides = parse_overrides([overrides] if isinstance(overrides, str) else overrides or [])
    for key, value in overrides.items():
        if key == "model.name" and value != profile.model.name and "model.revision" not in overrides:
            profile = override(profile, "model.revision", None)  # it is of the other model
        profile = override(profile, key, value)
    return profile


def run_name(profile: Profile, stage: str, seed: int) -> str:
    """A folder's name for a run from a stage: another for every other setting, so that none resumes another's."""
    settings = hashlib.sha256(repr((profile, stage, seed)).encode()).hexdigest()
    return f"{profile.name}-from-{stage}-seed-{seed}-{settings[:8]}"


_PLAIN = {"name", "adapters", "lab"}


def _section(cls: type[T], raw: dict[str, Any] | None, file: str, section: str) -> T:
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    given = raw or {}
    if set(given) != names:
        raise ValueError(
            f"{file}: {section}: missing {sorted(names - set(given))}, unknown {sorted(set(given) - names)}"
        )
    return _checked(cls, section, {name: _number(cls, name, value) for name, value in given.items()})


def _checked(cls: type[T], section: str, values: dict[str, Any]) -> T:
    """Make a section; a value that does not fit is named, with what would."""
    try:
        return cls(**values)
    except ValidationError as problem:
        name = str(problem.errors()[0]["loc"][0])
        expected = _expected(get_type_hints(cls, include_extras=True)[name])
        raise ValueError(f"{section}.{name} takes {expected}, got {values[name]!r}") from None


def _expected(hint: Any) -> str:
    """What a field takes, in words: its type's description, its choices, null."""
    if hint is NoneType:
        return "null"
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_expected(part) for part in get_args(hint))
    return get_args(hint)[1].description


def _number(cls: type, name: str, value: Any) -> Any:
    """YAML takes 1e-4 for text."""
    hint = get_type_hints(cls)[name]
    if isinstance(value, str) and float in (hint, *get_args(hint)):
        with suppress(ValueError):
            return float(value)
    return value


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


def override(profile: Profile, key: str, value: Any) -> Profile:
    """The profile with one value changed; ``ValueError`` for an unknown key or a value outside its range."""
    section, _, field = key.partition(".")
    current = getattr(profile, section, None)
    if current is None or section in _PLAIN or field not in {f.name for f in fields(current)}:
        raise ValueError(f"unknown profile key {key!r}; write section.field, such as 'training.steps'")
    values = {f.name: getattr(current, f.name) for f in fields(current)}
    changed = _checked(type(current), section, {**values, field: _number(type(current), field, value)})
    return replace(profile, **{section: changed})
