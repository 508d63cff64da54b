"""The policy: one language model with two heads.

``lm_head`` writes the reasoning; ``rec_head`` scores every item by the hidden state at the marker against an item table
made of the same model's states on item prompts (R²ec, Sec. 3).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from rrec_lib.core import hardware
from rrec_lib.core.console import progress
from rrec_lib.core.paths import cache_dir, replacing
from rrec_lib.core.profiles import ModelProfile
from rrec_lib.model.load import load_language_model
from rrec_lib.model.precision import cast_weights, check_finite, check_first_pass, float32_stream
from rrec_lib.model.prompts import encode_items, prompts_hash


@dataclass
class Policy:
    """A language model, with LoRA or trained in full, its tokenizer and its arithmetic type."""

    model: PeftModel | PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    compute_dtype: torch.dtype
    base_hash: str  # of the weights that training starts from

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def hidden_size(self) -> int:
        return int(language_model(self.model).config.hidden_size)

    @property
    def made_by(self) -> str:
        """What its states depend on, prompts aside: base and trained weights, their type, and that of products."""
        weights_dtype = language_model(self.model).dtype
        return f"{self.base_hash} {weights_hash(self.model, True)} {weights_dtype} {self.compute_dtype}"

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, no dropout, LoRA merged, matrix products in the compute type; all is restored after."""
        training = self.model.training
        self.model.eval()
        try:
            with (
                torch.no_grad(),
                merged_lora(self.model, self.compute_dtype),
                hardware.autocast(self.compute_dtype, self.device),
            ):
                yield
        finally:
            self.model.train(training)


def load_policy(profile: ModelProfile, seed: int = 0) -> Policy:
    """Load the language model a profile names and put fresh LoRA weights on the linear layers of its decoder.

    Fresh LoRA is the identity, so the policy starts as the base model. Without a LoRA rank all weights are trained, and
    kept in float32: an update is often smaller than bfloat16's rounding. The base's hash is that of the weights as they
    are stored, so that it is the same on every machine, whatever type they take there.
    """
    compute_dtype = hardware.choose_dtype(profile.dtype)
    # On a GPU the frozen weights take the compute type; on a CPU autocast does better from float32.
    weights_dtype = compute_dtype if torch.cuda.is_available() and profile.lora_rank else torch.float32
    model, tokenizer = load_language_model(profile.name, "auto", seed, profile.revision)
    base_hash = weights_hash(model)
    model = check_first_pass(float32_stream(cast_weights(model, weights_dtype)), compute_dtype)
    torch.manual_seed(seed)
    trained = add_lora(model, profile).to(hardware.device())  # type: ignore[arg-type]
    return Policy(trained, tokenizer, compute_dtype, base_hash)


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

    Args:
        model: the language model, wrapped or not.
        dtype: of every linear layer's weight meanwhile. Autocast rounds float32 weights again at each product, which
            for a few tokens is a good part of the work; rounded once, the products are the same.
    """
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer) and not module.disable_adapters]
    added = {layer.get_base_layer(): layer for layer in adapted}
    linear = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".lora_" not in name]
    before = [module.weight for module in linear]
    try:
        for module in linear:
            weight = module.weight.data
            if (layer := added.get(module)) is not None:
                for name in layer.active_adapters:
                    weight = weight + layer.get_delta_weight(name).to(weight.dtype)  # type: ignore[operator]
                layer._disable_adapters = True
            module.weight = nn.Parameter(weight.to(dtype or weight.dtype), requires_grad=False)
        yield
    finally:
        for module, parameter in zip(linear, before, strict=True):
            module.weight = parameter
        for layer in adapted:
            layer._disable_adapters = False


def language_model(model: nn.Module) -> PreTrainedModel:
    """The causal language model under a PEFT or distributed wrapper."""
    model = getattr(model, "module", model)
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def weights_hash(model: nn.Module, only_trainable: bool = False) -> str:
    """SHA-256 over names and float32 values of the parameters, 16 hex digits.

    GGUF and hub weights of the same model differ, and so do their hashes; the type in memory does not matter.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not only_trainable:
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def last_hidden_states(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> Tensor:
    """State at the last real token of each right-padded row, in float32.

    Args:
        model: the language model, wrapped or not.
        input_ids: (n, T) token ids.
        attention_mask: (n, T), or (n, P + T) with a cached prefix of P tokens; 1 on real tokens.

    Returns:
        (n, d) states after the decoder's final norm.
    """
    decoder = language_model(model).get_decoder()
    hidden = decoder(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
    last = attention_mask[:, -input_ids.shape[1] :].sum(1) - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), last].float()


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack sequences into (n, T) ids and a (n, T) mask of ones on real tokens."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


