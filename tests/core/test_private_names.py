"""Private names of other libraries: each is there, does what is said of it, is missed in a sentence, in one file."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

import rrec_lib
from rrec_lib.core import private_names
from rrec_lib.core.profiles import load_profile
from rrec_lib.model.policy import load_policy
from rrec_lib.training.configuration import recpo_config
from rrec_lib.training.recpo_trainer import RecPOTrainer

SIZE: Any = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def test_the_attention_of_a_model_is_read():
    model = AutoModelForCausalLM.from_config(Qwen2Config(**SIZE, num_key_value_heads=1))
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        assert private_names.attention_of(model) == name, "_attn_implementation no longer says what was set"


def test_a_configuration_forgets_its_quantisation():
    config = Qwen2Config(**SIZE)
    config.quantization_config, config._pre_quantization_dtype = {"quant_method": "gguf"}, "float16"
    private_names.forget_quantization(config)
    assert not {"quantization_config", "_pre_quantization_dtype"} & config.to_dict().keys()
    AutoModelForCausalLM.from_config(config)


@pytest.fixture
def trainer(smoke_dataset, tmp_path):
    profile = load_profile("smoke", {"training.users_at_once": 2})
    return RecPOTrainer(
        load_policy(profile.model), recpo_config(profile, tmp_path, max_steps=2), smoke_dataset, profile
    )


def test_a_step_goes_through_every_name(trainer):
    norms: list[Any] = []
    sampled, losses, orders = list[int](), list[int](), list[int]()
    private_names.order_rows(trainer, lambda sampler: orders.append(1) or sampler)
    private_names.watch_grad_norm(trainer, norms.append)
    private_names.sample_with(trainer, lambda rows: sampled.append(len(rows)) or trainer.sample_and_score(rows))
    private_names.loss_with(trainer, lambda *step: losses.append(1) or trainer.loss_of_groups(*step))
    trainer.train()
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert len(orders) == 1, "the trainer no longer asks _get_train_sampler for the order of its rows"
    assert sampled == [16, 16], "TRL no longer samples once a step through _generate_and_score_completions"
    assert len(losses) == 4, "TRL no longer takes each micro-batch's loss from _compute_loss"
    assert [float(norm) for norm in norms] == [row["grad_norm"] for row in rows], "_get_grad_norm is not what is logged"
    assert private_names.passes_made(trainer) == 4, "TRL no longer counts passes in _step"
    batches = private_names.micro_batches(trainer)
    assert [len(batch["targets"]) for batch in batches] == [2, 2], "TRL no longer keeps micro-batches of whole groups"
    assert not private_names.gathered_figures(trainer), "TRL no longer empties _metrics at a log line"
    private_names.resume_sampling(trainer, 8, batches[:1])
    assert (private_names.passes_made(trainer), len(private_names.micro_batches(trainer))) == (8, 1)


def test_weights_are_loaded_and_sent_once_a_step(trainer, tmp_path):
    trainer.save_model(str(tmp_path / "kept"))
    parameters = [p for p in trainer.policy.model.parameters() if p.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.data += 1
    private_names.load_weights(trainer, tmp_path / "kept")
    assert all(map(torch.equal, parameters, before)), "_load_from_checkpoint no longer loads adapters"
    trainer._last_loaded_step = -1
    assert [private_names.weights_are_due(trainer) for _ in range(2)] == [True, False]
    with private_names.unwrapped_for_generation(trainer) as model:
        assert model is trainer.policy.model


@pytest.mark.parametrize("name", private_names.CHECKED)
def test_a_name_that_is_gone_is_said_in_a_sentence(name):
    with pytest.raises(RuntimeError, match=rf"object has no {name} \(transformers .*, trl .*\); it was there in "):
        private_names.found(object(), name)


def private_uses(tree):
    """Private attributes and imports, but for those of the object itself and what the module defines."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("rrec_lib"):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in ("self", "cls"):
            names = {node.attr}
        else:
            continue
        yield from (name for name in names - own if name[0] == "_" and name[:2] != "__")


def test_private_names_stand_in_one_file():
    library = Path(rrec_lib.__file__).parent
    found = {
        f"{path.relative_to(library)}: {name}"
        for path in library.rglob("*.py")
        if path.parent.name not in ("training", "recpo") and path.name != "private_names.py"
        for name in private_uses(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(), "private names belong in core/private_names.py, behind a function"
    assert {*private_uses(ast.parse("layer._off = True\nself._own = 1\nfrom peft import _gone"))} == {"_off", "_gone"}
