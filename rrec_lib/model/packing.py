"""Packing: a prompt and its G reasonings in one row, so that the prompt is computed once.

The reasonings stand one after the other behind the prompt; a block mask lets each see the prompt and itself, and
position ids start again behind the prompt. The result equals G separate rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rrec_lib.core.private_names import attention_of
from rrec_lib.model.encode import common_prefix, last_hidden_states, pad_rows
from rrec_lib.model.layers import final_states
from rrec_lib.model.lora import language_model


@dataclass(frozen=True)
class PackedGroups:
    """B groups as tensors whose first dimension is the group, so that shuffling and splitting keep groups whole.

    Attributes:
        prompt_ids, prompt_mask: (B, P), padded on the left.
        completion_ids: (B, G, T), padded on the right.
        completion_mask: (B, G, T), 1 on every real token, the appended marker included.
        loss_mask: (B, G, T), 1 on the tokens that the policy sampled.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    loss_mask: Tensor


def pack(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    sampled: Sequence[int],
    pad_id: int,
    device: torch.device,
) -> PackedGroups:
    """Stack B prompts and their R = B·G completions, in group order.

    Args:
        prompts: B lists of token ids.
        completions: R lists of token ids.
        sampled: how many leading tokens of each completion the policy sampled.
        pad_id: what fills up rows.
        device: of the tensors.
    """
    group_size = len(completions) // len(prompts)
    prompt_ids, prompt_mask = pad_rows(prompts, pad_id, side="left")
    ids, mask = pad_rows(completions, pad_id)
    loss_mask = (torch.arange(ids.shape[1]) < torch.tensor(list(sampled))[:, None]).long()
    of_groups = (part.unflatten(0, (len(prompts), group_size)) for part in (ids, mask, loss_mask))
    return PackedGroups(*(part.to(device) for part in (prompt_ids, prompt_mask, *of_groups)))


@dataclass(frozen=True)
class PackedOutput:
    """What one forward pass over packed groups gives.

    Attributes:
        logprobs: (R, T) log-probabilities of the completion tokens at the sampling temperature; 0 on padding.
        entropies: (R, T) entropies of the same distributions, in nats, without gradients.
        states: (R, d) float32 state at each completion's last real token.
    """

    logprobs: Tensor
    entropies: Tensor
    states: Tensor


def packed_forward(model: nn.Module, groups: PackedGroups, temperature: float = 1.0) -> PackedOutput:
    """One forward pass that gives the token log-probabilities and the states for ``rec_head``.

    Args:
        model: the language model, wrapped or not; it is called as a whole, so that wrappers see the pass.
        groups: see :class:`PackedGroups`.
        temperature: divides the logits, as sampling did.
    """
    _, group_size, width = groups.completion_ids.shape
    prompt_width = groups.prompt_ids.shape[1]
    inputs = _packed_inputs(model, groups)
    with final_states(model) as captured:
        logits = model(
            **inputs,
            logits_to_keep=torch.arange(
                prompt_width - 1, inputs["input_ids"].shape[1], device=groups.prompt_ids.device
            ),
        ).logits
    # Each block is predicted by the prompt's last token, column 0, and then by its own tokens but the last.
    columns = torch.arange(group_size * width, device=logits.device).view(group_size, width)
    columns[:, 0] = 0
    rows = torch.arange(len(logits), device=logits.device)[:, None, None] * logits.shape[1] + columns
    real = groups.completion_mask.bool()
    chosen = TokenLogprobs.apply(logits.flatten(0, 1), rows[real], groups.completion_ids[real], temperature)
    logprobs, entropies = (values.new_zeros(real.shape).masked_scatter(real, values).flatten(0, 1) for values in chosen)
    return PackedOutput(logprobs, entropies, _last_states(captured[0], groups))


