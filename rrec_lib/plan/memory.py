"""Memory of training, by part: exact where it follows from the weights, a formula where it depends on lengths.

The formula counts what the layers keep for their backward pass, tensor by tensor, and is then multiplied by one factor
that is measured at one small shape, so that it follows the installed libraries.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from rrec_lib.core.console import quiet_libraries
from rrec_lib.core.hardware import DTYPES, autocast
from rrec_lib.core.profiles import ModelProfile
from rrec_lib.model.load import keep_soft_capping
from rrec_lib.model.lora import add_lora, linear_layers
from rrec_lib.model.packing import PackedGroups, TokenLogprobs, packed_forward
from rrec_lib.model.precision import float32_stream

HALF, FULL = 2, 4  # bytes of bfloat16 or float16, and of float32
WIDTH = {"bfloat16": HALF, "float16": HALF, "float32": FULL}  # of what is multiplied
_BLOCK, _SMALLEST = 256, 4096  # bitsandbytes: values per scale; smaller tensors keep a float32 state


@dataclass(frozen=True)
class Shape:
    """What goes through the model in one pass: ``users`` packed rows of a prompt and its completions."""

    users: int
    group_size: int
    prompt_tokens: int
    new_tokens: int

    @property
    def row(self) -> int:
        return self.prompt_tokens + self.group_size * self.new_tokens

    @property
    def tokens(self) -> int:
        return self.users * self.row

    @property
    def completion_tokens(self) -> int:
        return self.users * self.group_size * self.new_tokens


CALIBRATION = Shape(users=1, group_size=2, prompt_tokens=24, new_tokens=20)


def arithmetic(profile: ModelProfile) -> str:
    """The type of matrix products that is planned for: ``"auto"`` is bfloat16.

    Raises:
        ValueError: for an unknown type.
    """
    dtype = "bfloat16" if profile.dtype == "auto" else profile.dtype
    if dtype not in WIDTH:
        raise ValueError(f"unknown dtype {dtype!r}; choose auto, {', '.join(WIDTH)}")
    return dtype


def build(config: PretrainedConfig, profile: ModelProfile, device: str) -> PreTrainedModel | PeftModel:
    """A model as it is trained on a GPU: frozen weights in the profile's type under float32 LoRA, or all in float32.

    Args:
        config: its architecture.
        profile: of LoRA; without a rank all weights are trained.
        device: ``"meta"`` for sizes without memory, or ``"cpu"``.
    """
    quiet_libraries()
    with torch.device(device), torch.random.fork_rng(devices=[]):
        dtype = DTYPES[arithmetic(profile)] if profile.lora_rank else torch.float32
        model: PreTrainedModel = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
        return add_lora(float32_stream(keep_soft_capping(model)), profile).train()


def adam_bytes(sizes: list[int], bits: int = 32) -> int:
    """Bytes of AdamW's two moments.

    Args:
        sizes: number of values of each trained tensor.
        bits: 32, or 8 for bitsandbytes: a byte per moment and value, and a float32 scale per 256 of them.
    """
    if bits == 32:
        return sum(2 * FULL * size + FULL for size in sizes)  # and a step counter
    return sum(2 * FULL * size if size < _SMALLEST else 2 * (size + FULL * -(-size // _BLOCK)) for size in sizes)


def layer_bytes(config: Any, shape: Shape, lora_rank: int | None, dtype: str = "bfloat16") -> int:
    """Bytes that one decoder layer keeps for its backward pass, without its attention over pairs of tokens.

    Counted for matrix products in a type and norms in float32, over the layer's widths: d hidden, q all query
    heads together, f feed-forward.

    Args:
        config: the architecture.
        shape: what goes through.
        lora_rank: None or 0 trains all weights.
        dtype: of matrix products, a key of :data:`WIDTH`.
    """
    full, eager = not lora_rank, _eager(config)
    norms = 4 if config.model_type == "gemma2" else 2
    half = 5 * config.hidden_size + (4 if eager or full else 5) * _query_width(config) + 4 * config.intermediate_size
    float32 = (2 * norms + 1 if full else norms) * config.hidden_size
    adapters = 7 * (lora_rank or 0)  # the narrow state inside each of seven adapted products
    return shape.tokens * (WIDTH[dtype] * (half + adapters) + FULL * float32)


def attention_bytes(config: Any, shape: Shape, dtype: str = "bfloat16") -> int:
    """Bytes that one layer keeps per pair of tokens: the mask, and with eager attention every head's scores."""
    pairs = shape.users * shape.row**2
    return pairs * (config.num_attention_heads * (FULL + 2 * WIDTH[dtype]) if _eager(config) else WIDTH[dtype])


def kept_bytes(
    config: Any,
    shape: Shape,
    layers: int,
    lora_rank: int | None,
    trained: int,
    factor: float = 1.0,
    dtype: str = "bfloat16",
) -> dict[str, int]:
    """What one forward pass keeps for its backward pass.

    Args:
        config: the architecture.
        shape: what goes through.
        layers: how many layers gradients reach.
        lora_rank: None or 0 trains all weights.
        trained: number of trained values; autocast keeps each once more in half precision.
        factor: see :func:`calibrate`.
        dtype: of matrix products, a key of :data:`WIDTH`.

    Returns:
        Bytes by part: ``layers``, ``attention``, ``logits``.
    """
    copies = 0 if dtype == "float32" else HALF * trained
    capped = WIDTH[dtype] * _logits(config, shape) if getattr(config, "final_logit_softcapping", None) else 0
    return {
        "layers": round(factor * (layers * layer_bytes(config, shape, lora_rank, dtype) + copies)),
        "attention": round(factor * layers * attention_bytes(config, shape, dtype)),
        "logits": logits_bytes(config, shape, dtype) + capped,
    }


