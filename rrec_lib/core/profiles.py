"""Profiles: every size and hyperparameter of a run, its range and meaning, read from ``notebooks/profiles/*.yaml``.

A knob is a field of one section below. From there YAML and the command line are checked, TRL's configuration is built
(:mod:`rrec_lib.training.configuration`), runs are told apart and the book's table is made. A field with a default may
be missing in a file.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from rrec_lib.core.paths import resource
from rrec_lib.core.reading import DamagedError, read_json

USUAL = "cpu"  # the profile where none is named
MADE_AT_ONCE = ("movielens",)  # data sets that a profile prepares itself, by its sizes
MANIFEST = "manifest.json"  # of a folder of prepared data
PREPARE_AGAIN = "delete the folder and run `rrec prepare` again"


def _number(value: Any) -> Any:
    """YAML takes 1e-4 for text; ``true`` is no number."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


_Whole = Annotated[int, Field(strict=True)]  # neither true nor "5" is a number
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_number)]
# The upper ends are far above any use: beyond them numbers overflow, or a run fails and blames its learning rate.
_MOST = 10**9
Count = Annotated[_Whole, Field(ge=1, le=_MOST, description=f"a whole number from 1 to {_MOST:,}")]
Natural = Annotated[_Whole, Field(ge=0, le=_MOST, description=f"a whole number from 0 to {_MOST:,}")]
Rank = Annotated[_Whole, Field(ge=0, le=4096, description="a whole number from 0 to 4,096")]
Alpha = Annotated[_Whole, Field(ge=1, le=4096, description="a whole number from 1 to 4,096")]
Group = Annotated[_Whole, Field(ge=2, le=1024, description="a whole number from 2 to 1,024")]
Rate = Annotated[_Real, Field(gt=0, le=1, description="a number above 0, at most 1")]
Temperature = Annotated[_Real, Field(ge=1e-3, le=1e3, description="a number from 0.001 to 1,000")]
Positive = Annotated[_Real, Field(gt=0, le=_MOST, description=f"a number above 0, at most {_MOST:,}")]
Epsilon = Annotated[_Real, Field(gt=0, le=1e3, description="a number above 0, at most 1,000")]
Weight = Annotated[_Real, Field(ge=0, le=1e3, description="a number from 0 to 1,000")]
Rating = Annotated[_Real, Field(ge=-_MOST, le=_MOST, description=f"a number from −{_MOST:,} to {_MOST:,}")]
Share = Annotated[_Real, Field(ge=0, le=1, description="a number from 0 to 1")]
Switch = Annotated[bool, Field(strict=True, description="true or false")]
Skill = Annotated[
    Literal["taste", "association", "drift", "idle"], Field(description="taste, association, drift or idle")
]
Name = Annotated[str, Field(strict=True, min_length=1, description="text")]

_CLOSED = ConfigDict(extra="forbid")


def _knob(meaning: str, default: Any = ...) -> Any:
    return Field(default, description=meaning)


@dataclass(frozen=True, config=_CLOSED)
class ModelProfile:
    name: Name = _knob("smollm2-135m-instruct, tiny-random, a local folder, or a hub id")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _knob("of matrix products; auto is measured")
    lora_rank: Rank | None = _knob("null or 0 trains all weights instead")
    lora_alpha: Alpha = _knob("LoRA's scale, times its rank")
    lora_layers: Count | None = _knob(
        "adapt only the last n layers, so that gradients stop below them; null adapts all"
    )
    revision: Name | None = _knob("commit, tag or branch of a hub id; null takes the newest", None)


@dataclass(frozen=True, config=_CLOSED)
class DataProfile:
    dataset: Name = _knob("movielens, or a folder that `rrec prepare` has written")
    max_users: Count | None = _knob("keep the users with the most recent activity; null keeps all")
    catalogue_size: Count | None = _knob("keep the films rated most often in the first 80 % of the log; null keeps all")
    min_target_rating: Rating = _knob("only films liked this much become targets")
    k_core: Natural = _knob("users and items with fewer ratings are left out")
    window: Count = _knob("history length in the prompt")


@dataclass(frozen=True, config=_CLOSED)
class RolloutProfile:
    group_size: Group = _knob("reasonings sampled for a user, G")
    max_new_tokens: Count = _knob("of a reasoning")
    temperature: Temperature = _knob("of sampling")
    top_k: Natural = _knob("sample among the k likeliest tokens; 0 among all")
    vllm: Literal["colocate", "server"] | None = _knob(
        "let vLLM write, through TRL; null samples with the policy itself"
    )


