"""Profiles: complete, known by name, overridable by key, and clear when something is wrong."""

import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from rrec_lib.core import profiles
from rrec_lib.core.profiles import available_profiles, load_profile, parse_overrides
from rrec_lib.plan.estimate import with_model
from rrec_lib.training.run_folder import run_name, settings_of


def test_every_shipped_profile_loads():
    assert available_profiles() == ["cpu", "paper", "smoke", "t4"]
    for name in available_profiles():
        assert load_profile(name).name == name


def test_an_unknown_profile_names_the_choices():
    with pytest.raises(ValueError, match="unknown profile 'gpu'; choose one of cpu, paper, smoke, t4"):
        load_profile("gpu")


def test_overrides_change_one_key_and_nothing_else():
    plain, changed = load_profile("smoke"), load_profile("smoke", {"training.steps": 99, "model.dtype": "bfloat16"})
    assert (changed.training.steps, changed.model.dtype) == (99, "bfloat16")
    assert load_profile("smoke", ["warmup.skills=[drift]"]).warmup.skills == ("drift",)
    restored = dataclasses.replace(changed, training=plain.training, model=plain.model)
    assert restored == plain


def test_a_hub_model_is_pinned_and_another_one_is_not_looked_for_at_its_commit():
    for name in available_profiles():
        model = load_profile(name).model
        assert (len(model.revision or "") == 40) == ("/" in model.name)
    pinned = load_profile("t4").model
    assert load_profile("t4", {"model.name": "owner/other"}).model.revision is None
    assert with_model(load_profile("t4"), "owner/other").model.revision is None
    assert load_profile("t4", {"model.name": pinned.name}).model == pinned == with_model(load_profile("t4")).model
    for overrides in (
        {"model.revision": "v1", "model.name": "owner/other"},
        {"model.name": "x", "model.revision": "v1"},
    ):
        assert load_profile("t4", overrides).model.revision == "v1"


@pytest.mark.parametrize("key", ["steps", "training.speed", "trainer.steps", "name.first", "adapters.recpo"])
def test_an_unknown_key_is_refused(key):
    with pytest.raises(ValueError, match="unknown profile key"):
        load_profile("smoke", {key: 1})


COUNT, NATURAL = "a whole number from 1 to 1,000,000,000", "a whole number from 0 to 1,000,000,000"
SKILLS = "a list of taste, association, drift or idle"
HEAT, RATE = "a number from 0.001 to 1,000", "a number above 0, at most 1"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("training.steps", "many", COUNT), ("training.steps", 2.5, COUNT), ("training.steps", True, COUNT),
     ("training.steps", -1, COUNT), ("training.steps", 10**10, COUNT), ("warmup.skills", ["haste"], SKILLS),
     ("rollouts.temperature", "hot", HEAT), ("rollouts.temperature", -1, HEAT), ("reward.temperature", 1e-300, HEAT),
     ("rollouts.group_size", 0, "a whole number from 2 to 1,024"), ("training.learning_rate", float("nan"), RATE),
     ("training.learning_rate", 2, RATE), ("reward.beta", 1.5, "a number from 0 to 1"),
     ("data.min_target_rating", "6 stars", "a number from −1,000,000,000"),
    ("model.lora_layers", "all", COUNT + " or null"),
     ("model.lora_rank", -1, "whole number from 0 to 4,096"), ("model.lora_alpha", 10**6, "number from 1 to 4,096"),
     ("training.advantage", "ppo", "grpo or rloo"), ("rollouts.vllm", "on", "colocate or server or null"),
     ("model.dtype", "half", "auto or float32 or bfloat16 or float16"), ("model.name", 3, "text"),
     ("model.name", "", "text")],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused(key, value, expected):
    with pytest.raises(ValueError, match=re.escape(key) + f" takes .*{expected}.*, got {re.escape(repr(value))}"):
        load_profile("smoke", {key: value})


def test_every_field_of_every_section_refuses_what_it_cannot_take():
    """Neither a number below 0 nor one that overflows fits a field, nor an empty text or list."""
    smoke = load_profile("smoke")
    sections = [s for s in dataclasses.fields(smoke) if dataclasses.is_dataclass(getattr(smoke, s.name))]
    keys = [f"{s.name}.{f.name}" for s in sections for f in dataclasses.fields(getattr(smoke, s.name))]
    assert len(keys) > 35
    wrong: tuple[object, ...] = (-1, 10**20, float("inf"), [], "")
    for key in keys:
        for value in wrong:
            if (key, value) in (("warmup.skills", []), ("data.min_target_rating", -1)):
                continue  # none: the bare marker; a scale of ratings may have both signs
            with pytest.raises(ValueError, match=f"^{re.escape(key)} takes .*, got {re.escape(repr(value))}$"):
                load_profile("smoke", {key: value})