def logits_bytes(config: Any, shape: Shape, dtype: str = "bfloat16") -> int:
    """Logits of every completion token and of each prompt's last, as the loss gets them.

    Under float16 the loss is scaled, by Accelerate, which then turns what the model returns into float32.
    """
    return _logits(config, shape) * (HALF if dtype == "bfloat16" else FULL)


def _logits(config: Any, shape: Shape) -> int:
    return (shape.completion_tokens + shape.users) * config.vocab_size


def working_bytes(config: Any, shape: Shape, dtype: str = "bfloat16") -> int:
    """What :class:`~rrec_lib.model.packing.TokenLogprobs` needs at once: the logits' gradient, a chunk in float32."""
    return logits_bytes(config, shape, dtype) + 3 * FULL * TokenLogprobs.CHUNK * config.vocab_size


def calibrate(config: PretrainedConfig, profile: ModelProfile) -> float:
    """Measured bytes over the formula's, for a narrow two-layer model of the same family at :data:`CALIBRATION`.

    Args:
        config: the architecture; its proportions are kept.
        profile: of LoRA; without a rank all weights are trained.
    """
    small = narrow(config)
    model = build(small, replace(profile, lora_layers=None), "cpu")
    dtype, count = arithmetic(profile), trained_values(model)
    formula = kept_bytes(small, CALIBRATION, small.num_hidden_layers, profile.lora_rank, count, dtype=dtype)
    return (saved_bytes(model, CALIBRATION, dtype) - formula["logits"]) / (formula["layers"] + formula["attention"])


def narrow(config: Any, hidden: int = 128, layers: int = 2, vocabulary: int = 512) -> PretrainedConfig:
    """A small model of the same family and about the same proportions."""
    small, heads = copy.deepcopy(config), 4
    ratio = hidden / config.hidden_size
    head = max(2, 2 * round(ratio * _query_width(config) / heads / 2))
    sizes = {"hidden_size": hidden, "intermediate_size": round(ratio * config.intermediate_size), "head_dim": head}
    counts = {"num_attention_heads": heads, "num_key_value_heads": 2, "num_hidden_layers": layers}
    extra = {"layer_types": config.layer_types[:layers]} if getattr(config, "layer_types", None) else {}
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    for name, value in {**sizes, **counts, **extra, **special, "vocab_size": vocabulary}.items():
        setattr(small, name, value)
    return small


def saved_bytes(model: nn.Module, shape: Shape, dtype: str = "bfloat16") -> int:
    """Count what :func:`packed_forward` really keeps for its backward pass, each storage once, weights left out."""
    forward = model.forward
    if dtype == "float16":
        model.forward = convert_outputs_to_fp32(forward)  # as Accelerate does where it scales the loss
    try:
        with counted(model) as kept, autocast(DTYPES[dtype], torch.device("cpu")):
            packed_forward(model, ones(shape))
    finally:
        model.forward = forward
    return sum(storage.nbytes() for storage in kept.values())


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[int, Any]]:
    """Collect what is kept for a backward pass meanwhile: each storage once, the model's weights left out."""
    weights = {id(t.untyped_storage()) for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in weights:
            kept[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def ones(shape: Shape) -> PackedGroups:
    """Groups of a shape, all of them token 1 and none of it padding."""
    prompt = torch.ones(shape.users, shape.prompt_tokens, dtype=torch.long)
    completion = torch.ones(shape.users, shape.group_size, shape.new_tokens, dtype=torch.long)
    return PackedGroups(prompt, prompt, completion, completion, completion)


def trained_values(model: nn.Module) -> int:
    """Number of values that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def kv_cache_bytes(config: Any, sequences: int, tokens: int, dtype: str = "bfloat16") -> int:
    """Keys and values of sequences of a length."""
    width = config.num_key_value_heads * _head_width(config)
    return 2 * WIDTH[dtype] * config.num_hidden_layers * width * sequences * tokens


def merged_bytes(model: nn.Module, profile: ModelProfile, dtype: str) -> int:
    """Copies of linear weights that :func:`rrec_lib.model.lora.merged_lora` makes on a GPU: of the adapted ones in
    float32, of all of a model that is trained in full where products are of half precision."""
    full, single = not profile.lora_rank, dtype == "float32"
    if full is single:
        return 0
    adapted = {layer.get_base_layer() for layer in model.modules() if isinstance(layer, LoraLayer)}
    return WIDTH[dtype] * sum(layer.weight.numel() for layer in linear_layers(model) if full or layer in adapted)


def _head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _query_width(config: Any) -> int:
    return config.num_attention_heads * _head_width(config)


def _eager(config: Any) -> bool:
    """Whether attention keeps every score: Transformers computes Gemma 2's soft-capped ones so."""
    return bool(getattr(config, "attn_logit_softcapping", None))
