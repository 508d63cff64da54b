"""Plans of GPU runs: weights counted exactly, activations against tensors that a CPU really keeps."""

import dataclasses
import json

import pytest

from rrec_lib.cli import main
from rrec_lib.memory import (
    CALIBRATION,
    Shape,
    adam_bytes,
    build,
    calibrate,
    kept_bytes,
    kv_cache_bytes,
    narrow,
    saved_bytes,
    trained_values,
)
from rrec_lib.plan import known_models, make_plan, model_configuration, with_model
from rrec_lib.profiles import ModelProfile, load_profile

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


@pytest.mark.parametrize("lora", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_activations_are_predicted_at_shapes_that_were_not_calibrated(name, lora):
    config = model_configuration(name)
    factor = calibrate(config, lora)
    small = narrow(config, hidden=192, layers=3, vocabulary=16000)  # neither the calibrated widths nor its depth
    model = build(small, lora, "cpu")
    for shape in (Shape(2, 4, 60, 30), Shape(3, 3, 10, 48)):
        measured = saved_bytes(model, shape)
        predicted = kept_bytes(small, shape, 3, lora.lora_rank, trained_values(model), factor)
        assert sum(predicted.values()) == pytest.approx(measured, rel=0.15)
        without_logits = predicted["layers"] + predicted["attention"]
        assert without_logits != pytest.approx(measured, rel=0.15), "the logits' own term is needed"


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


def test_tokens_and_hours():
    profile = load_profile("smoke")
    plan = make_plan(with_model(profile, "smollm2-135m-instruct"), gpus=2, prompt_tokens=100, tokens_per_second=50.0)
    users, group, new = profile.training.users_per_step, profile.rollouts.group_size, profile.rollouts.max_new_tokens
    assert plan.tokens_per_step == {"trained": users * (100 + group * new), "sampled": users * group * new}
    seconds = profile.training.steps * users / 2 * (100 + 2 * group * new) / 50
    assert plan.hours == pytest.approx(seconds / 3600)


def test_the_command_prints_a_table_or_json_and_refuses_in_a_sentence(capsys):
    command = ["plan", "--profile", "paper", "--gpus", "4", "--users-at-once", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "google/gemma-2-2b-it: 2,6" in out
    assert out.count("exact") == 3
    assert out.count("estimate") >= 6
    assert "give --tokens-per-second" in out
    assert main([*command, "--json", "--tokens-per-second", "1000"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["hours"] > 0
    assert plan["peak"] > plan["exact"]["parameters"]
    for wrong, said in (
        (["--gpus", "0"], "gpus can't be 0"), (["--zero", "4"], "zero can't be 4"),
        (["--model", "nobody/nothing"], "no configuration of model 'nobody/nothing'; choose one of gemma-2-2b-it"),
        (["--optimizer-bits", "4"], "optimizer_bits can't be 4"),
        (["--tokens-per-second", "-1"], "tokens_per_second can't be -1"),
        (["--profile", "paper", "--gpus", "5"], "can't be shared equally by 5 processes of 1 users at once"),
    ):  # fmt: skip
        assert main(["plan", *wrong]) == 2
        assert said in capsys.readouterr().err