def test_a_file_with_a_value_outside_its_range_is_refused(tmp_path, monkeypatch):
    content = yaml.safe_load((profiles.resource("notebooks/profiles") / "smoke.yaml").read_text(encoding="utf-8"))
    content["training"]["item_refresh_steps"] = 0
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(profiles, "resource", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"training.item_refresh_steps takes a whole number from 1 to .*, got 0"):
        load_profile("mine")


def test_a_section_is_checked_wherever_it_is_changed():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        dataclasses.replace(load_profile("smoke").training, steps=0)


def test_overrides_may_be_texts_as_papermill_hands_them_on():
    assert load_profile("smoke", "training.steps=3").training.steps == 3
    changed = load_profile("smoke", ["training.steps=3", "rollouts.top_k=0"])
    assert (changed.training.steps, changed.rollouts.top_k) == (3, 0)
    with pytest.raises(ValueError, match="KEY=VALUE"):
        load_profile("smoke", "fast")


def test_overrides_are_read_from_text():
    overrides = parse_overrides(
        ["training.steps=7", "training.learning_rate=1e-4", "model.lora_layers=null", "a.b=c=d"]
    )
    assert overrides["a.b"] == "c=d"
    del overrides["a.b"]
    changed = load_profile("smoke", overrides)
    assert (changed.training.steps, changed.training.learning_rate, changed.model.lora_layers) == (7, 1e-4, None)
    for wrong in ("training.steps", "training.steps=[1"):
        with pytest.raises(ValueError, match=r"KEY=VALUE|can't be read"):
            parse_overrides([wrong])


@pytest.mark.parametrize("text", ["010", "0x10", "1:30", "1_000"])
def test_whole_numbers_that_yaml_reads_as_others_are_refused(text):
    with pytest.raises(ValueError, match=f"training.steps={text}' would be .*usual digits"):
        parse_overrides([f"training.steps={text}"])
    assert parse_overrides(["a.b=0", "a.c=-3", "a.d= 12 ", "a.e=true"]) == {
        "a.b": 0, "a.c": -3, "a.d": 12, "a.e": True,
    }  # fmt: skip


def test_a_profile_with_a_missing_or_unknown_entry_is_refused(tmp_path, monkeypatch):
    folder = profiles.resource("notebooks/profiles")
    content = yaml.safe_load((folder / "smoke.yaml").read_text(encoding="utf-8"))
    content["training"]["stepz"] = content["training"].pop("steps")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(profiles, "resource", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"mine.yaml: missing \['training.steps'\], unknown \['training.stepz'\]"):
        load_profile("mine")


def test_the_paper_profile_has_the_papers_figures():
    paper = load_profile("paper")
    assert (paper.rollouts.group_size, paper.rollouts.temperature, paper.rollouts.top_k) == (4, 1.5, 200)
    assert (paper.rollouts.max_new_tokens, paper.reward.beta, paper.reward.ndcg_k) == (512, 0.05, 1000)
    assert (paper.training.learning_rate, paper.training.users_per_step, paper.training.clip_eps) == (1e-5, 24, 0.2)
    assert paper.model.lora_rank == 4
    assert paper.warmup.steps == 0  # a departure that the paper does not make


def test_a_new_knob_is_one_line(tmp_path, monkeypatch):
    """A copy of the module with a field more: read, checked, overridden, told apart and tabled without another edit."""
    source = Path(profiles.__file__).read_text(encoding="utf-8")
    line = "    grad_norm_limit: Positive"
    more = '    patience: Count = _knob("evaluations without gain", 3)\n'
    assert source.count(line) == 1
    module = ModuleType("with_a_knob_more")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(source.replace(line, more + line), vars(module))
    content = yaml.safe_load((profiles.resource("notebooks/profiles") / "smoke.yaml").read_text(encoding="utf-8"))
    content["training"]["patience"] = 7
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    usual = module.load_profile("smoke")
    assert usual.training.patience == 3
    row = "evaluations without gain; a whole number from 1 to 1,000,000,000 | 3 |"
    assert f"| `training.patience` | {row}" in module.knobs_table()
    assert re.search(r"`warmup.skills` \|.*\| \[taste, association, drift\] \|", module.knobs_table())
    monkeypatch.setattr(module, "resource", lambda _: tmp_path)
    assert module.load_profile("mine").training.patience == 7
    changed = module.load_profile("mine", "training.patience=5")
    assert changed.training.patience == 5
    with pytest.raises(ValueError, match=r"training.patience takes a whole number from 1 to 1,000,000,000, got 0"):
        module.load_profile("mine", "training.patience=0")
    assert settings_of(usual) == settings_of(load_profile("smoke"))  # what was run before has no other identity now
    assert settings_of(changed)["profile"]["training"]["patience"] == 5
    assert run_name(changed, "base", 0) != run_name(module.load_profile("mine"), "base", 0)
