"""Rollouts by vLLM through TRL, colocated or on a server: the same closed reasonings, and weights for their tokens.

vLLM computes with other kernels and roundings than the trainer, so a token's probability differs a little between the
two. TRL weights each token's loss with the ratio of both; so does this module. vLLM gives no hidden states: those come
from a packed forward pass without gradients, which also gives the trainer's own log-probabilities.
"""

import math
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rrec_lib.core.hardware import autocast
from rrec_lib.core.private_names import weights_are_due
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import pack, packed_forward
from rrec_lib.model.prompts import MARKER
from rrec_lib.recpo.rollouts import Closed, Rollouts, close, eos_ids, pad_id

# vLLM stops on decoded text and returns the tokens up to there; what it returns is closed as any other rollout.
STOP = {"stop": [MARKER], "include_stop_str_in_output": True}


@dataclass(frozen=True)
class WeightedRollouts:
    """R = B·G reasonings in group order, each token with a weight for its loss.

    Attributes:
        rollouts: the reasonings and their states.
        weights: (R, T) see :func:`importance_weights`, for the packed width T.
        log_ratios: (R, T) trainer's minus sampler's log-probabilities, 0 where unknown or not sampled.
    """

    rollouts: Rollouts
    weights: Tensor
    log_ratios: Tensor


def sample_closed(
    generation: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    eos: Set[int],
) -> tuple[list[Closed], list[list[float]]]:
    """Let vLLM write each group.

    Args:
        generation: TRL's ``VLLMGeneration``, or anything with its ``generate``.
        tokenizer: the policy's.
        prompts: B lists of token ids.
        group_size: G.
        eos: ids that end the turn.

    Returns:
        R closed reasonings, and for each the sampler's log-probability of every sampled token that was kept, NaN
        where vLLM gave none.

    Raises:
        ValueError: if vLLM returns no log-probabilities, or another number of them than of tokens.
    """
    repeated = [list(prompt) for prompt in prompts for _ in range(group_size)]  # TRL's server mode undoes this
    _, sampled, logprobs, _ = generation.generate(prompts=repeated, images=None, num_generations=group_size)
    if logprobs is None or [len(row) for row in logprobs] != [len(row) for row in sampled]:
        raise ValueError(
            "vLLM returned no log-probability per token, which the weights need; leave `logprobs` out of"
            " generation_kwargs and start a server with --logprobs-mode processed_logprobs"
        )
    closed = [close(list(row), tokenizer, eos) for row in sampled]
    kept = [
        [math.nan if token[0] is None else float(token[0]) for token in row[: one.sampled]]
        for row, one in zip(logprobs, closed, strict=True)
    ]
    return closed, kept


def importance_weights(
    logprobs: Tensor,
    sampling_logprobs: Tensor,
    mask: Tensor,
    mode: str = "token_truncate",
    clip_min: float | None = None,
    clip_max: float | None = 3.0,
) -> Tensor:
    """π_trainer(o_t) / π_sampler(o_t), bounded: what TRL multiplies each token's loss with.

    Args:
        logprobs: (R, T) under the trainer's policy, which has not been updated since sampling.
        sampling_logprobs: (R, T) as the sampler gave them; NaN, where it gave none, counts as no difference.
        mask: (R, T) 1 on sampled tokens.
        mode: ``"token_truncate"`` or ``"token_mask"`` for a ratio per token, ``"sequence_truncate"`` or
            ``"sequence_mask"`` for the product over a trajectory. Truncating bounds a ratio, masking makes one that is
            out of bounds 0.
        clip_min, clip_max: the bounds; None leaves one out.

    Returns:
        (R, T) weights; a trajectory's one weight stands at all its tokens.

    Raises:
        ValueError: for an unknown mode.

    Source: TRL's ``vllm_importance_sampling_correction``.
    """
    level, _, bound = mode.partition("_")
    if level not in ("token", "sequence") or bound not in ("truncate", "mask"):
        raise ValueError(f"unknown mode {mode!r}; choose token_ or sequence_, and truncate or mask")
    difference = torch.nan_to_num((logprobs - sampling_logprobs) * mask, nan=0.0)
    if level == "sequence":
        difference = difference.sum(-1, keepdim=True)
    ratio = difference.exp()
    if bound == "truncate":
        return ratio.clamp(clip_min, clip_max).expand_as(logprobs)
    low, high = -math.inf if clip_min is None else clip_min, math.inf if clip_max is None else clip_max
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0).expand_as(logprobs)


