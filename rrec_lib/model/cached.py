"""A key-value cache that grows without being copied, and attention that reads it as it stands.

Writing a token looks at everything that is cached. Transformers' cache is copied as a whole at each token, and its
attention copies each key once for every head that shares it; on a processor that takes a fifth of the time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer

from rrec_lib.core.private_names import attention_of
from rrec_lib.model.layers import chosen_attention
from rrec_lib.model.lora import language_model

FOLDED = "folded"
_MORE = 64  # columns that are added at once


class GrowingLayer(DynamicLayer):
    """A layer of a key-value cache, for ``Cache(layer_class_to_replicate=GrowingLayer)``.

    Rotary embeddings leave keys in float32 under autocast; attention would round all of them at every step, so they are
    kept in the values' type.
    """

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0].to(value_states.dtype), value_states[:, :, :0]
        self.rooms = [self.keys, self.values]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = self._appended(0, self.keys, key_states), self._appended(1, self.values, value_states)
        return self.keys, self.values

    def _appended(self, number: int, kept: Any, new: Tensor) -> Tensor:
        """``new`` behind ``kept``, in the room that ``kept`` lies in, or in a new one if it is full or left behind."""
        length, total = kept.shape[-2], kept.shape[-2] + new.shape[-2]
        room = self.rooms[number]
        if total > room.shape[-2] or kept.data_ptr() != room.data_ptr() or len(kept) != len(room):
            room = kept.new_empty(*kept.shape[:-2], total + _MORE, kept.shape[-1])
            room[..., :length, :] = kept
            self.rooms[number] = room
        room[..., length:total, :] = new
        return room[..., :total, :]


@contextmanager
def folded_heads(model: nn.Module) -> Iterator[None]:
    """Let the model compute SDPA by :func:`folded_attention` for a while, on a processor; else nothing changes."""
    language: Any = language_model(model)
    if attention_of(language) != "sdpa" or language.device.type != "cpu":
        yield
        return
    with chosen_attention(language, FOLDED):
        yield


def folded_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention of Transformers' interface in which heads that share keys look at them as further queries.

    Args:
        module: handed to Transformers' own where there is no mask.
        query: (B, H, Q, d_h).
        key, value: (B, H_kv, L, d_h); H / H_kv heads share each.
        attention_mask: (B, 1, Q, L) who sees whom; without it attention is causal, and Transformers' own.
        options: of them the ``scaling`` of the products.

    Returns:
        (B, Q, H, d_h), and no weights.
    """
    if attention_mask is None:
        attend: Any = AttentionInterface()["sdpa"]
        return attend(module, query, key, value, None, **options)  # type: ignore[no-any-return]
    (rows, heads, width, size), few = query.shape, key.shape[1]
    folded = query.reshape(rows, few, heads // few * width, size)
    mask = attention_mask.expand(rows, 1, width, -1).repeat(1, 1, heads // few, 1)
    output = scaled_dot_product_attention(folded, key, value, mask, scale=options.get("scaling"))
    return output.view(rows, heads, width, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(FOLDED, folded_attention)
AttentionMaskInterface.register(FOLDED, AttentionMaskInterface()["sdpa"])