class TokenLogprobs(torch.autograd.Function):
    """Log-probabilities and entropies of chosen tokens, without float32 copies of all logits.

    The softmax over the vocabulary is computed for :attr:`CHUNK` rows at a time, and again in the backward pass.
    """

    CHUNK = 128  # rows whose float32 logits stand in memory together

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, rows: Tensor, ids: Tensor, temperature: float, with_entropies: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Args:
        logits: (L, V) of any type.
        rows: (n,) which row predicts; one may predict several tokens.
        ids: (n,) the tokens.
        temperature: divides the logits.
        with_entropies: or none, which spares a third of the time.

        Returns:
            (n,) log-probabilities and (n,) or (0,) entropies in nats, float32; the entropies carry no gradient.
        """
        logprobs, entropies = [], [logits.new_zeros(0, dtype=torch.float32)]
        for row, token in zip(rows.split(TokenLogprobs.CHUNK), ids.split(TokenLogprobs.CHUNK), strict=True):
            distribution = (logits[row].float() / temperature).log_softmax(-1)
            logprobs.append(distribution.gather(-1, token[:, None])[:, 0])
            if with_entropies:
                entropies.append(-(distribution.exp() * distribution).sum(-1))
        ctx.save_for_backward(logits, rows, ids)
        ctx.temperature = temperature
        entropy = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs), entropy

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, *tuple[None, ...]]:  # type: ignore[override]
        """d log p(token) / d logits = (one-hot − softmax) / temperature."""
        logits, rows, ids = ctx.saved_tensors
        gradient = torch.zeros_like(logits)
        scale = (upstream / ctx.temperature)[:, None]
        chunks = zip(*(part.split(TokenLogprobs.CHUNK) for part in (rows, ids, scale)), strict=True)
        for row, token, weight in chunks:
            share = (logits[row].float() / ctx.temperature).softmax(-1).mul_(-weight)
            gradient.index_add_(0, row, share.scatter_add_(-1, token[:, None], weight).to(gradient.dtype))
        return gradient, None, None, None, None


def packed_states(
    model: nn.Module, sequences: Sequence[Sequence[int]], device: torch.device, per_row: int = 8
) -> Tensor:
    """Final states of sequences with a common beginning, with gradients; the beginning is computed once a row.

    Args:
        model: the language model, wrapped or not.
        sequences: n lists of token ids, such as item prompts, which share their instruction.
        device: the model's.
        per_row: how many sequences share a row; attention over a row grows with its square.

    Returns:
        (n, d) float32 states at each sequence's last token.
    """
    prefix = common_prefix(sequences)
    if not prefix:
        return last_hidden_states(model, *pad_rows(sequences, 0, device), use_cache=False)
    return group_states(model, shared_rows(sequences, prefix, device, per_row))[: len(sequences)]


def shared_rows(
    sequences: Sequence[Sequence[int]], prefix: int, device: torch.device, per_row: int = 8
) -> PackedGroups:
    """Rows of several sequences behind the tokens that they all begin with; the last row is filled up.

    Args:
        sequences: n lists of token ids.
        prefix: how many tokens they share.
        device: of the tensors.
        per_row: how many sequences share a row.
    """
    per_row = min(per_row, len(sequences))
    filled = list(sequences) + [sequences[-1]] * (-len(sequences) % per_row)
    suffixes = [sequence[prefix:] for sequence in filled]
    prompts = [sequences[0][:prefix]] * (len(filled) // per_row)
    return pack(prompts, suffixes, [0] * len(suffixes), 0, device)


def group_states(model: nn.Module, groups: PackedGroups) -> Tensor:
    """(R, d) float32 state at each completion's last real token, with gradients, without ``lm_head``."""
    hidden = language_model(model).get_decoder()(**_packed_inputs(model, groups)).last_hidden_state
    return _last_states(hidden, groups)


def _packed_inputs(model: nn.Module, groups: PackedGroups) -> dict[str, Any]:
    """Token ids, block mask and positions, (B, P + G·T) wide; a completion's positions go on where the prompt ends."""
    _, group_size, width = groups.completion_ids.shape
    columns = torch.arange(group_size * width, device=groups.prompt_ids.device)
    prompt_positions = (groups.prompt_mask.cumsum(1) - 1).clamp(min=0)
    positions = torch.cat([prompt_positions, groups.prompt_mask.sum(1, keepdim=True) + columns % width], 1)
    completions = torch.where(groups.completion_mask.flatten(1) == 1, columns // width + 1, -1)
    owner = torch.cat([groups.prompt_mask - 1, completions], 1)
    return {
        "input_ids": torch.cat([groups.prompt_ids, groups.completion_ids.flatten(1)], 1),
        "attention_mask": attention_mask(model, owner, positions, owner, positions),
        "position_ids": positions,
        "use_cache": False,
    }


def _last_states(hidden: Tensor, groups: PackedGroups) -> Tensor:
    """(R, d) state at each completion's last real token, from (B, P + G·T, d)."""
    _, group_size, width = groups.completion_ids.shape
    blocks = hidden[:, groups.prompt_ids.shape[1] :].unflatten(1, (group_size, width)).flatten(0, 1)
    last = groups.completion_mask.flatten(0, 1).sum(1) - 1
    return blocks[torch.arange(len(blocks), device=hidden.device), last].float()


def attention_mask(
    model: nn.Module,
    query_owner: Tensor,
    query_positions: Tensor,
    key_owner: Tensor,
    key_positions: Tensor,
) -> Tensor:
    """A token sees the prompt and its own completion, up to its own position.

    Args:
        model: the language model, wrapped or not; its attention decides the form of the mask.
        query_owner, query_positions: (B, Q) whose tokens look (0 the prompt, from 1 on completions, -1 padding) and
            their positions.
        key_owner, key_positions: (B, L) the same of the tokens that are looked at.

    Returns:
        (B, 1, Q, L): booleans for SDPA, else 0 and the lowest number, to be added to the scores. Padding is seen by
        nobody, and itself sees the beginning of the prompt, so that no row of the softmax is empty.

    Raises:
        ValueError: for rows longer than the model's sliding window.
    """
    if window := _window(model):  # asked only then: on a GPU the answer has to be waited for
        longest = int(torch.cat([query_positions, key_positions], 1).max()) + 1
        if longest > window:
            raise ValueError(f"a prompt and its reasoning of {longest} tokens are longer than the model's sliding "
                             f"window of {window}, which a packed row can't keep to; shorten data.window")  # fmt: skip
    owner, keys = query_owner[:, :, None], key_owner[:, None, :]
    mask = ((keys == 0) | ((keys == owner) & (keys > 0))) & (key_positions[:, None, :] <= query_positions[:, :, None])
    return mask_form(model, mask)


def _window(model: nn.Module) -> int | None:
    """How far back a token of the model's windowed layers sees; None if it has none."""
    config: Any = language_model(model).config
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    return getattr(config, "sliding_window", None) if windowed else None


def mask_form(model: nn.Module, visible: Tensor) -> Tensor:
    """(B, 1, Q, L) the form in which the model's attention takes (B, Q, L) who sees whom; no row may be empty."""
    visible = visible[:, None]
    if attention_of(language_model(model)) == "sdpa":
        return visible
    return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, torch.finfo(torch.float32).min)
