"""Rollouts: G sampled reasonings per user prompt, as token ids, each ending at the marker.

Token ids are used as sampled, never re-tokenised. A reasoning ends where its decoded text contains the marker; one that
never gets there, or overshoots inside a token, is closed with the marker's canonical tokens, which are masked out of
the token loss because the policy did not choose them.

A user's G reasonings are written in one row behind the prompt, the layout in which :mod:`rrec_lib.model.packing`, or on
a processor :mod:`rrec_lib.model.ragged`, trains them, so that the prompt stands in the cache once. A finished reasoning
leaves its row, a finished row leaves the batch.

A GPU waits for the processor once a step, when the drawn tokens are read; what goes the other way goes in one piece.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from rrec_lib.core.hardware import send
from rrec_lib.model.cached import GrowingLayer, folded_heads
from rrec_lib.model.encode import pad_rows
from rrec_lib.model.layers import final_states
from rrec_lib.model.packing import attention_mask
from rrec_lib.model.prompts import MARKER, marker_ids

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
        return [_before_marker(tokenizer, c.ids[: c.sampled]) for c in self.closed]


def sample_groups(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 50,
    fixed_length: bool = False,
    hear: Callable[[list[str]], None] | None = None,
) -> Rollouts:
    """Sample ``group_size`` reasonings per prompt and read off the state at each marker.

    Args:
        model: the causal language model (unwrapped); the caller sets eval mode, no_grad and autocast.
        prompts: B lists of token ids.
        group_size: G.
        max_new_tokens: how many tokens are sampled at most; a marker that is missing then is appended to them.
        temperature: of sampling; 0 is greedy decoding.
        top_k: sample among the k most likely tokens; 0 among all.
        fixed_length: neither the marker nor the end of the turn ends a reasoning, as a benchmark wants it.
        hear: called after each step with the R texts as far as they are written.

    Raises:
        ValueError: for an empty list of prompts or a group size or length below 1.
    """
    if not prompts or group_size < 1 or max_new_tokens < 1:
        raise ValueError("rollouts need at least one prompt, group_size >= 1 and max_new_tokens >= 1")
    eos = frozenset(() if fixed_length else eos_ids(model, tokenizer))
    members = [
        _Member(row, number, len(prompt)) for row, prompt in enumerate(prompts) for number in range(1, group_size + 1)
    ]
    rows = _Rows(model, prompts, pad_id(tokenizer))
    writing, logits = members, rows.logits.repeat_interleave(group_size, 0)
    while writing:
        for member, token in zip(writing, _choose(writing, logits, temperature, top_k), strict=True):
            member.ids.append(token)
            ended = not fixed_length and (token in eos or _has_marker(member.ids, tokenizer))
            if ended or len(member.ids) == max_new_tokens:
                member.closed = close(member.ids, tokenizer, eos)
        if hear is not None:
            hear([_so_far(member, tokenizer) for member in members])
        logits, states = rows.feed(writing)
        for member, state in zip(writing, states, strict=True):
            member.state = state  # in the end that of the marker's last token
        writing = [member for member in writing if member.closed is None]
    return Rollouts([m.closed for m in members], torch.stack([m.state for m in members]))  # type: ignore[misc]


@dataclass
class _Member:
    """One of a group's reasonings while it is written."""

    row: int
    number: int  # 1 to G
    start: int  # position of its first token
    ids: list[int] = field(default_factory=list)  # as sampled
    fed: int = 0  # how many of its tokens the cache holds
    closed: Closed | None = None
    state: Tensor | None = None  # at the last token that was fed

    def pending(self) -> list[int]:
        return (self.closed.ids if self.closed else self.ids)[self.fed :]


