"""bfloat16 and float16: one hash for one model, adapters that move between machines, steps, notebooks, overflow.

Where a GPU is pretended, ``torch.cuda`` says that it is there and everything else happens on the CPU.
"""

import dataclasses
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from unittest import mock

import papermill
import pytest
import torch

from rrec_lib.core import hardware
from rrec_lib.core.console import TrainingError
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.evaluate import mean_ndcg, sample_examples
from rrec_lib.evaluation.ranking import unit_rows
from rrec_lib.model.adapters import check_identity
from rrec_lib.model.policy import encode, identity, item_table, language_model, load_policy, weights_hash
from rrec_lib.model.precision import cast_weights
from rrec_lib.model.prompts import encode_users, marker_ids
from rrec_lib.recommend.films import FilmRecommender
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.training.recpo_trainer import RecPOTrainer, recpo_config
from rrec_lib.training.stages import load_stage, train_recpo, warm_up
from rrec_lib.training.warmup_trainer import WarmupTrainer, warmup_arguments

ROOT = Path(__file__).parents[2]
HALF = ("bfloat16", "float16")
MATRIX = [
    pytest.param(kind, name, marks=() if (kind, name) in THIN else pytest.mark.slow)
    for THIN in [{("bfloat16", "qwen2"), ("float16", "gemma2")}]
    for kind in HALF
    for name in ("qwen2", "gemma2", "llama")
]
STAGES = {"warmup": warm_up, "recpo": train_recpo}


@contextmanager
def pretended_gpu(kind):
    """A card that multiplies in ``kind``: an A100 in bfloat16, a T4 in float16."""
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=True),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=kind == "bfloat16"),
        mock.patch.object(hardware, "device", return_value=torch.device("cpu")),
    ):
        yield


@contextmanager
def float16_products_as_on_a_gpu():
    """Linear layers multiply float16 numbers and sum in float32: what a GPU does, and few CPUs do in hardware."""
    linear = torch.nn.functional.linear

    def as_on_a_gpu(inputs, weight, bias=None):
        if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") != torch.float16:
            return linear(inputs, weight, bias)
        with torch.autocast("cpu", enabled=False):
            wide = [None if values is None else values.half().float() for values in (inputs, weight, bias)]
            return linear(*wide).half()

    with mock.patch.object(torch.nn.functional, "linear", as_on_a_gpu):
        yield


@pytest.fixture(scope="module")
def saved_family(family, tmp_path_factory):
    """A family's tiny model in a folder, and the smoke profile that loads it."""

    @lru_cache
    def folder_of(name, dtype, change):
        folder = tmp_path_factory.mktemp(name)
        model, tokenizer = family(name)
        if change is not None:
            change(model)
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def save(name, dtype=torch.float32, change=None, kind="float32"):
        return load_profile("smoke", {"model.name": str(folder_of(name, dtype, change)), "model.dtype": kind})

    return save


# -- one hash everywhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_model_has_one_hash_whatever_it_is_cast_to(saved_family, stored):
    profile = saved_family("qwen2", hardware.DTYPES[stored])
    here = load_policy(profile.model)
    assert language_model(here.model).dtype == torch.float32
    made_by = {here.made_by}
    for kind in HALF:
        with pretended_gpu(kind):
            there = load_policy(dataclasses.replace(profile.model, dtype=kind))
        assert there.base_hash == here.base_hash
        frozen = {p.dtype for p in there.model.parameters() if not p.requires_grad}
        assert frozen == {hardware.DTYPES[kind]}
        assert {p.dtype for p in there.model.parameters() if p.requires_grad} == {torch.float32}
        cast = weights_hash(there.model.unload())
        assert (cast == here.base_hash) == (stored == kind)  # hashed after the cast, it was another model
        made_by.add(there.made_by)
        half = dataclasses.replace(profile.model, dtype=kind)
        made_by.add(load_policy(half).made_by)  # on a CPU: the same products of unrounded weights
    assert len(made_by) == 5  # so many item tables


def test_only_weights_are_cast(family):
    model = family("gemma2")[0]
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any("inv_freq" in name for name in kept)
    cast_weights(model, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert all(torch.equal(buffer, kept[name]) for name, buffer in model.named_buffers())


@pytest.fixture(scope="module")
def recorded():
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
@pytest.mark.parametrize("notebook", ["03_model_architecture", "04_recpo_reward_design", "05_gpu_training"])
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
    assert f"torch.{kind}" in text or notebook.startswith("04")  # 03 and 05 print what they compute in
    assert (tmp_path / f"{notebook}.json").is_file()


# -- loss scaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [warmup_arguments, recpo_config])
def test_both_stages_scale_the_loss_in_float16(smoke_profile, tmp_path, arguments):
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


PATHS = {
    "item table": lambda policy, profile, data, folder: item_table(policy, list(data["items"]), use_cache=False),
    "evaluation": lambda policy, profile, data, folder: ReasoningRecommender(
        policy, list(data["items"]), profile, use_cache=False
    ).scores(list(data["test"])[:2]),
    "recommend": lambda policy, profile, data, folder: FilmRecommender(
        ReasoningRecommender(policy, list(data["items"]), profile, use_cache=False), "base"
    ).recommend([data["items"][0]["title"]]),
    "warmup": lambda policy, profile, data, folder: warm_up(policy, data, profile, folder, max_steps=1),
    "recpo": lambda policy, profile, data, folder: train_recpo(policy, data, profile, folder, max_steps=1),
}


@pytest.mark.parametrize("path", PATHS)
def test_an_overflow_is_named_in_the_first_pass(saved_family, smoke_dataset, tmp_path, path):
    profile = saved_family("qwen2", change=overflowing, kind="float16")
    policy = load_policy(profile.model)
    for _ in range(2):  # and again where somebody tries again
        with pytest.raises(ValueError, match=r"not finite.*65,504.*--set model\.dtype=float32"):
            PATHS[path](policy, profile, smoke_dataset, tmp_path)
    profile = saved_family("qwen2", change=overflowing, kind="float32")
    PATHS[path](load_policy(profile.model), profile, smoke_dataset, tmp_path)


def test_later_passes_wait_for_nothing_and_tables_are_still_checked(saved_family, smoke_dataset):
    policy = load_policy(saved_family("qwen2").model)
    decoder = language_model(policy.model).get_decoder()
    assert len(decoder._forward_hooks) == 1
    encode(policy, [[5, 6, 7]])
    assert not decoder._forward_hooks
    decoder.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite in float32, so its base weights or its adapter"):
        item_table(policy, list(smoke_dataset["items"])[:3])


def test_a_loss_that_is_no_number_names_the_type(saved_family, smoke_dataset, tmp_path, monkeypatch):
    profile = saved_family("qwen2")
    monkeypatch.setattr(
        "rrec_lib.training.warmup_trainer.item_logprobs", lambda states, *_, **__: states.sum(1) * float("nan")
    )
    with pytest.raises(TrainingError, match=r"model\.dtype=float32"):
        warm_up(load_policy(profile.model), smoke_dataset, profile, tmp_path, max_steps=1)
