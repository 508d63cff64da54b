"""Ragged rows: packed sequences of different sizes, one after the other in a single pass, with nothing between them.

A row is a prefix and completions, each of which goes on from a place in it and sees the prefix up to there and itself.
Dense rows (:mod:`rrec_lib.model.packing`) are filled up to the longest, and attention looks at every pair of a row;
here each row has its own products, and a completion is compared with its prefix and itself alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface

from rrec_lib.core.private_names import attention_of
from rrec_lib.model.layers import chosen_attention, final_states, hidden_behind, only_layers, replaced_input
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import PackedGroups, PackedOutput, TokenLogprobs

RAGGED = "ragged"


@dataclass(frozen=True)
class Row:
    """P tokens of a prefix, then G completions of T tokens each: L = P + G·T.

    Attributes:
        ids, positions: (L,) tokens and their positions; a completion's go on from where what it sees ends.
        prefix: P.
        visible: (G,) how many of the prefix's tokens each completion sees.
        ends: (G,) column of each completion's last real token.
        predictors, predicted: (n,) columns whose logits are wanted, and the token that follows each.
    """

    ids: Tensor
    positions: Tensor
    prefix: int
    visible: Tensor
    ends: Tensor
    predictors: Tensor
    predicted: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "Row":
        """The row with its tensors on a device."""
        moved = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return Row(**{**vars(self), **moved})

    @property
    def width(self) -> int:
        """T."""
        return (len(self.ids) - self.prefix) // len(self.visible)


def ragged_row(
    prefix: Sequence[int],
    completions: Sequence[Sequence[int]],
    visible: Sequence[int] | None = None,
    learned: Sequence[int] | None = None,
) -> Row:
    """Lay out a row.

    Args:
        prefix: P token ids.
        completions: G lists of token ids, none empty.
        visible: from where in the prefix each goes on; from its end, if not given.
        learned: how many of each completion's last tokens are to be predicted, fewer than it has; none, if not given.
    """
    count, lengths = len(completions), torch.tensor([len(completion) for completion in completions])
    starts = torch.tensor(visible if visible is not None else [len(prefix)] * count)
    rest = pad_sequence([torch.tensor(completion) for completion in completions], batch_first=True)
    own = torch.arange(rest.shape[1])
    columns = len(prefix) + torch.arange(count)[:, None] * rest.shape[1] + own
    first = lengths - torch.tensor(learned if learned is not None else [0] * count)
    wanted = (own >= first[:, None]) & (own < lengths[:, None])
    return Row(
        ids=torch.cat([torch.tensor(prefix, dtype=torch.long), rest.flatten()]),
        positions=torch.cat([torch.arange(len(prefix)), (starts[:, None] + own).flatten()]),
        prefix=len(prefix),
        visible=starts,
        ends=columns[torch.arange(count), lengths - 1],
        predictors=columns[wanted] - 1,
        predicted=rest[wanted],
    )


@dataclass(frozen=True)
class RaggedOutput:
    """What a pass over rows gives.

    Attributes:
        states: (R, d) float32 state at each completion's last token, in the order of rows and completions.
        logits: (n, V) of the rows' predictors, or of one token if they have none.
    """

    states: Tensor
    logits: Tensor


def ragged_forward(model: nn.Module, rows: Sequence[Row], hidden: Tensor | None = None, skip: int = 0) -> RaggedOutput:
    """One pass of the language model over rows, with gradients.

    Args:
        model: the language model, wrapped or not; it is called as a whole, so that wrappers see the pass.
        rows: at least one, on the model's device.
        hidden: (1, ΣL, d) what the first ``skip`` layers make of the rows; these are then left out.
        skip: see ``hidden``.
    """
    starts = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0).tolist()
    wanted = torch.cat([row.predictors + start for row, start in zip(rows, starts, strict=False)])
    ends = torch.cat([row.ends + start for row, start in zip(rows, starts, strict=False)])
    keep = wanted if len(wanted) else ends[:1]
    with only_layers(model, slice(skip, None)) as layers, replaced_input(layers, hidden), final_states(model) as found:
        logits = model(**ragged_inputs(model, rows), logits_to_keep=keep).logits
    return RaggedOutput(found[0][0, ends].float(), logits[0])


def ragged_groups(model: nn.Module, groups: PackedGroups, temperature: float = 1.0) -> PackedOutput:
    """What :func:`rrec_lib.model.packing.packed_forward` gives, a row a group, filled up to its own longest completion.

    On a processor, where a padded token costs as much as a real one; an accelerator prefers one product to many.
    """
    real, rows = groups.completion_mask.bool(), []
    for prompt, mask, ids, kept in zip(
        groups.prompt_ids, groups.prompt_mask.bool(), groups.completion_ids, real, strict=True
    ):
        # The prompt's last token goes along with each completion, whose first token it predicts.
        *prefix, last = prompt[mask].tolist()
        completions = [[last, *one[there].tolist()] for one, there in zip(ids, kept, strict=True)]
        rows.append(ragged_row(prefix, completions, learned=[len(one) - 1 for one in completions]).to(ids.device))
    with ragged_rows(model):
        output = ragged_forward(model, rows)
    predicted = torch.cat([row.predicted for row in rows])
    columns = torch.arange(len(predicted), device=predicted.device)
    chosen = TokenLogprobs.apply(output.logits, columns, predicted, temperature)
    logprobs, entropies = (values.new_zeros(real.shape).masked_scatter(real, values).flatten(0, 1) for values in chosen)
    return PackedOutput(logprobs, entropies, output.states)


def ragged_hidden(model: nn.Module, rows: Sequence[Row], depth: int) -> Tensor:
    """(1, ΣL, d) what the first ``depth`` layers make of rows, without gradients."""
    decoder = language_model(model).get_decoder()
    return hidden_behind(model, depth, lambda: decoder(**ragged_inputs(model, rows)))


def ragged_inputs(model: nn.Module, rows: Sequence[Row]) -> dict[str, Any]:
    """What the model or its decoder is called with; attention is to be :func:`ragged_attention`'s.

    Raises:
        RuntimeError: if the model computes another attention, which would let rows see each other.
    """
    if attention_of(language_model(model)) != RAGGED:
        raise RuntimeError("ragged rows need their own attention: with ragged_rows(model): ...")
    return {
        "input_ids": torch.cat([row.ids for row in rows])[None],
        "position_ids": torch.cat([row.positions for row in rows])[None],
        "use_cache": False,
        "layout": [(len(row), row.prefix, *_masks(row)) for row in rows],
    }


@contextmanager
def ragged_rows(model: nn.Module) -> Iterator[None]:
    """Let the model compute attention within rows for a while."""
    with chosen_attention(model, RAGGED):
        yield


def ragged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    layout: Sequence[tuple[int, int, Tensor, Tensor]],
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of Transformers' interface over rows that lie one after the other.

    Args:
        module: not looked at.
        query: (1, H, ΣL, d_h).
        key, value: (1, H_kv, ΣL, d_h); H / H_kv heads share each.
        attention_mask: not looked at; the layout says who sees whom.
        scaling: of the products.
        layout: of each row: L, P, and what is added to the scores, (P, P) and (G, T, P + T).
        softcap: bounds the scores, as Gemma-2 wants it.
        sliding_window: how far back a token sees.

    Returns:
        (1, ΣL, H, d_h), and no weights.

    Raises:
        ValueError: for rows longer than the sliding window.
    """
    sizes = [length for length, *_ in layout]
    longest = max(prefix + own.shape[1] for _, prefix, _, own in layout)
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(f"a row of {longest} tokens is longer than the model's sliding window of {sliding_window}")
    parts = (part[0].split(sizes, 1) for part in (query * scaling, key, value))
    outputs = [
        attended
        for (_, prefix, causal, own), q, k, v in zip(layout, *parts, strict=True)
        for attended in _row_attention(q, k, v, prefix, causal, own, softcap)
    ]
    return torch.cat(outputs, 1).transpose(0, 1)[None], None


