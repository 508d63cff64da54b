"""Some of a decoder's layers: which are frozen, a pass through a part of them, what comes out, their attention."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rrec_lib.core.private_names import attention_of
from rrec_lib.model.lora import language_model


def frozen_layers(model: nn.Module) -> int:
    """How many of the decoder's layers lie below everything that is trained; 0 where the embedding is trained.

    Where nothing is trained, as while adapters are disabled, it is all but the last.
    """
    decoder: Any = language_model(model).get_decoder()
    modules = [decoder.get_input_embeddings(), *decoder.layers]
    trained = (any(parameter.requires_grad for parameter in module.parameters()) for module in modules)
    return next((max(number - 1, 0) for number, found in enumerate(trained) if found), len(decoder.layers) - 1)


@contextmanager
def only_layers(model: nn.Module, chosen: slice) -> Iterator[nn.ModuleList]:
    """Let the decoder have some of its layers alone for a while, and their types, which Transformers counts along."""
    decoder: Any = language_model(model).get_decoder()
    layers, config = decoder.layers, decoder.config
    types = getattr(config, "layer_types", None)
    decoder.layers = layers[chosen]
    if types is not None:
        config.layer_types = types[chosen]
    try:
        yield decoder.layers
    finally:
        decoder.layers = layers
        if types is not None:
            config.layer_types = types


@contextmanager
def replaced_input(layers: nn.ModuleList, hidden: Tensor | None) -> Iterator[None]:
    """Hand the first layer ``hidden`` in place of the hidden states that the decoder passes; None changes nothing."""
    if hidden is None:
        yield
        return

    def replace(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        if inputs:
            return (hidden, *inputs[1:]), named
        return inputs, {**named, "hidden_states": hidden}

    handle = layers[0].register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def hidden_behind(model: nn.Module, depth: int, run: Callable[[], object]) -> Tensor:
    """What comes out of the first ``depth`` layers when ``run`` calls the decoder, without gradients; the rest is left
    out meanwhile."""
    found: list[Tensor] = []
    with torch.no_grad(), only_layers(model, slice(depth)) as layers:
        # Some families return a layer's hidden states alone, some first of several.
        handle = layers[-1].register_forward_hook(
            lambda module, inputs, output: found.append(output if isinstance(output, Tensor) else output[0])
        )
        try:
            run()
        finally:
            handle.remove()
    return found[0]


@contextmanager
def chosen_attention(model: nn.Module, name: str) -> Iterator[None]:
    """Let the model compute an attention of that name, as Transformers lists them, for a while."""
    language: Any = language_model(model)
    before = attention_of(language)
    language.set_attn_implementation(name)
    try:
        yield
    finally:
        language.set_attn_implementation(before)


@contextmanager
def final_states(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the decoder hands to ``lm_head``: the states after its final norm."""
    captured: list[Tensor] = []
    decoder = language_model(model).get_decoder()
    handle = decoder.register_forward_hook(lambda module, args, output: captured.append(output.last_hidden_state))
    try:
        yield captured
    finally:
        handle.remove()
