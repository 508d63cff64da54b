"""LoRA: fresh weights on the decoder's linear layers, merged into them for a while, and the model underneath."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from rrec_lib.core.profiles import ModelProfile


def add_lora(model: PreTrainedModel, profile: ModelProfile) -> PeftModel | PreTrainedModel:
    """Put fresh LoRA weights on the linear layers that a profile names and freeze the rest; without a rank train all.

    Raises:
        ValueError: for layers without a rank, or layers that the model does not have.
    """
    if not profile.lora_rank:
        if profile.lora_layers is not None:
            raise ValueError(
                f"lora_layers is {profile.lora_layers} without a lora_rank; set it to null, or give a rank"
            )
        return model
    lora = LoraConfig(
        r=profile.lora_rank,
        lora_alpha=profile.lora_alpha,
        target_modules=linear_modules(model, profile.lora_layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)  # type: ignore[return-value]


def linear_modules(model: PreTrainedModel, last_layers: int | None = None) -> list[str]:
    """Names of the linear modules in the decoder's last layers, or in all of them.

    Raises:
        ValueError: unless ``last_layers`` is between 1 and the decoder's depth.
    """
    layers: Any = model.get_decoder().layers
    if last_layers is not None and not 1 <= last_layers <= len(layers):
        raise ValueError(f"lora_layers must be between 1 and the model's {len(layers)} layers, got {last_layers}")
    chosen = {id(module) for layer in layers[-(last_layers or len(layers)) :] for module in layer.modules()}
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and id(module) in chosen]


@contextmanager
def merged_lora(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Replace each adapted weight W by W + ΔW for a while: one matrix product where there were three.

    Afterwards the very tensors that were there before are back; adding and subtracting ΔW would leave rounding behind.
    Meanwhile PEFT's layers are disabled, and LoRA's weights take no gradient.

    Weights that are kept in half precision, as frozen ones are on a GPU, stay as they are, with LoRA beside them: of
    bfloat16's eight digits W + ΔW loses a ΔW below a 512th of W, which is all of what the first steps train.

    Args:
        model: the language model, with LoRA or without.
        dtype: of every linear layer's weight meanwhile. Autocast rounds float32 weights again at each product, which
            for a handful of tokens is a good part of the work; rounded once, the products are the same but for a ΔW
            that is small against the rounding: that gets lost where W itself needs none, and is kept in the mean where
            W is rounded anyway, as weights that were quantised are.
    """
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer) and not module.disable_adapters]
    if any(layer.get_base_layer().weight.dtype != torch.float32 for layer in adapted):
        yield
        return
    added = {layer.get_base_layer(): layer for layer in adapted}
    linear = linear_layers(model)
    before = [module.weight for module in linear]
    try:
        for module in linear:
            weight = module.weight.data
            if (layer := added.get(module)) is not None:
                for name in layer.active_adapters:
                    weight = weight + layer.get_delta_weight(name).to(weight.dtype)  # type: ignore[operator]
            module.weight = nn.Parameter(weight.to(dtype or weight.dtype), requires_grad=False)
        with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
            yield
    finally:
        for module, parameter in zip(linear, before, strict=True):
            module.weight = parameter


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The model's own linear layers, LoRA's left out."""
    return [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".lora_" not in name]


def language_model(model: nn.Module) -> PreTrainedModel:
    """The causal language model under a PEFT or distributed wrapper."""
    model = getattr(model, "module", model)
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]
