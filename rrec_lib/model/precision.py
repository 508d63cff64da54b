"""What half precision must not touch, and what it may break: the residual stream, buffers, finite states."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def cast_weights(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Round the weights to a type, one after the other and in place, and return the model.

    Buffers stay as they are: rotary frequencies in half precision would put far tokens in wrong places.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def check_first_pass(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Let the decoder's first forward pass raise unless its states are numbers, and return the model.

    Where float16 overflows it does so for any text, so one pass tells, and later ones wait for nothing.
    """

    def check(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        check_finite(output.last_hidden_state, dtype)
        handle.remove()

    handle = model.get_decoder().register_forward_hook(check)
    return model


def check_finite(states: Tensor, dtype: torch.dtype) -> Tensor:
    """Pass on hidden states that are numbers, all of them.

    Args:
        states: of any shape.
        dtype: what they were computed in.

    Raises:
        ValueError: if one is infinite or NaN.
    """
    if states.isfinite().all():
        return states
    if dtype == torch.float16:
        raise ValueError(
            "the model's hidden states are not finite: its products exceed 65,504, float16's largest number; compute in"
            ' float32: `--set model.dtype=float32`, in a notebook overrides = {"model.dtype": "float32"}'
        )
    raise ValueError(
        f"the model's hidden states are not finite in {str(dtype).removeprefix('torch.')}, so its base weights or its"
        " adapter hold values that are no numbers; fetch or train them again"
    )


def float32_stream(model: PreTrainedModel) -> PreTrainedModel:
    """Let the residual stream start in float32, whatever type the weights have, and return the model.

    Layers add to the stream, and a sum with float32 is float32. In bfloat16 the states of different prompts are nearly
    equal, and their differences would be lost in rounding.
    """
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.float())
    return model


@contextmanager
def float32_head(model: nn.Module) -> Iterator[None]:
    """Let the head over the vocabulary multiply in float32 or wider for a while, whatever the rest computes in.

    Logits that are rounded to bfloat16 let a third of a catalogue's titles tie with another.
    """
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:  # a table, as notebook 10's
        yield
        return

    def product(states: Tensor) -> Tensor:
        wide = torch.promote_types(head.weight.dtype, torch.float32)
        with torch.autocast(states.device.type, enabled=False):
            bias = None if head.bias is None else head.bias.to(wide)
            return nn.functional.linear(states.to(wide), head.weight.to(wide), bias)

    head.forward = product
    try:
        yield
    finally:
        del head.forward
