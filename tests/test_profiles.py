"""Profiles: complete, known by name, overridable by key, and clear when something is wrong."""

import dataclasses

import pytest
import yaml

from rrec_lib import profiles
from rrec_lib.profiles import available_profiles, load_profile


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
    restored = dataclasses.replace(changed, training=plain.training, model=plain.model)
    assert restored == plain


@pytest.mark.parametrize("key", ["steps", "training.speed", "trainer.steps", "name.first", "adapters.recpo"])
def test_an_unknown_key_is_refused(key):
    with pytest.raises(ValueError, match="unknown profile key"):
        load_profile("smoke", {key: 1})


def test_a_profile_with_a_missing_or_unknown_entry_is_refused(tmp_path, monkeypatch):
    folder = profiles.resource("notebooks/profiles")
    content = yaml.safe_load((folder / "smoke.yaml").read_text(encoding="utf-8"))
    content["training"]["stepz"] = content["training"].pop("steps")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(profiles, "resource", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"mine.yaml: training: missing \['steps'\], unknown \['stepz'\]"):
        load_profile("mine")


def test_the_paper_profile_has_the_papers_figures():
    paper = load_profile("paper")
    assert (paper.rollouts.group_size, paper.rollouts.temperature, paper.rollouts.top_k) == (4, 1.5, 200)
    assert (paper.rollouts.max_new_tokens, paper.reward.beta, paper.reward.ndcg_k) == (512, 0.05, 1000)
    assert (paper.training.learning_rate, paper.training.users_per_step, paper.training.clip_eps) == (1e-5, 24, 0.2)
    assert paper.model.lora_rank == 4
    assert paper.warmup.steps == 0  # a departure that the paper does not make
