"""Names of others that are theirs alone, each behind a function: what a release may change stands here only.

A function that misses its name says which releases had it; ``tests/core/test_private_names.py`` calls each.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Sampler

_MODEL = "transformers 5.23"
_TRAINER = "transformers 5.8, 5.23 and 5.24"
_GRPO = "trl 1.10 and 1.16"
CHECKED = {  # name -> releases whose source has it; the test tries the installed one
    "_attn_implementation": _MODEL,
    "_pre_quantization_dtype": _MODEL,
    "_get_grad_norm": _TRAINER,
    "_get_train_sampler": f"{_TRAINER}, {_GRPO}",
    "_load_from_checkpoint": _TRAINER,
    "_generate_and_score_completions": _GRPO,
    "_compute_loss": _GRPO,
    "_buffered_inputs": _GRPO,
    "_step": _GRPO,
    "_metrics": _GRPO,
    "_last_loaded_step": _GRPO,
}


def found(owner: Any, name: str) -> Any:
    """``owner.name``, or a ``RuntimeError`` that says where it was."""
    if not hasattr(owner, name):
        here = ", ".join(f"{package} {version(package)}" for package in ("transformers", "trl"))
        raise RuntimeError(f"{type(owner).__name__} has no {name} ({here}); it was there in {CHECKED[name]}")
    return getattr(owner, name)


# -- models ------------------------------------------------------------------------------------------------------------


def attention_of(model: Any) -> str:
    """The attention that a Transformers model computes with, such as ``"sdpa"`` or ``"eager"``.

    There is a public way to set it, ``model.set_attn_implementation``, and none to read it.
    """
    return str(found(model.config, "_attn_implementation"))


def forget_quantization(config: Any) -> None:
    """Remove from a configuration, in place, that its weights were quantised, once they no longer are."""
    for attribute in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, attribute):
            delattr(config, attribute)


# -- Trainer ---------------------------------------------------------------------------------------------------------


def order_rows(trainer: Any, order: Callable[[Sampler], Sampler]) -> None:
    """Let a trainer draw rows by what ``order`` makes of its own sampler; ``set_epoch`` alone can't reorder TRL's."""
    sampler = found(trainer, "_get_train_sampler")
    trainer._get_train_sampler = lambda dataset=None: order(sampler(dataset))


def watch_grad_norm(trainer: Any, check: Callable[[Any], None]) -> None:
    """Call ``check`` with the norm of each step's gradient, as it was before clipping, before the weights take it."""
    measure = found(trainer, "_get_grad_norm")

    def watched(*args: Any, **kwargs: Any) -> Any:
        norm = measure(*args, **kwargs)
        check(norm)
        return norm

    trainer._get_grad_norm = watched


def load_weights(trainer: Any, checkpoint: Path) -> None:
    """Load a checkpoint's weights alone, adapters or all; ``train`` would train a finished run for a step more."""
    found(trainer, "_load_from_checkpoint")(str(checkpoint))


# -- GRPOTrainer -------------------------------------------------------------------------------------------------------


def sample_with(trainer: Any, sample: Callable[[list[dict[str, Any]]], dict[str, Tensor]]) -> None:
    """Let ``sample`` turn examples into a batch of tensors; TRL shuffles and splits their first dimension."""
    found(trainer, "_generate_and_score_completions")
    trainer._generate_and_score_completions = sample


def loss_with(trainer: Any, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]) -> None:
    """Let ``loss`` be a micro-batch's."""
    found(trainer, "_compute_loss")
    trainer._compute_loss = loss


def micro_batches(trainer: Any) -> list[dict[str, Tensor]]:
    """What was sampled last, in micro-batches; later updates use the same ones."""
    return list(found(trainer, "_buffered_inputs") or [])


def resume_sampling(trainer: Any, passes: int, batches: list[dict[str, Tensor]] | None) -> None:
    """Put back what TRL forgets: how many passes were made, and the micro-batches if they are to be used again."""
    found(trainer, "_step"), found(trainer, "_buffered_inputs")
    trainer._step = passes
    trainer._buffered_inputs = batches if batches is not None else trainer._buffered_inputs


def passes_made(trainer: Any) -> int:
    """How many forward and backward passes were made, of all steps."""
    return found(trainer, "_step")


def gathered_figures(trainer: Any) -> dict[str, list[float]]:
    """What was gathered since the last log line, by name; ``log`` averages and empties it."""
    return found(trainer, "_metrics")["train" if trainer.model.training else "eval"]


def weights_are_due(trainer: Any) -> bool:
    """Whether vLLM has not had this step's weights yet; once a step, for the caller sends them now."""
    due = found(trainer, "_last_loaded_step") != trainer.state.global_step
    trainer._last_loaded_step = trainer.state.global_step
    return due


def unwrapped_for_generation(trainer: Any) -> AbstractContextManager[nn.Module]:
    """The model without what distributed training wraps around it."""
    from trl.models.utils import unwrap_model_for_generation

    return unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator)
