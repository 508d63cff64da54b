"""Plans of GPU runs: weights counted exactly, activations against tensors that a CPU really keeps."""

import dataclasses
import json
import re
from importlib.metadata import version

import plan_page
import pytest
import torch
from transformers import Gemma2Config

from rrec_lib.cli.main import main
from rrec_lib.core.private_names import attention_of
from rrec_lib.core.profiles import ModelProfile, load_profile
from rrec_lib.model.packing import packed_states
from rrec_lib.plan.estimate import (
    ITEM_BASE,
    ITEM_OWN,
    catalogue_items,
    item_rows,
    known_models,
    make_plan,
    model_configuration,
    with_model,
)
from rrec_lib.plan.memory import (
    CALIBRATION,
    Shape,
    adam_bytes,
    build,
    calibrate,
    counted,
    kept_bytes,
    kv_cache_bytes,
    narrow,
    saved_bytes,
    trained_values,
)

LORA = ModelProfile("x", "auto", lora_rank=4, lora_alpha=8, lora_layers=None)
FULL = dataclasses.replace(LORA, lora_rank=0)
PARAMETERS = {  # as published with each model; tied embeddings count once
    "gemma-2-2b-it": 2_614_341_888,
    "qwen2.5-0.5b-instruct": 494_032_768,
    "qwen2.5-1.5b-instruct": 1_543_714_304,
    "qwen2.5-3b-instruct": 3_085_938_688,
    "smollm2-135m-instruct": 134_515_008,
}
FAMILIES = ("gemma-2-2b-it", "qwen2.5-3b-instruct", "smollm2-135m-instruct")


