"""Rollouts: G sampled reasonings per user prompt, as token ids, each ending at the marker.

Token ids are used as sampled, never re-tokenised. A reasoning ends where its decoded text contains the marker; one that
never gets there, or overshoots inside a token, is closed with the marker's canonical tokens, which are masked out of
the token loss because the policy did not choose them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from rrec_lib.prompts import MARKER, marker_ids

_TAIL = 12  # tokens that are decoded to look for the marker: it has at most 8 characters


@dataclass(frozen=True)
class Closed:
    """One reasoning, closed with the marker.

    Attributes:
        ids: token ids after the prompt, the last of which ends the marker.
        sampled: how many of ``ids`` the policy sampled; the rest was appended.
        finished: whether the policy wrote the marker itself.
        trimmed: whether it did so inside a token that held more text, which was dropped.
    """

    ids: list[int]
    sampled: int
    finished: bool
    trimmed: bool


@dataclass(frozen=True)
class Rollouts:
    """R = B·G reasonings in group order.

    Attributes:
        closed: the R reasonings.
        states: (R, d) float32 hidden states at the marker's last token.
    """

    closed: list[Closed]
    states: Tensor

    @property
    def unfinished_fraction(self) -> float:
        return sum(not c.finished for c in self.closed) / len(self.closed)

    @property
    def trimmed_fraction(self) -> float:
        return sum(c.trimmed for c in self.closed) / len(self.closed)

    def texts(self, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """What the policy wrote, without the marker."""
        return [_text(tokenizer, c.ids[: c.sampled]).partition(MARKER)[0].strip() for c in self.closed]


def sample_groups(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 50,
) -> Rollouts:
    """Sample ``group_size`` reasonings per prompt and read off the state at each marker.

    Each prompt is computed once and its keys and values are shared by its group.

    Args:
        model: the causal language model (unwrapped); the caller sets eval mode, no_grad and autocast.
        prompts: B lists of token ids.
        group_size: G.
        max_new_tokens: longest reasoning, marker included.
        temperature: of sampling; 0 is greedy decoding.
        top_k: sample among the k most likely tokens; 0 among all.

    Raises:
        ValueError: for an empty list of prompts or a group size or length below 1.
    """
    if not prompts or group_size < 1 or max_new_tokens < 1:
        raise ValueError("rollouts need at least one prompt, group_size >= 1 and max_new_tokens >= 1")
    device = next(model.parameters()).device
    ids, mask = _pad_left(prompts, _pad_id(tokenizer), device)
    decoder = model.get_decoder()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    # All but the last prompt token: `generate` computes that one and goes on.
    cache = decoder(
        input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], use_cache=True
    ).past_key_values
    cache.batch_repeat_interleave(group_size)
    ids, mask = ids.repeat_interleave(group_size, 0), mask.repeat_interleave(group_size, 0)
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": top_k} if temperature > 0 else {"do_sample": False}
    )
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=_pad_id(tokenizer),
        eos_token_id=_eos_ids(model, tokenizer),
        **sampling,
    )
    width = ids.shape[1]
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        past_key_values=cache,
        generation_config=config,
        stopping_criteria=[_MarkerStop(tokenizer, width)],
    )
    eos = set(_eos_ids(model, tokenizer))
    closed = [close(row, tokenizer, eos) for row in output[:, width:].tolist()]
    return Rollouts(closed, _marker_states(model, cache, mask, closed))


def close(sampled: list[int], tokenizer: PreTrainedTokenizerBase, eos: set[int] = frozenset()) -> Closed:  # type: ignore[assignment]
    """Cut a sampled sequence at its first marker, or append the marker where there is none.

    Args:
        sampled: token ids as sampled, padding included.
        eos: ids that end the turn; nothing from the first of them on is kept.
    """
    end = next((i for i, token in enumerate(sampled) if token in eos), len(sampled))
    ids = sampled[:end]
    stop = _marker_end(ids, tokenizer)
    if stop is not None and _text(tokenizer, ids[:stop]).endswith(MARKER):
        return Closed(ids[:stop], stop, finished=True, trimmed=False)
    if stop is not None:  # the last token carries text past the marker: back to where the marker began
        ids = ids[:stop]
        while MARKER in (text := _text(tokenizer, ids)) or _ends_inside_marker(text):
            ids = ids[:-1]
    return Closed(ids + marker_ids(tokenizer), len(ids), finished=stop is not None, trimmed=stop is not None)


def _marker_end(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Length of the shortest beginning of ``ids`` whose text contains the marker."""
    if MARKER not in _text(tokenizer, ids):
        return None
    low, high = 1, len(ids)  # containing the marker is monotone in the length
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if MARKER in _text(tokenizer, ids[:middle]) else (middle + 1, high)
    return low


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def _ends_inside_marker(text: str) -> bool:
    return any(text.endswith(MARKER[:length]) for length in range(1, len(MARKER)))


class _MarkerStop(StoppingCriteria):
    """Stop a row once its text contains the marker, however the marker was tokenised."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_width: int) -> None:
        self.tokenizer, self.prompt_width = tokenizer, prompt_width

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:  # type: ignore[override]
        tails = input_ids[:, max(self.prompt_width, input_ids.shape[1] - _TAIL) :]
        done = [MARKER in text for text in self.tokenizer.batch_decode(tails)]
        return torch.tensor(done, device=input_ids.device)


def _marker_states(model: PreTrainedModel, cache: DynamicCache, prompt_mask: Tensor, closed: list[Closed]) -> Tensor:
    """State at the end of each reasoning, from the cache that sampling left: only the last tokens are computed."""
    device, prompt_width = prompt_mask.device, prompt_mask.shape[1]
    cached = cache.get_seq_length()
    # A token that was sampled but never fed has no entry in the cache; every row feeds its last `tail` tokens again.
    tail = max(max(len(c.ids) - min(len(c.ids) - 1, c.sampled, cached - prompt_width) for c in closed), 1)
    fed = torch.zeros(len(closed), tail, dtype=torch.long)
    fed_mask = torch.zeros(len(closed), tail, dtype=torch.long)
    cache_mask = torch.zeros(len(closed), cached, dtype=torch.long)
    cache_mask[:, :prompt_width] = prompt_mask.cpu()
    for row, c in enumerate(closed):
        kept = min(len(c.ids) - 1, c.sampled, cached - prompt_width)
        new = c.ids[kept:]
        fed[row, : len(new)] = torch.tensor(new)
        fed_mask[row, : len(new)] = 1
        cache_mask[row, prompt_width : prompt_width + kept] = 1
    mask = torch.cat([cache_mask, fed_mask], 1).to(device)
    fed, fed_mask = fed.to(device), fed_mask.to(device)
    positions = cache_mask.sum(1, keepdim=True).to(device) + torch.arange(tail, device=device)
    hidden = model.get_decoder()(
        input_ids=fed, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return hidden[torch.arange(len(closed), device=device), fed_mask.sum(1) - 1].float()


def _pad_left(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return ids.to(device), mask.to(device)


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return sorted({int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None})
