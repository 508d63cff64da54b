"""bfloat16 and float16 from end to end: adapters on every card, steps, notebooks, loss scaling, overflow."""

import dataclasses
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import papermill
import pytest
import torch

from rrec_lib.core import hardware
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.evaluate import mean_ndcg, sample_examples
from rrec_lib.evaluation.scoring import unit_rows
from rrec_lib.model.adapters import check_identity, identity
from rrec_lib.model.encode import encode
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.model.prompts import encode_users, marker_ids
from rrec_lib.recommend.films import FilmRecommender
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.configuration import recpo_config, warmup_arguments
from rrec_lib.training.recpo_trainer import RecPOTrainer
from rrec_lib.training.stages import load_stage, train_recpo, warm_up
from rrec_lib.training.warmup_trainer import WarmupTrainer

ROOT = Path(__file__).parents[2]
HALF = ("bfloat16", "float16")
MATRIX = [
    pytest.param(kind, name, marks=() if (kind, name) in THIN else pytest.mark.slow)
    for THIN in [{("bfloat16", "qwen2"), ("float16", "gemma2")}]
    for kind in HALF
    for name in ("qwen2", "gemma2", "llama")
]
STAGES: dict[str, Any] = {"warmup": warm_up, "recpo": train_recpo}


@contextmanager
def float16_products_as_on_a_gpu():
    """Linear layers multiply float16 numbers and sum in float32: what a GPU does, and few CPUs do in hardware."""
    linear = torch.nn.functional.linear

    def as_on_a_gpu(inputs, weight, bias=None):
        if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") != torch.float16:
            return linear(inputs, weight, bias)
        with torch.autocast("cpu", enabled=False):
            wide: list[Any] = [None if values is None else values.half().float() for values in (inputs, weight, bias)]
            return linear(*wide).half()

    with mock.patch.object(torch.nn.functional, "linear", as_on_a_gpu):
        yield


@pytest.fixture(scope="module")
def recorded(pretended_gpu):
    """The cpu profile's data, the rows that its notebook evaluates, and a loader of its recorded adapters."""
    profile = load_profile("cpu")
    dataset = prepare_profile(profile)
    rows = sample_examples(dataset["test"], profile.evaluation.sample_size, profile.evaluation.max_rows_per_user, 0)

    def load(kind, stage="recpo"):
        if kind == "float32":
            return load_stage(load_profile("cpu", {"model.dtype": kind}), dataset, stage)
        with pretended_gpu(kind):
            policy = load_stage(profile, dataset, stage)
        assert policy.compute_dtype == language_model(policy.model).dtype == hardware.DTYPES[kind]
        return policy

    return profile, list(dataset["items"]), rows, load