def test_shipped_configurations_have_the_published_sizes():
    assert known_models() == sorted(PARAMETERS)
    for name, count in PARAMETERS.items():
        model = build(model_configuration(name), FULL, "meta")
        assert sum(parameter.numel() for parameter in model.parameters()) == trained_values(model) == count


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("lora", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_activations_are_predicted_at_shapes_that_were_not_calibrated(name, lora, dtype):
    lora = dataclasses.replace(lora, dtype=dtype)
    config = model_configuration(name)
    factor = calibrate(config, lora)
    small = narrow(config, hidden=192, layers=3, vocabulary=16000)  # neither the calibrated widths nor its depth
    model = build(small, lora, "cpu")
    for shape in (Shape(2, 4, 60, 30), Shape(3, 3, 10, 48)):
        measured = saved_bytes(model, shape, dtype)
        predicted = kept_bytes(small, shape, 3, lora.lora_rank, trained_values(model), factor, dtype)
        assert sum(predicted.values()) == pytest.approx(measured, rel=0.05)
        other = "bfloat16" if dtype != "bfloat16" else "float16"  # whose logits have another width
        wrong = kept_bytes(small, shape, 3, lora.lora_rank, trained_values(model), factor, other)
        assert sum(wrong.values()) != pytest.approx(measured, rel=0.05), "the logits' own term is needed"


def test_items_keep_what_is_planned_for_them():
    config = narrow(model_configuration("qwen2.5-3b-instruct"), hidden=192, layers=3)
    model = build(config, LORA, "cpu")
    prompts = [[1] * ITEM_BASE + [2 + i] * ITEM_OWN for i in range(16)]
    with counted(model) as kept, torch.autocast("cpu", torch.bfloat16):
        packed_states(model, prompts, torch.device("cpu"))
    predicted = kept_bytes(config, item_rows(16, ITEM_OWN), 3, 4, trained_values(model), calibrate(config, LORA))
    assert predicted["layers"] + predicted["attention"] == pytest.approx(
        sum(s.nbytes() for s in kept.values()), rel=0.1
    )
    assert item_rows(17, ITEM_OWN).tokens == 3 * (ITEM_BASE + 8 * ITEM_OWN), "the last row is filled up"


def test_the_calibrated_shape_is_met_exactly():
    config = model_configuration("smollm2-135m-instruct")
    model = build(narrow(config), LORA, "cpu")
    predicted = kept_bytes(narrow(config), CALIBRATION, 2, 4, trained_values(model), calibrate(config, LORA))
    assert sum(predicted.values()) == pytest.approx(saved_bytes(model, CALIBRATION), rel=1e-3)


def test_optimiser_and_cache_by_hand():
    assert adam_bytes([10_000, 100]) == 2 * 4 * 10_100 + 2 * 4
    assert adam_bytes([10_240, 100], bits=8) == 2 * (10_240 + 4 * 40) + 2 * 4 * 100
    config = model_configuration("smollm2-135m-instruct")  # 30 layers, 3 heads of 64 for keys and as many for values
    assert kv_cache_bytes(config, sequences=2, tokens=10) == 2 * 10 * 30 * 2 * 3 * 64 * 2


def test_zero_stages_divide_what_they_say():
    profile = load_profile("paper")
    plans = [make_plan(profile, gpus=4, zero=stage, users_at_once=1).exact for stage in (0, 1, 2, 3)]
    for part, first in (("optimiser state", 1), ("gradients", 2), ("parameters", 3)):
        shares = [plans[0][part] / plan[part] for plan in plans]
        assert shares == [pytest.approx(4 if stage >= first else 1, rel=1e-3) for stage in (0, 1, 2, 3)]
    assert plans[0]["gradients"] == 4 * make_plan(profile, gpus=4, users_at_once=1).trained


def test_full_training_longer_text_and_fewer_bits_move_the_plan():
    profile = load_profile("t4")
    lora, full = (make_plan(p) for p in (profile, with_model(profile, full=True)))
    assert lora.trained < 0.05 * full.trained == 0.05 * full.parameters
    assert sum(full.exact.values()) == pytest.approx(16 * full.parameters, rel=1e-3)  # weights, gradients, two moments
    assert make_plan(with_model(profile, full=True), optimizer_bits=8).peak < full.peak
    assert make_plan(profile, users_at_once=1).peak < lora.peak < make_plan(profile, prompt_tokens=900).peak
    assert lora.peak == sum(lora.exact.values()) + max(sum(lora.estimated.values()), lora.rollout)


def test_float16_has_float32_logits_and_float32_twice_the_weights():
    profile = load_profile("paper")
    bf16, fp16, fp32 = (make_plan(with_model(profile, dtype=name), gpus=4) for name in (None, "float16", "float32"))
    logits = (4 * 512 + 1) * 256_000
    for part in ("activations: logits", "working logits"):
        assert fp16.estimated[part] - bf16.estimated[part] == 2 * logits
    assert fp16.peak - bf16.peak == 4 * logits  # about 2 GB
    assert (fp16.exact, fp16.rollout) == (bf16.exact, bf16.rollout)
    assert fp32.exact["parameters"] == 4 * fp32.parameters
    assert fp32.rollout > 2 * bf16.rollout  # float32 weights are merged with LoRA, half precision ones are not
    assert fp32.peak > fp16.peak


def test_tokens_and_hours_by_hand():
    profile = with_model(load_profile("smoke", {"training.users_per_step": 2}), "smollm2-135m-instruct")
    # 4 steps of 2 users, 4 reasonings of 8 tokens each; 60 films every 2 steps, 2 targets a step, of 30 + 20 tokens
    table, targets = 8 * (30 + 8 * 20), 30 + 2 * 20
    expected = {"sampled": 64, "trained": 264, "items": targets, "prompts": 200, "table": table // 2, "states": 0}
    plan = make_plan(profile, gpus=2, prompt_tokens=100, item_tokens=50, rates=(5.0, 50.0))
    assert plan.tokens_per_step == expected
    sampling, training = 4 * 64 / 2 / 5 / 3600, 4 * (264 + targets) / 2 / 50 / 3600
    reading = 4 * (200 + table // 2) / 2 / 50 / 3600
    assert plan.hours == pytest.approx({"sampling": sampling, "training": training, "reading": reading / 2})
    full = make_plan(with_model(profile, full=True), gpus=2, prompt_tokens=100, item_tokens=50, rates=(5.0, 50.0))
    assert full.hours == pytest.approx({"sampling": sampling, "training": training, "reading": reading / 3})
    assert make_plan(profile).hours is None


def test_items_are_those_of_the_softmax_the_data_and_vllm_reads_again(tmp_path):
    smoke = with_model(load_profile("smoke"), "smollm2-135m-instruct")
    drawn = load_profile("smoke", {"training.item_softmax": "catalogue", "training.item_negatives": 8})
    assert make_plan(with_model(drawn, "smollm2-135m-instruct")).tokens_per_step["items"] == 30 + 8 * 30
    written = load_profile("smoke", {"rollouts.vllm": "server"})
    tokens = make_plan(with_model(written, "smollm2-135m-instruct")).tokens_per_step
    assert tokens["states"] == tokens["trained"]
    (tmp_path / "manifest.json").write_text(json.dumps({"rows": {"items": 7}, "arguments": {"window": 9}}))
    folder = load_profile("smoke", {"data.dataset": str(tmp_path)})
    assert [catalogue_items(profile) for profile in (smoke, folder)] == [60, 7]
    everything = dataclasses.replace(smoke, data=dataclasses.replace(smoke.data, catalogue_size=None))
    assert catalogue_items(everything) > 60
    with pytest.raises(ValueError, match="unknown dataset 'nowhere'"):
        catalogue_items(load_profile("smoke", {"data.dataset": "nowhere", "data.catalogue_size": None}))


def test_the_command_prints_a_table_or_json_and_refuses_in_a_sentence(capsys):
    command = ["plan", "--profile", "paper", "--gpus", "4", "--users-at-once", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "google/gemma-2-2b-it: 2,6" in out
    assert out.count("exact") == 3
    assert out.count("estimate") >= 6
    assert "give --sampled-tokens-per-second and --trained-tokens-per-second" in out
    rates = ["--sampled-tokens-per-second", "1000", "--trained-tokens-per-second", "4000"]
    assert main([*command, *rates]) == 0
    assert "hours for 6,000 steps" in capsys.readouterr().out
    assert main([*command, "--json", *rates]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert min(plan["hours"].values()) > 0
    assert plan["peak"] > plan["exact"]["parameters"]
    for wrong, said in (
        (["--gpus", "0"], "gpus can't be 0"), (["--zero", "4"], "zero can't be 4"),
        (["--model", "nobody/nothing"], "no configuration of model 'nobody/nothing'; choose one of gemma-2-2b-it"),
        (["--optimizer-bits", "4"], "optimizer_bits can't be 4"),
        (rates[:2], "hours need both"), ([*rates[:3], "-1"], "rates can't be (1000.0, -1.0)"),
        (["--dtype", "int4"], "model.dtype takes auto or float32 or bfloat16 or float16, got 'int4'"),
        (["--item-tokens", "30"], "item_tokens can't be 30"), (["--users-at-once", "0"], "users_at_once can't be 0"),
        ([*rates[:3], "nan"], "rates can't be (1000.0, nan)"),
        (["--profile", "paper", "--gpus", "5"], "can't be shared equally by 5 processes of 1 users at once"),
    ):  # fmt: skip
        assert main(["plan", *wrong]) == 2
        assert said in capsys.readouterr().err


def test_the_page_shows_what_the_command_prints():
    lock = (plan_page.PAGE.parents[1] / "requirements.lock").read_text(encoding="utf-8")
    installed = [f"{package}=={version(package)}" for package in ("transformers", "peft", "torch")]
    if not all(pin.partition("+")[0] in lock.splitlines() for pin in installed):
        pytest.skip("the page holds for the versions of requirements.lock, which are measured once")
    page = plan_page.PAGE.read_text(encoding="utf-8")
    assert page.count("rrec plan --profile") == len(plan_page.BLOCK.findall(page)) == 2
    changed = re.sub(r"(parameters +)\d", r"\g<1>9", page)
    assert changed != page == plan_page.regenerated(page) == plan_page.regenerated(changed), "run `make plan-page`"


def test_a_plan_measures_the_attention_that_is_trained():
    assert attention_of(build(narrow(Gemma2Config()), LORA, "meta")) == "eager"


def test_a_step_is_sampled_at_once_and_what_is_merged_is_counted():
    """TRL samples for all users of a process, however few go through a pass; a prompt is kept once."""
    profile = load_profile("paper")
    one, all_at_once = (make_plan(profile, gpus=1, users_at_once=users) for users in (1, None))
    assert one.rollout == all_at_once.rollout
    config = model_configuration(profile.model.name)
    users, shape = profile.training.users_per_step, one.shape
    tokens = users * (shape.prompt_tokens + shape.group_size * shape.new_tokens)
    assert one.rollout == 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens
    full = make_plan(with_model(profile, full=True), gpus=1)
    assert full.rollout - one.rollout == pytest.approx(2 * full.parameters, rel=1e-3)