@dataclass(frozen=True, config=_CLOSED)
class RewardProfile:
    beta: Share = _knob("weight of the similarity reward R_c in the fused reward")
    ndcg_k: Count = _knob("cutoff of the ranking reward R_d")
    temperature: Temperature = _knob("τ of the item softmaxes")


@dataclass(frozen=True, config=_CLOSED)
class WarmupProfile:
    steps: Natural = _knob("0 leaves the stage out")
    users_per_step: Count = _knob("rows of all processes together")
    targets_per_user: Count = _knob("the most successive targets of a user that are packed into a row")
    skills: tuple[Skill, ...] = _knob("whose texts stand before the marker, in turns; none: the bare marker")
    token_share: Share = _knob("of the reasonings, how many are learned token by token; the others are read alone")
    item_negatives: Natural = _knob(
        "items drawn into a step, beside the batch's targets or as the catalogue's fresh rows"
    )
    token_weight: Weight = _knob("of the reasonings' cross-entropy, beside the item term's 1")
    learning_rate: Rate = _knob("at its highest")


@dataclass(frozen=True, config=_CLOSED)
class TrainingProfile:
    steps: Count = _knob("optimiser steps of RecPO")
    users_per_step: Count = _knob("users in a step, B, of all processes together")
    users_at_once: Count | None = _knob("of one pass in one process, the rest is accumulated; null: all of its users")
    learning_rate: Rate = _knob("behind its warm-up")
    warmup_steps: Natural = _knob("in which the learning rate rises")
    clip_eps: Epsilon = _knob("clip range of the ratios, ε")
    advantage: Literal["grpo", "rloo"] = _knob("advantage estimator")
    optimizer: Name = _knob("a name of Transformers', such as adamw_torch or paged_adamw_8bit")
    item_softmax: Literal["batch", "catalogue"] = _knob(
        "over the batch as in the paper, or the catalogue; the warm-up's too"
    )
    item_refresh_steps: Count = _knob("encode the whole item table every n steps")
    save_steps: Count = _knob("steps between checkpoints")
    item_negatives: Natural = _knob("items drawn into a step of RecPO, as in the warm-up", 0)
    token_weight: Weight = _knob("of the token term, beside the item term's 1; 0 rewards no token", 1.0)
    token_normalization: Literal["trajectory", "sum", "batch", "constant"] = _knob("of the token term", "trajectory")
    logq_correction: Switch = _knob("correct the in-batch softmax for popularity", False)
    grad_norm_limit: Positive = _knob("a larger norm of the gradient stops a run; recorded runs stay below 3", 1e4)


@dataclass(frozen=True, config=_CLOSED)
class EvaluationProfile:
    sample_size: Count = _knob("test examples, drawn by seed")
    max_rows_per_user: Count = _knob("of the sample")
    bootstrap_samples: Count = _knob("of an interval")
    batch_size: Count = _knob("examples scored at once")


@dataclass(frozen=True, config=_CLOSED)
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


def available_profiles() -> list[str]:
    """Names of the profiles that ship with the project."""
    return sorted(path.stem for path in resource("notebooks/profiles").glob("*.yaml"))


def load_profile(name: str, overrides: dict[str, Any] | Sequence[str] | str | None = None) -> Profile:
    """Read a profile by name. Prepared data keep the sizes that they were made with, and its section says so.

    Args:
        name: one of :func:`available_profiles`.
        overrides: dotted keys to new values, such as ``{"training.steps": 5}``; or texts for :func:`parse_overrides`,
            one or several, as papermill's ``-p overrides training.steps=5`` hands them on.

    Raises:
        ValueError: for an unknown profile, section or key, a missing one, a value outside its range, or a size that
            prepared data do not have.
    """
    if name not in available_profiles():
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(available_profiles())}")
    path = resource("notebooks/profiles") / f"{name}.yaml"
    profile = _checked({"name": name, **yaml.safe_load(path.read_text(encoding="utf-8"))}, f"{path.name}: ")
    if not isinstance(overrides, dict):
        overrides = parse_overrides([overrides] if isinstance(overrides, str) else overrides or [])
    for key, value in overrides.items():
        if key == "model.name" and value != profile.model.name and "model.revision" not in overrides:
            profile = override(profile, "model.revision", None)  # it is of the other model
        profile = override(profile, key, value)
    return _as_prepared(profile, overrides)


