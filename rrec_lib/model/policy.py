"""The policy: one language model with two heads.

``lm_head`` writes the reasoning; ``rec_head`` scores every item by the hidden state at the marker against an item table
made of the same model's states on item prompts (R²ec, Sec. 3).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rrec_lib.core import hardware
from rrec_lib.core.profiles import ModelProfile
from rrec_lib.model.load import load_language_model
from rrec_lib.model.lora import add_lora, language_model, merged_lora
from rrec_lib.model.precision import cast_weights, check_first_pass, float32_stream


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
    def dtype_name(self) -> str:
        """The compute type as profiles name it, such as ``"float32"``."""
        return str(self.compute_dtype).removeprefix("torch.")

    @property
    def hidden_size(self) -> int:
        return int(language_model(self.model).config.hidden_size)

    @property
    def fingerprint(self) -> str:
        """What its states depend on, prompts aside: base and trained weights, their type, and that of products."""
        weights_dtype = language_model(self.model).dtype
        trained = weights_hash(self.model, isinstance(self.model, PeftModel))
        return f"{self.base_hash} {trained} {weights_dtype} {self.compute_dtype}"

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


def weights_hash(model: nn.Module, only_trainable: bool = False) -> str:
    """SHA-256 over names and float32 values of the parameters, 16 hex digits.

    GGUF and hub weights of the same model differ, and so do their hashes; the type in memory does not matter. LoRA's
    weights are told by their names: while they are merged they take no gradient.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or ".lora_" in name or not only_trainable:
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