def test_recorded_adapters_load_on_every_card(recorded):
    _, items, rows, load = recorded

    def states(policy):
        marker = marker_ids(policy.tokenizer)
        with float16_products_as_on_a_gpu():
            return unit_rows(encode(policy, [p + marker for p in encode_users(policy.tokenizer, rows[:2], items)]))

    expected = states(load("float32"))
    spread = (expected[0] - expected[1]).norm()  # of two people
    for kind in HALF:
        policy = load(kind)
        assert ((states(policy) - expected).norm(dim=1) < spread / 4).all()
    recast = dataclasses.replace(policy, base_hash=weights_hash(policy.model.unload()))
    with pytest.raises(ValueError, match=r"trained on something else \(base weights"):  # hashed after the cast
        check_identity(identity(policy, "c"), identity(recast, "c"), Path("adapter"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_recorded_adapters_rank_in_half_precision_as_in_float32(recorded, stage):
    profile, items, rows, load = recorded

    def ndcg(kind):
        policy = load(kind, stage)
        with float16_products_as_on_a_gpu():
            return mean_ndcg(ReasoningRecommender(policy, items, profile, use_cache=False), rows)

    figures = {kind: ndcg(kind) for kind in ("float32", *HALF)}
    base = load("float32", "base")
    untrained = mean_ndcg(ReasoningRecommender(base, items, profile, use_cache=False, control="none"), rows)
    for kind in HALF:
        assert figures[kind] == pytest.approx(figures["float32"], abs=0.005), figures
    assert abs(untrained - figures["float32"]) > 0.01  # another model's ranking would be seen


# -- a step of each trainer, and the notebooks ------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("kind", "name"), MATRIX)
def test_a_step_in_half_precision(saved_family, smoke_dataset, tmp_path, kind, name, stage):
    figure = {"warmup": "item_loss", "recpo": "entropy"}[stage]  # the types sample other reasonings, like in spread
    found = {}
    for dtype in ("float32", kind):
        profile = saved_family(name, kind=dtype)
        policy = load_policy(profile.model)
        before = weights_hash(policy.model, only_trainable=True)
        trainer = STAGES[stage](policy, smoke_dataset, profile, tmp_path / dtype, max_steps=1, warmup_steps=0)
        row = next(row for row in trainer.state.log_history if "grad_norm" in row)
        assert weights_hash(policy.model, only_trainable=True) != before
        assert 0 < row["grad_norm"] < 1e4
        found[dtype] = row
    assert found[kind]["item_loss"] != found["float32"]["item_loss"]  # it really was computed in another type
    assert found[kind][figure] == pytest.approx(found["float32"][figure], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", ["03_model_architecture", "05_recpo_reward_design", "06_gpu_training"])
@pytest.mark.parametrize("name", ["qwen2", "gemma2", "llama"])
@pytest.mark.parametrize("kind", HALF)
def test_notebooks_run_in_half_precision(saved_family, tmp_path, monkeypatch, kind, name, notebook):
    for variable, value in {"RREC_RESULTS_DIR": tmp_path, "RREC_PROGRESS": "off", "PYTHONPATH": ROOT}.items():
        monkeypatch.setenv(variable, str(value))
    overrides = {"model.name": saved_family(name).model.name, "model.dtype": kind}
    source, out = ROOT / "notebooks" / f"{notebook}.ipynb", tmp_path / "out.ipynb"
    parameters = {"profile": "smoke", "overrides": overrides}
    papermill.execute_notebook(source, out, parameters, kernel_name="python3", progress_bar=False, cwd=tmp_path)
    text = out.read_text(encoding="utf-8")
    assert f"torch.{kind}" in text or notebook.startswith("05")  # 03 and 06 print what they compute in
    assert (tmp_path / f"{notebook}.json").is_file()


# -- loss scaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [warmup_arguments, recpo_config])
def test_both_stages_scale_the_loss_in_float16(smoke_profile, pretended_gpu, tmp_path, arguments):
    profile = dataclasses.replace(smoke_profile, model=dataclasses.replace(smoke_profile.model, dtype="auto"))
    for kind in HALF:
        with pretended_gpu(kind):
            made = arguments(profile, tmp_path, use_cpu=True)
        assert (made.fp16, made.bf16) == (kind == "float16", False)


@pytest.mark.parametrize("stage", ["warmup", pytest.param("recpo", marks=pytest.mark.slow)])
def test_a_scaled_loss_keeps_small_gradients(saved_family, smoke_dataset, tmp_path, monkeypatch, stage):
    """Accelerate scales on GPUs alone; given PyTorch's scaler for CPUs, both trainers run as they do there."""
    profile = saved_family("qwen2", kind="float16")

    def gradient(small, scaled):
        policy, folder = load_policy(profile.model), tmp_path / f"{small}{scaled}"
        trainer: RecPOTrainer | WarmupTrainer
        if stage == "warmup":
            trainer = WarmupTrainer(policy, warmup_arguments(profile, folder, max_steps=1), smoke_dataset, profile)
        else:
            trainer = RecPOTrainer(policy, recpo_config(profile, folder, max_steps=1), smoke_dataset, profile)
        with monkeypatch.context() as patch:
            patch.setattr(f"rrec_lib.training.{stage}_trainer.check_loss", lambda _, loss: small * loss)
            if scaled:
                patch.setattr(trainer.accelerator, "native_amp", True)
                patch.setattr(trainer.accelerator, "scaler", torch.amp.GradScaler("cpu"))
                patch.setattr(trainer.accelerator.state, "_mixed_precision", "fp16")
            trainer.train()
        return next(row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row) / small

    expected = gradient(1, scaled=False)
    assert gradient(1e-7, scaled=True) == pytest.approx(expected, rel=0.05)
    assert gradient(1e-7, scaled=False) < 0.5 * expected


# -- overflow ---------------------------------------------------------------------------------------------------------


def overflowing(model):
    """A feed-forward layer whose output exceeds 65,504, as Qwen2's do for some tokens."""
    layer = model.get_decoder().layers[0].mlp
    for linear in (layer.gate_proj, layer.up_proj, layer.down_proj):
        linear.weight.data.mul_(3000)


def recommender(policy, profile, data):
    return ReasoningRecommender(policy, list(data["items"]), profile, use_cache=False)


PATHS: dict[str, Any] = {
    "item table": lambda *run, folder: recommender(*run).item_embeddings,
    "evaluation": lambda *run, folder: recommender(*run).scores(list(run[2]["test"])[:2]),
    "recommend": lambda *run, folder: FilmRecommender(recommender(*run), "base").recommend(
        [run[2]["items"][0]["title"]]
    ),
    "warmup": lambda policy, profile, data, folder: warm_up(policy, data, profile, folder, max_steps=1),
    "recpo": lambda policy, profile, data, folder: train_recpo(policy, data, profile, folder, max_steps=1),
}


@pytest.mark.parametrize("path", PATHS)
def test_an_overflow_is_named_in_the_first_pass(saved_family, smoke_dataset, tmp_path, path):
    profile = saved_family("qwen2", change=overflowing, kind="float16")
    policy = load_policy(profile.model)
    for _ in range(2):  # and again where somebody tries again
        with pytest.raises(ValueError, match=r"not finite.*65,504.*--set model\.dtype=float32"):
            PATHS[path](policy, profile, smoke_dataset, folder=tmp_path)
    profile = saved_family("qwen2", change=overflowing, kind="float32")
    PATHS[path](load_policy(profile.model), profile, smoke_dataset, folder=tmp_path)