def encode(
    policy: Policy, sequences: Sequence[Sequence[int]], batch_tokens: int | None = None, description: str = "encoding"
) -> Tensor:
    """Final hidden states of many sequences, without gradients.

    Sequences are sorted by length, so that hardly anything is padded, and what all of them begin with (the
    instruction) is computed once and its keys and values shared.

    Args:
        policy: the policy.
        sequences: n lists of token ids.
        batch_tokens: how many tokens a batch may hold; what suits the device, if not given.

    Returns:
        (n, d) float32 states, on the policy's device.

    Raises:
        ValueError: if a state is not finite, so that none gets into an item table.
    """
    if not sequences:
        return torch.empty(0, policy.hidden_size, device=policy.device)
    prefix = common_prefix(sequences)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    limit = batch_tokens or hardware.batch_tokens(policy.device)
    states = torch.empty(len(sequences), policy.hidden_size, device=policy.device)
    decoder = language_model(policy.model).get_decoder()
    with policy.inference(), plain_attention(policy):
        shared = None
        if prefix:
            ids = torch.tensor([sequences[0][:prefix]], device=policy.device)
            shared = decoder(input_ids=ids, use_cache=True).past_key_values
        for batch in progress(list(_batches(order, sequences, prefix, limit)), description):
            ids, mask = pad_right([sequences[i][prefix:] for i in batch], 0, policy.device)
            cache = _expand(shared, len(batch)) if shared is not None else None
            mask = torch.cat([mask.new_ones(len(batch), prefix), mask], 1)
            states[batch] = last_hidden_states(
                policy.model, ids, mask, past_key_values=cache, use_cache=cache is not None
            )
    return check_finite(states, policy.compute_dtype)


@contextmanager
def plain_attention(policy: Policy) -> Iterator[None]:
    """On a CPU, attention as plain matrix products for a while: faster there for many short sequences."""
    model = language_model(policy.model)
    before = model.config._attn_implementation
    if policy.device.type == "cpu":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def item_table(policy: Policy, items: Sequence[Mapping[str, Any]], use_cache: bool = True) -> Tensor:
    """``rec_head``'s table: one state per item.

    It is kept on disk under the hash of the weights, the prompts and the catalogue.

    Returns:
        (N, d) float32 states.
    """
    sequences = encode_items(policy.tokenizer, items)
    if not use_cache:
        return encode(policy, sequences, description="encoding items")
    digest = hashlib.sha256(f"{policy.made_by} {sequences}".encode())
    path = cache_dir() / "item_tables" / f"{digest.hexdigest()[:32]}.safetensors"
    if path.is_file():
        return load_file(path)["states"].to(policy.device)
    states = encode(policy, sequences, description="encoding items")
    with replacing(path) as temporary:
        save_file({"states": states.cpu().contiguous()}, temporary)
    return states


def identity(policy: Policy, catalogue: str) -> dict[str, str]:
    """What trained weights are tied to: hashes of the base weights, the prompts and the catalogue."""
    return {"base": policy.base_hash, "prompts": prompts_hash(policy.tokenizer), "catalogue": catalogue}


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all sequences share; at least one token of each stays outside."""
    if len(sequences) < 2:
        return 0
    low, high = min(map(list, sequences)), max(map(list, sequences))  # in lexicographic order the extremes differ first
    limit = min(len(sequence) for sequence in sequences) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


def _batches(
    order: Sequence[int], sequences: Sequence[Sequence[int]], prefix: int, batch_tokens: int
) -> Iterator[list[int]]:
    batch: list[int] = []
    for i in order:  # ascending length: the next sequence is the longest of its batch
        if batch and (len(batch) + 1) * (len(sequences[i]) - prefix) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _expand(cache: DynamicCache, rows: int) -> DynamicCache:
    """A copy of a one-row cache for ``rows`` rows; expanding shares memory until new tokens are appended."""
    layers: Any = cache.layers
    return DynamicCache(
        [(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in layers]
    )
