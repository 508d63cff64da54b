"""Item states with gradients, where what the frozen layers make of an item's prompt is kept.

An item's prompt never changes, so neither does what the layers below the first trained one make of it: it is computed
when an item is first drawn, and from then on an item costs the trained layers alone. With LoRA on every layer, or
weights trained in full, nothing is frozen and nothing is kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rrec_lib.model.encode import common_prefix
from rrec_lib.model.layers import frozen_layers, hidden_behind, only_layers, replaced_input
from rrec_lib.model.packing import PackedGroups, group_states, packed_states, shared_rows


class ItemEncoder:
    """Final states of a catalogue's items, with gradients."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        """Args:
        model: the language model, wrapped or not; its frozen layers must stay frozen.
        prompts: N lists of token ids.
        """
        self.prompts, self.prefix = prompts, common_prefix(prompts)
        self.frozen = frozen_layers(model) if self.prefix else 0
        self.prefix_hidden = torch.empty(0)  # (P, d) of the prefix, behind the frozen layers
        self.suffix_hidden: dict[int, Tensor] = {}  # item -> (T, d) of the rest of its prompt

    def __call__(self, model: nn.Module, items: Sequence[int], device: torch.device) -> Tensor:
        """Encode items with gradients.

        Args:
            model: that of the constructor, wrapped or not.
            items: n catalogue ids.
            device: the model's.

        Returns:
            (n, d) float32 states, as :func:`rrec_lib.model.packing.packed_states` gives them.

        Raises:
            ValueError: if a layer that was frozen has become trainable, so that what is kept of it may be old.
        """
        if not self.frozen:
            return packed_states(model, [self.prompts[i] for i in items], device)
        if frozen_layers(model) < self.frozen:
            raise ValueError(
                f"the item encoder keeps what {self.frozen} frozen layers compute, and one of them has become"
                " trainable; make a new ItemEncoder after changing requires_grad"
            )
        if missing := [i for i in dict.fromkeys(items) if i not in self.suffix_hidden]:
            self._keep(model, missing, device)
        groups = self._rows(items, device)
        rows, size, _ = groups.completion_ids.shape
        filled = [*items, *[items[-1]] * (rows * size - len(items))]
        suffixes = pad_sequence([self.suffix_hidden[item] for item in filled], batch_first=True)
        prefixes = self.prefix_hidden.expand(rows, -1, -1)
        hidden = torch.cat([prefixes, suffixes.unflatten(0, (rows, size)).flatten(1, 2)], 1)
        with only_layers(model, slice(self.frozen, None)) as first, replaced_input(first, hidden):
            return group_states(model, groups)[: len(items)]

    def _keep(self, model: nn.Module, items: Sequence[int], device: torch.device) -> None:
        """Remember what the frozen layers make of items."""
        groups = self._rows(items, device)
        hidden = hidden_behind(model, self.frozen, lambda: group_states(model, groups))
        width = groups.prompt_ids.shape[1]
        self.prefix_hidden = hidden[0, :width].clone()
        blocks = hidden[:, width:].unflatten(1, groups.completion_ids.shape[1:]).flatten(0, 1)
        for item, block in zip(items, blocks, strict=False):
            self.suffix_hidden[item] = block[: len(self.prompts[item]) - self.prefix].clone()

    def _rows(self, items: Sequence[int], device: torch.device) -> PackedGroups:
        return shared_rows([self.prompts[i] for i in items], self.prefix, device)
