"""Adapters: they come back as saved, appear whole, and are refused where their states would mean nothing."""

import copy
import dataclasses
import json
import os

import pytest
import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file

from rrec_lib.core.paths import resource
from rrec_lib.core.profiles import load_profile
from rrec_lib.model import adapters
from rrec_lib.model.adapters import CARD, WEIGHTS, load_adapter, save_adapter
from rrec_lib.model.load import load_language_model
from rrec_lib.model.policy import load_policy, weights_hash


def test_an_adapter_comes_back_as_it_was_saved(smoke_profile, trained, tmp_path):
    save_adapter(trained, tmp_path / "a", "catalogue", {"steps": 3})
    first, second = load_policy(smoke_profile.model), load_policy(smoke_profile.model)
    fresh = weights_hash(first.model, True)
    card = load_adapter(first, tmp_path / "a", "catalogue")
    assert card["steps"] == 3
    assert weights_hash(first.model, True) != fresh
    save_adapter(first, tmp_path / "a", "catalogue", {"steps": 4})  # replaces the folder
    assert load_adapter(second, tmp_path / "a", "catalogue")["steps"] == 4
    # Rounded to bfloat16 once; after that nothing is lost.
    assert weights_hash(trained.model, True) != weights_hash(first.model, True)
    assert weights_hash(first.model, True) == weights_hash(second.model, True)
    for (_, a), (_, b) in zip(trained.model.named_parameters(), first.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2**-8, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_plain_peft_loads_an_adapter(trained, tmp_path):
    save_adapter(trained, tmp_path / "a", "catalogue", {})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [CARD, "adapter_config.json", WEIGHTS]
    base, tokenizer = load_language_model("tiny-random")
    ids = tokenizer("Alien (1979)", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        alone = base(ids).logits.clone()
        plain = PeftModel.from_pretrained(base, str(tmp_path / "a")).eval()(ids).logits
        own = trained.model.eval()(ids).logits
    torch.testing.assert_close(plain, own, atol=2e-2, rtol=2e-2)  # rounded to bfloat16 as it was saved
    assert (plain - alone).abs().max() > 10 * (plain - own).abs().max()
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None  # a path of the machine that trained it says nothing elsewhere


@pytest.mark.parametrize("stage", ["warmup", "recpo"])
def test_plain_peft_reads_the_shipped_adapters(stage):
    folder = resource(str(load_profile("cpu").adapters[stage]))
    config, card = PeftConfig.from_pretrained(str(folder)), json.loads((folder / CARD).read_text())
    assert (config.r, config.lora_alpha) == (card["rank"], card["alpha"])
    names = {name.rpartition(".lora_")[0].removeprefix("base_model.model.") for name in load_file(folder / WEIGHTS)}
    assert set(config.target_modules) == names


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_save_that_fails_leaves_the_old_adapter(trained, tmp_path, monkeypatch, step):
    save_adapter(trained, tmp_path / "a", "catalogue", {"steps": 3})
    real = os.replace

    def fails(source, target):
        if step == "write" or source.name == "new":
            raise OSError("disk full")
        real(source, target)

    # When the log is written, the weights lie there already.
    monkeypatch.setattr(*((adapters, "log_lines") if step == "write" else (os, "replace")), fails)
    with pytest.raises(OSError, match="disk full"):
        save_adapter(trained, tmp_path / "a", "catalogue", {"steps": 4}, [{"loss": 1.0}])
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert load_adapter(trained, tmp_path / "a", "catalogue")["steps"] == 3


def test_other_weights_prompts_and_catalogues_are_recognised(smoke_profile, trained, tmp_path):
    save_adapter(trained, tmp_path / "a", "catalogue", {})

    def refused(policy, catalogue, what):
        before = weights_hash(policy.model, True)
        with pytest.raises(ValueError, match=rf"trained on something else \({what}\).*rrec train"):
            load_adapter(policy, tmp_path / "a", catalogue)
        assert weights_hash(policy.model, True) == before

    digits = "[0-9a-f]{16}"
    other = load_policy(smoke_profile.model, seed=1)
    refused(other, "catalogue", f"base weights {digits}, now {digits}")
    refused(trained, "another", "catalogue catalogue, now another")
    trained.tokenizer = copy.deepcopy(trained.tokenizer)
    trained.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    refused(trained, "catalogue", f"prompts or chat template {digits}, now {digits}")
    refused(trained, "another", ".*; catalogue catalogue, now another")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora_rank": 2}, "LoRA rank 4 and alpha 8, the profile 2 and 8; set model.lora_rank"),
        ({"lora_alpha": 3}, "LoRA rank 4 and alpha 8, the profile 4 and 3; set model.lora_rank"),
        ({"lora_layers": 1}, "adapts other layers than the profile; set model.lora_layers"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(smoke_profile, trained, tmp_path, change, words):
    save_adapter(trained, tmp_path / "a", "catalogue", {})
    other = load_policy(dataclasses.replace(smoke_profile.model, **change))
    with pytest.raises(ValueError, match=words):
        load_adapter(other, tmp_path / "a", "catalogue")


@pytest.mark.parametrize("missing", [CARD, WEIGHTS, None])
def test_a_missing_file_is_named(trained, tmp_path, missing):
    folder = tmp_path / ("a" if missing else "nothing")
    save_adapter(trained, tmp_path / "a", "catalogue", {})
    if missing:
        (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"no adapter in .*{CARD} or {WEIGHTS} is missing.*rrec train"):
        load_adapter(trained, folder, "catalogue")
