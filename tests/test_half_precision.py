"""Half precision without a GPU: one hash for a model everywhere, soft caps kept, overflow said, and a step of each
trainer in bfloat16 and float16 for every family."""

import dataclasses
import json

import pytest
import torch
from families import FAMILIES, SIZE
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config

from rrec_lib import hardware
from rrec_lib.evaluation import mean_ndcg, sample_examples
from rrec_lib.models import load_language_model, resolve, with_soft_caps
from rrec_lib.packing import pack, packed_forward
from rrec_lib.policy import encode, load_policy, weights_hash
from rrec_lib.profiles import load_profile
from rrec_lib.recommend import load_recommender
from rrec_lib.trainer import recpo_config
from rrec_lib.training import train_recpo, warm_up
from rrec_lib.warmup import warmup_arguments

HALVES = {"bfloat16": True, "float16": False}  # whether the pretended card multiplies bfloat16


@pytest.fixture
def pretend_cuda(monkeypatch):
    """CUDA says that it is there, with bfloat16 or without; all is computed on the CPU."""

    def pretend(half):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: HALVES[half])
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(hardware, "device", lambda: torch.device("cpu"))

    return pretend


@pytest.mark.parametrize("half", HALVES)
def test_recorded_adapters_load_on_a_gpu(pretend_cuda, half):
    pretend_cuda(half)
    policy = load_recommender(load_profile("cpu")).model.policy
    assert policy.compute_dtype == getattr(torch, half)
    frozen = {p.dtype for p in policy.model.parameters() if not p.requires_grad}
    trained = {p.dtype for p in policy.model.parameters() if p.requires_grad}
    assert (frozen, trained) == ({policy.compute_dtype}, {torch.float32})
    assert all(buffer.dtype != policy.compute_dtype for buffer in policy.model.buffers())  # rotary frequencies


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
def test_recorded_adapters_rank_as_in_float32(pretend_cuda, half):
    """The 64 sample rows of the cpu profile, with the reasoning that each type writes."""

    def ndcg():
        profile = load_profile("cpu", {"model.dtype": "auto" if torch.cuda.is_available() else "float32"})
        recommender = load_recommender(profile)
        test = list(recommender_data(profile)["test"])
        rows = sample_examples(test, profile.evaluation.sample_size, profile.evaluation.max_rows_per_user, 0)
        return mean_ndcg(recommender.model, rows)

    full = ndcg()
    pretend_cuda(half)
    assert ndcg() == pytest.approx(full, abs=0.005)


def recommender_data(profile):
    from rrec_lib.data.examples import prepare_profile

    return prepare_profile(profile)


@pytest.mark.parametrize("saved_in", [torch.float32, torch.bfloat16])
def test_a_model_has_one_hash_whatever_it_is_computed_in(tmp_path, pretend_cuda, smoke_profile, saved_in):
    model, tokenizer = load_language_model("tiny-random")
    model.to(saved_in).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    profile = dataclasses.replace(smoke_profile.model, name=str(tmp_path), dtype="auto")
    hashes = {load_policy(profile).base_hash}
    for half in HALVES:
        pretend_cuda(half)
        policy = load_policy(profile)
        hashes.add(policy.base_hash)
        if saved_in == torch.float32:  # the control: after the cast there would be another
            assert weights_hash(policy.model.get_base_model()) not in hashes
    assert hashes == {weights_hash(model)}


