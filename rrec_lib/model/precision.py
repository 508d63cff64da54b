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

    Logits that are rounded to bfloat16 would let different titles tie. Narrower weights are copied once a block, so
    that one should stand around a whole ranking; a block within a block changes nothing.
    """
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    before = vars(head).get("forward") if head is not None else None  # another's hook, or this one's
    if head is None or isinstance(before, _WideHead):  # a table has none, as notebook 10's
        yield
        return
    head.forward = _WideHead(head)
    try:
        yield
    finally:
        if before is None:
            del head.forward
        else:
            head.forward = before


class _WideHead:
    """A head's product in float32 or wider."""

    def __init__(self, head: nn.Linear) -> None:
        self.type = torch.promote_types(head.weight.dtype, torch.float32)
        self.weight, self.bias = head.weight.to(self.type), None if head.bias is None else head.bias.to(self.type)

    def __call__(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states.to(self.type), self.weight, self.bias)
