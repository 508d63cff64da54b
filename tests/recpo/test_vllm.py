"""Rollouts by vLLM: TRL's own code runs in both modes; only the engine behind it is replaced by a small real sampler.

The engine holds its own copy of the model and knows the policy's weights only through TRL's synchronisation.
"""

import importlib.util
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from transformers import AutoModelForCausalLM
from trl.generation import vllm_generation

from rrec_lib.cli.main import main
from rrec_lib.core.private_names import micro_batches
from rrec_lib.core.profiles import load_profile
from rrec_lib.model.load import load_tokenizer
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import MARKER, marker_ids
from rrec_lib.recpo.rollouts import close
from rrec_lib.recpo.vllm import STOP, importance_weights, sample_closed, weighted_rollouts
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.configuration import recpo_config
from rrec_lib.training.recpo_trainer import RecPOTrainer
from rrec_lib.training.stages import train_recpo


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-random")


@pytest.fixture(scope="module")
def policy(smoke_profile):
    return load_policy(smoke_profile.model)


def tokens(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


class Scripted:
    """Stands for TRL's generation object: returns given texts; token t of a text has log-probability −t − 1."""

    def __init__(self, scripts, missing=()):
        self.scripts, self.missing, self.asked = scripts, missing, None

    def generate(self, prompts, images, num_generations):
        self.asked = prompts, num_generations
        logprobs = [[[-float(t + 1)] for t in range(len(script))] for script in self.scripts]
        for row, token in self.missing:
            logprobs[row][token] = [None]
        return prompts, self.scripts, logprobs, None


TEXTS = [
    "They like crime.\n<answer>",
    "crime <answer></answer>",  # `></` is one token, so the marker overshoots and is appended instead
    "They like films about",  # cut off by the length
    "fine<|im_end|><answer>",  # after the end of the turn nothing counts
]


def test_log_probabilities_stay_with_their_tokens(tokenizer):
    scripts = [tokens(tokenizer, text) for text in TEXTS]
    generation = Scripted(scripts, missing=[(0, 1)])
    closed, logprobs = sample_closed(generation, tokenizer, [[5, 6], [7]], 2, {tokenizer.eos_token_id})
    assert generation.asked == ([[5, 6], [5, 6], [7], [7]], 2)
    assert closed == [close(script, tokenizer, {tokenizer.eos_token_id}) for script in scripts]
    assert [c.finished for c in closed] == [True, True, False, False]
    for row, one in enumerate(closed):
        assert one.ids[: one.sampled] == scripts[row][: one.sampled]
        expected = [-float(t + 1) for t in range(one.sampled)]
        assert len(logprobs[row]) == one.sampled < len(scripts[row]) + (row in (0, 2))  # rows 1 and 3 lost tokens
        if row == 0:
            assert math.isnan(logprobs[0].pop(1))
            expected.pop(1)
        assert logprobs[row] == expected


def test_log_probabilities_that_do_not_fit_are_refused(tokenizer):
    class Short(Scripted):
        def generate(self, *args, **kwargs):
            prompts, scripts, logprobs, _ = super().generate(*args, **kwargs)
            return prompts, scripts, [row[1:] for row in logprobs], None

    class Silent(Scripted):
        def generate(self, *args, **kwargs):
            return [], self.scripts, None, None

    for kind in (Short, Silent):
        with pytest.raises(ValueError, match=r"no log-probability per token.*--logprobs-mode processed_logprobs"):
            sample_closed(kind([[5, 6]]), tokenizer, [[1]], 1, set())


# -- weights -----------------------------------------------------------------------------------------------------------


REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "vllm_importance_ratio.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["cases"])
def test_weights_are_those_of_trl(case):
    """Recorded from TRL: a padded batch with a missing value, and a row above every upper bound."""
    logprobs, sampling = (torch.tensor(REFERENCE[name], dtype=torch.float64) for name in ("logprobs", "sampling"))
    mask, mode = torch.tensor(REFERENCE["mask"]), case["mode"]
    ours = importance_weights(logprobs, sampling, mask, mode, case["low"], case["high"])
    torch.testing.assert_close(ours, torch.tensor(case["ratio"], dtype=torch.float64))
    unbounded = importance_weights(logprobs, sampling, mask, mode, None, 1e9)
    assert not torch.equal(ours, unbounded), "the bounds must bind for the comparison to mean something"


def test_weights_by_hand():
    logprobs = torch.tensor([[1.0, 0.5, 0.25]]).log()
    sampling = torch.tensor([[0.5, 0.5, 0.05]]).log()
    mask = torch.tensor([[1, 1, 1]])
    torch.testing.assert_close(importance_weights(logprobs, sampling, mask), torch.tensor([[2.0, 1.0, 3.0]]))
    torch.testing.assert_close(
        importance_weights(logprobs, sampling, mask, "token_mask"), torch.tensor([[2.0, 1.0, 0.0]])
    )
    low = importance_weights(logprobs, sampling, mask, "token_truncate", 1.5, None)
    torch.testing.assert_close(low, torch.tensor([[2.0, 1.5, 5.0]]))
    low = importance_weights(logprobs, sampling, mask, "token_mask", 1.5, None)
    torch.testing.assert_close(low, torch.tensor([[2.0, 0.0, 5.0]]))
    unknown = torch.tensor([[math.nan, 0.0, 0.0]]) + sampling
    hidden = importance_weights(logprobs, unknown, torch.tensor([[1, 1, 0]]), "sequence_truncate")
    torch.testing.assert_close(hidden, torch.ones(1, 3))  # neither what is unknown nor what is masked counts
    for mode, expected in (("sequence_truncate", 3.0), ("sequence_mask", 0.0)):  # the product is 10
        assert importance_weights(logprobs, sampling, mask, mode).tolist() == [[expected] * 3]
    for wrong in ("token", "word_mask", "sequence_clip"):
        with pytest.raises(ValueError, match=f"unknown mode '{wrong}'"):
            importance_weights(logprobs, sampling, mask, wrong)


def test_states_and_own_log_probabilities_are_those_of_plain_passes(policy, tokenizer, alone):
    prompts = [[5, 6, 7, 8], [9, 10]]
    closed = [close(tokens(tokenizer, text), tokenizer) for text in ("a b<answer>", "They like", "<answer>", "c d e")]
    exact = []
    for row, one in enumerate(closed):
        prompt = prompts[row // 2]
        ids = torch.tensor([prompt + one.ids])
        with torch.no_grad():
            logits = policy.model(ids).logits[0, len(prompt) - 1 : -1] / 1.5
        chosen = logits.log_softmax(-1).gather(-1, torch.tensor(one.ids)[:, None])[:, 0]
        exact.append(chosen[: one.sampled].tolist())
    result = weighted_rollouts(policy.model, tokenizer, prompts, closed, exact, 1.5)
    with torch.no_grad():
        states = alone(policy.model, [prompts[row // 2] + one.ids for row, one in enumerate(closed)])
    torch.testing.assert_close(result.rollouts.states, states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.weights, torch.ones_like(result.weights), atol=1e-4, rtol=0)
    assert result.weights.shape == (4, max(len(c.ids) for c in closed))
    halved = [[value + math.log(2) for value in row] for row in exact]
    weights = weighted_rollouts(policy.model, tokenizer, prompts, closed, halved, 1.5).weights
    for row, one in zip(weights, closed, strict=True):
        torch.testing.assert_close(row[: one.sampled], torch.full((one.sampled,), 0.5), atol=1e-4, rtol=0)
        assert (row[one.sampled :] == 1).all()
    hot = weighted_rollouts(policy.model, tokenizer, prompts, closed, exact, 1.0)  # another temperature, other ratios
    assert hot.log_ratios.abs().max() > 1e-3


# -- through TRL -------------------------------------------------------------------------------------------------------


class Engine:
    """Samples with its own model, which only TRL's weight synchronisation makes the policy's."""

    def __init__(self, model, tokenizer):
        self.model = AutoModelForCausalLM.from_config(language_model(model).config, dtype=torch.float32).eval()
        self.tokenizer, self.syncs, self.requests, self.generator = tokenizer, 0, [], torch.Generator().manual_seed(0)

    def load(self, named):
        own = dict(self.model.named_parameters())
        for name, value in named:
            own.pop(name).data.copy_(value)
        return own

    @torch.no_grad()
    def write(self, prompt, options):
        self.requests.append(options)
        ids: list[int] = []
        logprobs: list[float] = []
        while len(ids) < options["max_tokens"]:
            logits = self.model(torch.tensor([[*prompt, *ids]])).logits[0, -1] / options["temperature"]
            if options["top_k"]:
                logits[logits < logits.topk(options["top_k"]).values[-1]] = -math.inf
            distribution = logits.log_softmax(-1)
            ids.append(int(torch.multinomial(distribution.exp(), 1, generator=self.generator)))
            logprobs.append(float(distribution[ids[-1]]))
            text = self.tokenizer.decode(ids)
            if ids[-1] == self.tokenizer.eos_token_id or any(stop in text for stop in options["stop"]):
                break
        return ids, logprobs


class FakeLLM:
    """What TRL's colocate mode uses of ``vllm.LLM``."""

    engine: Engine
    last: "FakeLLM"

    def __init__(self, **options):
        self.options, FakeLLM.last = options, self
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self.engine.load))
        executor = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=executor)

    def reset_prefix_cache(self):
        self.engine.syncs += 1

    def generate(self, prompts, sampling_params, use_tqdm):
        outputs = []
        for prompt in prompts:
            ids, values = self.engine.write(prompt["prompt_token_ids"], vars(sampling_params))
            logprobs = [{i: SimpleNamespace(rank=1, logprob=v)} for i, v in zip(ids, values, strict=True)]
            one = SimpleNamespace(token_ids=ids, logprobs=logprobs)
            outputs.append(SimpleNamespace(prompt_token_ids=prompt["prompt_token_ids"], outputs=[one]))
        return outputs


class FakeClient:
    """What TRL's server mode uses of its ``VLLMClient``."""

    engine: Engine

    def __init__(self, **options):
        self.options = options

    def init_communicator(self, device):
        pass

    def get_server_info(self):
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata, named):
        assert {name for name, _, _ in metadata} == {name for name, _ in self.engine.model.named_parameters()}
        assert self.engine.load(named) == {}

    def update_named_param(self, name, value):  # of TRL's earlier versions
        self.engine.load([(name, value)])

    def reset_prefix_cache(self):
        self.engine.syncs += 1

    def generate(self, prompts, n, generation_kwargs, **options):
        written = [self.engine.write(p, {**options, **generation_kwargs}) for p in prompts for _ in range(n)]
        logprobs = [[[value] for value in values] for _, values in written]
        return {"prompt_ids": prompts, "completion_ids": [ids for ids, _ in written], "logprobs": logprobs}


@pytest.fixture
def engine(monkeypatch, tokenizer):
    """Put the engine where TRL looks for vLLM."""
    policy = load_policy(load_profile("smoke").model)
    engine = Engine(policy.model, tokenizer)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):  # TRL sets them for vLLM
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    monkeypatch.setattr("rrec_lib.training.configuration.is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    for name, value in (("LLM", FakeLLM), ("SamplingParams", SimpleNamespace), ("VLLMClient", FakeClient)):
        monkeypatch.setattr(vllm_generation, name, value, raising=False)
    monkeypatch.setattr(FakeLLM, "engine", engine, raising=False)
    monkeypatch.setattr(FakeClient, "engine", engine, raising=False)
    return engine


def trained(mode, dataset, folder, top_k=0, **overrides):
    profile = load_profile("smoke", {"rollouts.vllm": mode, "rollouts.top_k": top_k})
    policy = load_policy(profile.model)
    return train_recpo(policy, dataset, profile, folder, callbacks=[], **overrides)


def logged(trainer, name):
    return [row[name] for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_both_modes_train_through_trl_and_the_engine_follows_the_policy(mode, engine, smoke_dataset, tmp_path):
    # A large step: an engine that missed one would sample from another policy.
    trainer = trained(mode, smoke_dataset, tmp_path, learning_rate=0.05)
    steps = trainer.state.max_steps
    assert trainer.state.global_step == steps
    assert engine.syncs == steps
    assert max(logged(trainer, "sampling_log_ratio")) < 1e-4
    wanted = {"temperature": 1.0, "top_k": 0, "max_tokens": 8, "logprobs": 0, **STOP}
    assert all({key: request[key] for key in wanted} == wanted for request in engine.requests)
    batch = micro_batches(trainer)[0]
    assert batch["sampling_weights"].shape == batch["completion_ids"].shape
    torch.testing.assert_close(batch["sampling_weights"], torch.ones_like(batch["sampling_weights"]), atol=1e-3, rtol=0)
    if mode == "colocate":
        assert FakeLLM.last.options["logprobs_mode"] == "processed_logprobs"


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_synchronising_leaves_half_precision_weights_bit_for_bit(mode, engine, smoke_dataset, tmp_path):
    profile = load_profile("smoke", {"rollouts.vllm": mode})
    policy, generator = load_policy(profile.model), torch.Generator().manual_seed(0)
    frozen = [parameter for parameter in policy.model.parameters() if not parameter.requires_grad]
    for parameter in frozen:  # as on a GPU
        parameter.data = parameter.data.bfloat16()
    generation = RecPOTrainer(policy, recpo_config(profile, tmp_path), smoke_dataset, profile).vllm_generation
    before = [parameter.data.clone() for parameter in frozen]

    def changed():
        return sum(not torch.equal(now, then) for now, then in zip(frozen, before, strict=True))

    for _ in range(50):
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.data += 1e-2 * torch.randn(parameter.shape, generator=generator)
        generation.sync_weights()
        assert changed() == 0
    sent = dict(engine.model.named_parameters())
    for name, layer in language_model(policy.model).named_modules():
        if isinstance(layer, LoraLinear):
            base: Any = layer.get_base_layer()
            whole = base.weight.float() + layer.get_delta_weight("default")
            torch.testing.assert_close(sent[f"{name}.weight"].float(), whole, rtol=0.01, atol=1e-3)
    type(generation).sync_weights(generation)  # TRL's own
    assert changed() > 0


def test_an_engine_that_misses_an_update_shows(engine, smoke_dataset, tmp_path, monkeypatch):
    original, calls = vllm_generation.VLLMGeneration.sync_weights, []
    monkeypatch.setattr(
        vllm_generation.VLLMGeneration, "sync_weights", lambda self: calls.append(1) or len(calls) > 1 or original(self)
    )
    trainer = trained("colocate", smoke_dataset, tmp_path, learning_rate=0.05)
    ratios = logged(trainer, "sampling_log_ratio")
    assert ratios[0] < 1e-4 < 1e-2 < ratios[1]


def test_top_k_makes_every_ratio_small_and_their_product_vanish(engine, smoke_dataset, tmp_path):
    """The trainer's probabilities are over the vocabulary, the sampler's over K tokens of it. So RecPO bounds tokens,
    where TRL's default would multiply a whole trajectory's ratios."""
    trainer = trained("colocate", smoke_dataset, tmp_path / "token", top_k=50, max_steps=1)
    batch = micro_batches(trainer)[0]
    sampled = batch["sampling_weights"][batch["loss_mask"].bool()]
    assert 0 < sampled.max() < 0.1  # 50 of 49,152 tokens that are nearly alike in a random model
    by_sequence = trained(
        "colocate", smoke_dataset, tmp_path / "sequence", top_k=50, max_steps=1,
        vllm_importance_sampling_mode="sequence_mask",
    )  # fmt: skip
    sequences = micro_batches(by_sequence)[0]["sampling_weights"]
    assert sequences.max() < 1e-6


@pytest.mark.parametrize("corrected", [True, False])
def test_the_weights_reach_the_loss(corrected, engine, smoke_dataset, tmp_path, monkeypatch):
    seen, original = [], trainer_module.recpo_loss

    def recorder(*args, **kwargs):
        seen.append(kwargs["sampling_weights"])
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer_module, "recpo_loss", recorder)
    trainer = trained(
        "colocate", smoke_dataset, tmp_path, max_steps=1, vllm_importance_sampling_correction=corrected
    )  # fmt: skip
    if corrected:
        assert torch.equal(seen[0], micro_batches(trainer)[0]["sampling_weights"].flatten(0, 1))
    else:
        assert seen == [None]


# -- what is missing ---------------------------------------------------------------------------------------------------


def test_vllm_without_vllm_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rrec_lib.training.configuration.is_vllm_available", lambda: False)
    command = ["train", "--profile", "smoke", "--stage", "recpo", "--out", str(tmp_path), "--set"]
    assert main([*command, "rollouts.vllm=colocate"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install trl[vllm]" in error
    assert main([*command, "rollouts.vllm=remote"]) == 2
    assert "takes colocate or server or null, got 'remote'" in capsys.readouterr().err


def test_the_stop_is_the_marker_and_only_with_vllm(smoke_profile, tmp_path, monkeypatch, tokenizer):
    assert STOP["stop"] == [MARKER] == [tokenizer.decode(marker_ids(tokenizer))]
    assert recpo_config(smoke_profile, tmp_path).generation_kwargs is None
    monkeypatch.setattr("rrec_lib.training.configuration.is_vllm_available", lambda: True)
    config = recpo_config(smoke_profile, tmp_path, use_vllm=True, generation_kwargs={"seed": 1})
    assert config.generation_kwargs == {**STOP, "seed": 1}
    json.dumps(config.generation_kwargs)  # it goes to a server as it is


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_real_vllm(mode, tmp_path):
    if not torch.cuda.is_available() or importlib.util.find_spec("vllm") is None:
        pytest.skip("needs a CUDA GPU and vLLM: pip install trl[vllm]")
    if mode == "server" and "RREC_VLLM_URL" not in os.environ:
        pytest.skip("needs RREC_VLLM_URL, the address of a server started as book/gpus.md says")
    from rrec_lib.data.examples import prepare_profile

    profile = load_profile("cpu", {"rollouts.vllm": mode, "rollouts.top_k": 0})
    settings: dict[str, Any] = {"vllm_server_base_url": os.environ["RREC_VLLM_URL"]} if mode == "server" else {}
    trainer = train_recpo(
        load_policy(profile.model), prepare_profile(profile), profile, tmp_path, callbacks=[], max_steps=2, **settings
    )
    assert max(logged(trainer, "sampling_log_ratio")) < 0.1