def gemma(softcap):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, pad_token_id=2, eos_token_id=2, bos_token_id=1, attn_logit_softcapping=softcap,
        initializer_range=1.0, **SIZE,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def test_soft_caps_are_kept_in_every_version():
    """A cap that binds, and the log-probabilities of a group against capped attention, one head at a time."""
    groups = pack([[5, 6, 7, 8]], [[9, 10], [11, 12]], [2, 2], 2, torch.device("cpu"))
    capped = with_soft_caps(gemma(0.5))
    assert capped.config._attn_implementation == "eager"
    with torch.no_grad():
        found = packed_forward(capped, groups).logprobs
        eager, free = gemma(0.5), gemma(None)
        eager.set_attn_implementation("eager")
        alone = torch.stack([eager(torch.tensor([[5, 6, 7, 8, *c]])).logits[0, 3:5] for c in ([9, 10], [11, 12])])
        expected = alone.log_softmax(-1).gather(-1, torch.tensor([[[9], [10]], [[11], [12]]]))[..., 0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        uncapped = packed_forward(free, groups).logprobs
    assert (found - uncapped).abs().max() > 1e-3  # the cap matters here
    plain = load_language_model("tiny-random")[0].config  # a family without caps keeps fused attention
    assert plain._attn_implementation == "sdpa"


def test_states_that_overflow_end_in_a_sentence(smoke_profile, tmp_path, pretend_cuda):
    """Weights of 1e4: states of float16 are infinite, those of float32 are not."""
    model, tokenizer = load_language_model("tiny-random")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(1e7)
            layer.mlp.up_proj.weight.mul_(1e3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    profile = dataclasses.replace(smoke_profile.model, name=str(tmp_path), dtype="float16")
    with pytest.raises(ValueError, match=r"overflow in float16; .*--set model\.dtype=float32"):
        encode(load_policy(profile), [[5, 6, 7], [5, 8]])
    fine = load_policy(dataclasses.replace(profile, dtype="float32"))
    assert encode(fine, [[5, 6, 7], [5, 8]]).isfinite().all()


def test_weights_that_are_no_numbers_end_in_a_sentence_too(smoke_profile):
    policy = load_policy(smoke_profile.model)
    with torch.no_grad():
        policy.model.get_base_model().model.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="its weights are damaged"):
        encode(policy, [[5, 6, 7]])


def test_both_trainers_scale_the_loss_in_float16(smoke_profile, tmp_path, monkeypatch):
    from rrec_lib import configuration, warmup

    for module in (configuration, warmup):
        monkeypatch.setattr(module, "needs_loss_scaling", lambda requested: True)
    assert warmup_arguments(smoke_profile, tmp_path).fp16
    assert recpo_config(smoke_profile, tmp_path).fp16
    for module in (configuration, warmup):
        monkeypatch.setattr(module, "needs_loss_scaling", lambda requested: False)
    assert not warmup_arguments(smoke_profile, tmp_path).fp16
    assert not recpo_config(smoke_profile, tmp_path).fp16


@pytest.fixture
def family(request, tmp_path):
    """A folder with a tiny random model of a family."""
    config_class, template = FAMILIES[request.param]
    tokenizer = AutoTokenizer.from_pretrained(resolve("smollm2-135m-instruct"))
    tokenizer.chat_template = template
    torch.manual_seed(0)
    config = config_class(vocab_size=len(tokenizer), pad_token_id=2, eos_token_id=2, bos_token_id=1, **SIZE)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


THIN = [("qwen2", "bfloat16"), ("gemma2", "float16")]
REST = [(name, half) for name in FAMILIES for half in HALVES if (name, half) not in THIN]


@pytest.mark.parametrize(
    ("family", "half"),
    [*THIN, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in REST)],
    indirect=["family"],
)
def test_a_step_of_each_trainer(family, half, smoke_profile, smoke_dataset, tmp_path):
    """Finite, near float32's, and not equal to it."""
    losses = {}
    for dtype in (half, "float32"):
        profile = dataclasses.replace(
            smoke_profile, model=dataclasses.replace(smoke_profile.model, name=str(family), dtype=dtype)
        )
        policy = load_policy(profile.model)
        before = weights_hash(policy.model, only_trainable=True)
        warm_up(policy, smoke_dataset, profile, tmp_path / dtype / "warmup", max_steps=2)
        warmed = weights_hash(policy.model, only_trainable=True)
        trainer = train_recpo(policy, smoke_dataset, profile, tmp_path / dtype / "recpo", max_steps=2, callbacks=[])
        assert len({before, warmed, weights_hash(policy.model, only_trainable=True)}) == 3
        log = json.loads((tmp_path / dtype / "warmup" / "log.jsonl").read_text().splitlines()[0])
        losses[dtype] = log["item_loss"], trainer.state.log_history[0]["item_loss"]
    assert losses[half][0] == pytest.approx(losses["float32"][0], rel=0.05)
    assert losses[half][0] != losses["float32"][0]
    assert torch.isfinite(torch.tensor(losses[half])).all()