def weighted_rollouts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    closed: Sequence[Closed],
    sampling_logprobs: Sequence[Sequence[float]],
    temperature: float,
    **options: Any,
) -> WeightedRollouts:
    """States at the marker and weights of the tokens, by the trainer's model, without gradients, a group at a time.

    Args:
        model: as it is trained, wrapped or not; the caller sets autocast.
        tokenizer: the policy's.
        prompts: B lists of token ids.
        closed: R reasonings in group order.
        sampling_logprobs: see :func:`sample_closed`.
        temperature: of sampling.
        options: ``mode``, ``clip_min`` and ``clip_max`` of :func:`importance_weights`.
    """
    device, size = next(model.parameters()).device, len(closed) // len(prompts)
    width = max(len(one.ids) for one in closed)
    own, states = torch.zeros(len(closed), width, device=device), []
    for group, prompt in enumerate(prompts):
        rows = range(group * size, (group + 1) * size)
        members = [closed[row] for row in rows]
        groups = pack([prompt], [c.ids for c in members], [c.sampled for c in members], pad_id(tokenizer), device)
        with torch.no_grad():
            output = packed_forward(model, groups, temperature)
        own[rows.start : rows.stop, : output.logprobs.shape[1]] = output.logprobs
        states.append(output.states)
    sampler, mask = torch.zeros_like(own), torch.zeros_like(own)
    for row, values in enumerate(sampling_logprobs):
        sampler[row, : len(values)] = torch.tensor(values, device=device)
        mask[row, : len(values)] = 1
    log_ratios = torch.nan_to_num((own - sampler) * mask, nan=0.0)
    weights = importance_weights(own, sampler, mask, **options)
    return WeightedRollouts(Rollouts(list(closed), torch.cat(states)), weights, log_ratios)


def sync_without_drift(generation: Any, model: nn.Module) -> None:
    """Let every weight synchronisation of a generation object leave the adapted weights bit for bit as they were.

    TRL adds the adapters to them in place, sends the sums and subtracts again. Half-precision weights drift with every
    rounding; here a copy of them does, which is thrown away.

    Args:
        generation: TRL's ``VLLMGeneration``, changed in place, for it synchronises on its own behalf as well.
        model: with the LoRA layers whose weights it sends.
    """
    sync = generation.sync_weights

    def synchronise() -> None:
        with _copies_in_place(model):
            sync()

    generation.sync_weights = synchronise


@contextmanager
def _copies_in_place(model: nn.Module) -> Iterator[None]:
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    adapted = [layer.get_base_layer().weight for layer in layers]
    before = [weight.data for weight in adapted]
    try:
        for weight in adapted:
            weight.data = weight.data.clone()
        yield
    finally:
        for weight, data in zip(adapted, before, strict=True):
            weight.data = data


def rollouts_by_vllm(trainer: Any, prompts: Sequence[Sequence[int]], group_size: int) -> WeightedRollouts:
    """One generation step: vLLM gets the present weights, writes the groups, and the trainer's model weighs them.

    Args:
        trainer: a ``RecPOTrainer`` whose ``use_vllm`` is on.
        prompts: B lists of token ids.
        group_size: G.
    """
    args, policy = trainer.args, trainer.policy
    if weights_are_due(trainer):
        trainer.vllm_generation.sync_weights()
    eos = frozenset(eos_ids(language_model(policy.model), policy.tokenizer))
    closed, logprobs = sample_closed(trainer.vllm_generation, policy.tokenizer, prompts, group_size, eos)
    with autocast(policy.compute_dtype, policy.device):
        return weighted_rollouts(
            policy.model,
            policy.tokenizer,
            prompts,
            closed,
            logprobs,
            args.temperature,
            mode=args.vllm_importance_sampling_mode,
            clip_min=args.vllm_importance_sampling_clip_min,
            clip_max=args.vllm_importance_sampling_clip_max,
        )