AttentionInterface.register(RAGGED, ragged_attention)
AttentionMaskInterface.register(RAGGED, lambda *args, **kwargs: None)


def _row_attention(
    q: Tensor, k: Tensor, v: Tensor, prefix: int, causal: Tensor, own: Tensor, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """(H, P, d_h) of the prefix and (H, G·T, d_h) of the completions, from (H, L, d_h) and twice (H_kv, L, d_h)."""
    (heads, _, size), few = q.shape, len(k)
    shared, (count, width, _) = heads // few, own.shape
    before_k, before_v = k[:, :prefix], v[:, :prefix]
    first = q[:, :prefix].reshape(few, shared * prefix, size)
    scores = (first @ before_k.mT).view(few, shared, prefix, prefix)
    first = _weights(scores, causal, softcap, v.dtype).view(few, shared * prefix, prefix) @ before_v
    rest = q[:, prefix:].reshape(few, shared * count * width, size)
    own_k, own_v = (part[:, prefix:].view(few, 1, count, width, size) for part in (k, v))
    to_prefix = (rest @ before_k.mT).view(few, shared, count, width, prefix)
    to_own = rest.view(few, shared, count, width, size) @ own_k.mT
    weights = _weights(torch.cat([to_prefix, to_own], -1), own, softcap, v.dtype)
    behind = (weights[..., :prefix].reshape(few, shared * count * width, prefix) @ before_v).view(
        few, shared, count, width, size
    )
    behind = behind + weights[..., prefix:] @ own_v
    return first.view(heads, prefix, size), behind.reshape(heads, count * width, size)


def _weights(scores: Tensor, mask: Tensor, softcap: float | None, dtype: torch.dtype) -> Tensor:
    scores = scores.float()
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    return (scores + mask).softmax(-1).to(dtype)


def _masks(row: Row) -> tuple[Tensor, Tensor]:
    """What is added to the scores: (P, P) among the prefix, (G, T, P + T) of completions with the prefix and itself."""
    device, lowest = row.ids.device, torch.finfo(torch.float32).min
    causal = torch.full((row.prefix, row.prefix), lowest, device=device).triu(1)
    own = torch.full((row.width, row.width), lowest, device=device).triu(1)
    before = torch.zeros(len(row.visible), row.prefix, device=device)
    before.masked_fill_(torch.arange(row.prefix, device=device) >= row.visible[:, None], lowest)
    shape = (len(row.visible), row.width, -1)
    return causal, torch.cat([before[:, None].expand(shape), own.expand(shape)], -1)