class _Rows:
    """A key-value cache with one row per prompt; what its members write is appended step by step, side by side."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad: int) -> None:
        self.model, self.rows = model, list(range(len(prompts)))
        ids, mask = pad_rows(prompts, pad, next(model.parameters()).device, side="left")
        self.owner = mask - 1  # (B, L) who wrote a cached token: 0 the prompt, 1 to G a member, -1 hides it
        self.positions = (mask.cumsum(1) - 1).clamp(min=0)
        self.cache = Cache(layer_class_to_replicate=GrowingLayer)
        self.logits = self._forward(ids, mask, self.positions, logits_to_keep=1)[0][:, 0]

    def feed(self, members: list[_Member]) -> tuple[Tensor, Tensor]:
        """Compute all pending tokens of the members.

        Returns:
            (m, V) logits at the last token of each member that goes on, and (n, d) float32 states at each one's last.
        """
        for member in members:
            if member.closed is not None:
                self._forget(member, member.closed.sampled)
        rows = sorted({member.row for member in members})
        fed: dict[int, list[tuple[int, int, int]]] = {row: [] for row in rows}
        last = []
        for member in members:
            first, row = member.start + member.fed, fed[member.row]
            row += [(token, member.number, first + i) for i, token in enumerate(member.pending())]
            member.fed += len(member.pending())
            last.append((rows.index(member.row), len(row) - 1))
        width = max(map(len, fed.values()))
        at = [row * width + column for row, column in last]
        going_on = [place for place, member in zip(at, members, strict=True) if member.closed is None]
        columns = [column for row in fed.values() for column in row + [(0, -1, 0)] * (width - len(row))]
        # What the device has to know of this step goes there at once.
        kept, ends, predicting, flat = send(
            [[self.rows.index(row) for row in rows], at, going_on, list(chain.from_iterable(columns))],
            self.owner.device,
        )
        if rows != self.rows:  # the others are finished
            self.cache.batch_select_indices(kept)
            self.rows, self.owner, self.positions = rows, self.owner[kept], self.positions[kept]
        ids, owner, positions = flat.view(len(rows), width, 3).unbind(-1)
        self.owner = torch.cat([self.owner, owner], 1)
        self.positions = torch.cat([self.positions, positions], 1)
        mask = attention_mask(self.model, owner, positions, self.owner, self.positions)
        logits, states = self._forward(ids, mask, positions)
        return logits.flatten(0, 1).index_select(0, predicting), states.flatten(0, 1)[ends].float()

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, **options: int) -> tuple[Tensor, Tensor]:
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        with final_states(self.model) as captured, folded_heads(self.model):
            logits = self.model(**inputs, past_key_values=self.cache, use_cache=True, **options).logits
        return logits, captured[0]

    def _forget(self, member: _Member, length: int) -> None:
        """Hide what a member has written beyond a length, so that it can be written anew."""
        if member.fed > length:
            row = self.rows.index(member.row)
            gone = (self.owner[row] == member.number) & (self.positions[row] >= member.start + length)
            self.owner[row] = self.owner[row].masked_fill(gone, -1)
            member.fed = length


def _choose(writing: list[_Member], logits: Tensor, temperature: float, top_k: int) -> list[int]:
    """The next token of each member, from (n, V) logits. Only the k candidates are normalised and drawn from.

    Raises:
        RuntimeError: if the probabilities are no numbers.
    """
    if temperature == 0:
        return logits.argmax(-1).tolist()
    values, tokens = logits.topk(min(top_k or logits.shape[-1], logits.shape[-1]))
    probabilities = (values.float() / temperature).softmax(-1)
    # As torch.multinomial draws, which on a GPU waits twice to look at the probabilities; here what it would refuse
    # comes back with the tokens, as -1.
    drawn = (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1, keepdim=True)
    refused = ~probabilities.isfinite().all(-1)
    chosen: list[int] = tokens.gather(-1, drawn)[:, 0].masked_fill(refused, -1).tolist()
    if min(chosen) < 0:
        raise RuntimeError("probability tensor contains inf or nan: no token can be drawn")
    return chosen


def _has_marker(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> bool:
    return _may_end_marker(ids[-1], tokenizer) and MARKER in _text(tokenizer, ids[-_TAIL:])


@lru_cache(maxsize=2**18)
def _may_end_marker(token: int, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a token holds the marker's last character: decoding the tail of every row at every step takes time."""
    return MARKER[-1] in _text(tokenizer, [token])


def close(sampled: list[int], tokenizer: PreTrainedTokenizerBase, eos: Set[int] = frozenset()) -> Closed:
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


def _so_far(member: _Member, tokenizer: PreTrainedTokenizerBase) -> str:
    """What a member has written, without a marker or a character that has only begun."""
    if member.closed is not None:
        return _before_marker(tokenizer, member.closed.ids[: member.closed.sampled])
    text = _before_marker(tokenizer, member.ids).rstrip("\ufffd")
    begun = next((length for length in range(len(MARKER), 0, -1) if text.endswith(MARKER[:length])), 0)
    return text[: len(text) - begun].rstrip()


def _before_marker(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return _text(tokenizer, ids).partition(MARKER)[0].strip()


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def _ends_inside_marker(text: str) -> bool:
    return any(text.endswith(MARKER[:length]) for length in range(1, len(MARKER)))


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills up short rows."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end the turn, the model's and the tokenizer's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return sorted({int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None})
