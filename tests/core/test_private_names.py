"""Private names of other libraries: each is there, does what the library takes it to do, and stands in one file."""

import ast
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, Qwen2Config

import rrec_lib
from rrec_lib.core.private_names import CHECKED, attention_of, forget_quantization

SIZE: Any = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def reads_the_attention():
    model = AutoModelForCausalLM.from_config(Qwen2Config(**SIZE, num_key_value_heads=1))
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        assert attention_of(model) == name


def forgets_the_quantisation():
    config = Qwen2Config(**SIZE)
    config.quantization_config, config._pre_quantization_dtype = {"quant_method": "gguf"}, "float16"
    forget_quantization(config)
    assert not {"quantization_config", "_pre_quantization_dtype"} & config.to_dict().keys()
    AutoModelForCausalLM.from_config(config)


TRIALS = {
    "transformers: config._attn_implementation": reads_the_attention,
    "transformers: config._pre_quantization_dtype": forgets_the_quantisation,
}


def try_out(name):
    try:
        TRIALS[name]()
    except Exception as problem:
        library = name.partition(":")[0]
        pytest.fail(
            f"{name} is gone or does something else in {library} {version(library)} ({problem!r}); it was checked with"
            f" {', '.join(CHECKED[name])}: mend its function in rrec_lib/core/private_names.py"
        )


@pytest.mark.parametrize("name", CHECKED)
def test_a_private_name_does_what_it_did(name):
    try_out(name)


def test_a_name_that_is_gone_fails_with_a_sentence(monkeypatch):
    monkeypatch.setattr(f"{__name__}.attention_of", lambda model: model.config._name_of_another_release)
    with pytest.raises(pytest.fail.Exception, match=r"_attn_implementation is gone or .*; it was checked with 5\."):
        try_out("transformers: config._attn_implementation")


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