def _as_prepared(profile: Profile, asked: dict[str, Any]) -> Profile:
    """With the sizes of the folder of prepared data that a profile names, if it names one."""
    folder = Path(profile.data.dataset)
    if profile.data.dataset in MADE_AT_ONCE or not (folder / MANIFEST).is_file():
        return profile
    made = read_json(folder / MANIFEST, "arguments", remedy=PREPARE_AGAIN)["arguments"]
    if not isinstance(made, dict):
        raise DamagedError(folder / MANIFEST, "its arguments are no object", PREPARE_AGAIN)
    sizes = {"max_users": None, "catalogue_size": None}  # of recipes that have no such size
    sizes |= {field: made[field] for field in vars(profile.data) if field in made and field != "dataset"}
    for field, size in sizes.items():
        key = f"data.{field}"
        if key in asked and asked[key] != size:
            raise ValueError(f"{folder} is prepared already, with {field} {_as_yaml(size)}, so {key}={asked[key]} "
                             "would change nothing; leave it out, or prepare the source with it")  # fmt: skip
        profile = override(profile, key, size)
    return profile


def override(profile: Profile, key: str, value: Any) -> Profile:
    """The profile with one value changed; ``ValueError`` for an unknown key or a value outside its range."""
    known = dict(_knobs())
    if key not in known:
        near = get_close_matches(key, known, 1) or [one for one in known if one.endswith(f".{key}")]
        meant = f"did you mean {near[0]!r}?" if near else "write section.field, such as 'training.steps'"
        raise ValueError(f"unknown profile key {key!r}; {meant}")
    section, _, field = key.partition(".")
    values = asdict(profile)
    values[section][field] = value
    return _checked(values)


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
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"the value of {setting!r} can't be read; quote text that has special signs") from None
        if type(value) is int and str(value) != text.strip().removeprefix("+"):  # YAML reads 010 as 8 and 1:30 as 90
            raise ValueError(f"{setting!r} would be {value}; write whole numbers in their usual digits")
        overrides[key.strip()] = value
    return overrides


def non_defaults(section: Any) -> dict[str, Any]:
    """The values of a section that are not its fields' defaults: what tells runs apart, whenever a field was added."""
    optional = {name: info.default for name, info in section.__pydantic_fields__.items() if not info.is_required()}
    return {name: value for name, value in vars(section).items() if name not in optional or value != optional[name]}


def knobs_table() -> str:
    """Every knob with its meaning, what it takes, and its value: of all profiles, or of each where they differ."""
    profiles = [load_profile(name) for name in available_profiles()]
    rows = [["knob", "what it is; what it takes", "value"], ["---"] * 3]
    for key, info in _knobs():
        section, _, field = key.partition(".")
        found = [_as_yaml(getattr(getattr(profile, section), field)) for profile in profiles]
        short = [value if len(value) < 32 else f"{value[:8]}…" for value in found]
        each = ", ".join(f"{profile.name} {value}" for profile, value in zip(profiles, short, strict=True))
        rows.append([f"`{key}`", f"{info.description}; {_expected(key)}", short[0] if len(set(short)) == 1 else each])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _as_yaml(value: Any) -> str:
    """A value on one line, as a profile has it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n")[0]


def _knobs() -> Iterator[tuple[str, Any]]:
    """Dotted keys and pydantic's account of each field."""
    for section, hint in get_type_hints(Profile).items():
        for name, info in getattr(hint, "__pydantic_fields__", {}).items():
            yield f"{section}.{name}", info


def _checked(values: dict[str, Any], where: str = "") -> Profile:
    """A profile of nested dictionaries; what does not fit is named, with what would."""
    try:
        return TypeAdapter(Profile).validate_python({"adapters": {}, "lab": {}, **values})
    except ValidationError as problem:
        errors = problem.errors()
    kinds = {
        kind: sorted(".".join(map(str, error["loc"])) for error in errors if error["type"] == kind)
        for kind in ("missing", "unexpected_keyword_argument")
    }
    if any(kinds.values()):
        raise ValueError(f"{where}missing {kinds['missing']}, unknown {kinds['unexpected_keyword_argument']}")
    key = ".".join(map(str, errors[0]["loc"][:2]))
    raise ValueError(f"{where}{key} takes {_expected(key)}, got {_value(values, key)!r}")


def _value(values: dict[str, Any], key: str) -> Any:
    section, _, field = key.partition(".")
    return values[section][field] if field and isinstance(values[section], dict) else values[section]


def _expected(key: str) -> str:
    """What a knob or section takes, in words: its type's description, its choices, null."""
    section, _, field = key.partition(".")
    hint = get_type_hints(Profile)[section]
    return _words(get_type_hints(hint, include_extras=True)[field]) if field else "a section of knobs"


def _words(hint: Any) -> str:
    if hint is NoneType:
        return "null"
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {_words(get_args(hint)[0])}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_words, get_args(hint)))
    return next(info.description for info in get_args(hint)[1:] if getattr(info, "description", None))
