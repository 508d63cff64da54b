"""Encoding: token ids in, the hidden state at each sequence's last token out, without gradients and fast."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rrec_lib.core import hardware
from rrec_lib.core.console import progress
from rrec_lib.model.layers import chosen_attention
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.model.precision import check_finite


def pad_rows(
    sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device | None = None, side: str = "right"
) -> tuple[Tensor, Tensor]:
    """Stack sequences into (n, T) ids and a (n, T) mask of ones on real tokens.

    Args:
        sequences: n lists of token ids.
        pad_id: what fills up rows.
        device: of the tensors.
        side: ``"right"`` or ``"left"``, where rows are filled up.
    """
    rows = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad_id, padding_side=side)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)
    return ids.to(device), mask.to(device)


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
        description: of the progress bar.

    Returns:
        (n, d) float32 states, on the policy's device.

    Raises:
        ValueError: if a state is not finite, so that none gets into an item table.
    """
    if not sequences:
        return torch.empty(0, policy.hidden_size, device=policy.device)
    prefix = common_prefix(sequences)
    limit = batch_tokens or hardware.batch_tokens(policy.device)
    states = torch.empty(len(sequences), policy.hidden_size, device=policy.device)
    decoder = language_model(policy.model).get_decoder()
    with policy.inference(), plain_attention(policy):
        ids = torch.tensor([sequences[0][:prefix]], device=policy.device)
        shared = decoder(input_ids=ids, use_cache=True).past_key_values if prefix else None
        for batch in progress(batches([len(s) - prefix for s in sequences], limit), description):
            ids, mask = pad_rows([sequences[i][prefix:] for i in batch], 0, policy.device)
            mask = torch.cat([mask.new_ones(len(batch), prefix), mask], 1)
            if (cache := copy.deepcopy(shared)) is not None:
                cache.batch_repeat_interleave(len(batch))
            options = {"past_key_values": cache, "use_cache": cache is not None}
            states[batch] = last_hidden_states(policy.model, ids, mask, **options)
    return check_finite(states, policy.compute_dtype)


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Split sequences into batches of like lengths.

    Args:
        lengths: of n sequences.
        batch_tokens: how many tokens a batch may hold, padding included; a longer sequence is a batch of its own.

    Returns:
        The numbers from 0 to n - 1, shortest sequence first.
    """
    split: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):  # the next one is the longest of its batch
        if split[-1] and (len(split[-1]) + 1) * lengths[i] > batch_tokens:
            split.append([])
        split[-1].append(i)
    return split


def of_like_lengths(sequences: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """The numbers of sequences, shortest first, in lists of ``size``; the last one may be shorter."""
    order = sorted(range(len(sequences)), key=lambda number: len(sequences[number]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all sequences share; at least one token of each stays outside."""
    if len(sequences) < 2:
        return 0
    low, high = min(map(list, sequences)), max(map(list, sequences))  # in lexicographic order the extremes differ first
    limit = min(len(sequence) for sequence in sequences) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


@contextmanager
def plain_attention(policy: Policy) -> Iterator[None]:
    """On a CPU, attention as plain matrix products for a while: faster there for many short sequences."""
    with chosen_attention(policy.model, "eager") if policy.device.type == "cpu" else nullcontext():
        yield
