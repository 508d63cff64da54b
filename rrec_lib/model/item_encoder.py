"""Item states with gradients, where what the frozen layers make of an item's prompt is kept.

An item's prompt never changes, so neither does what the layers below the first trained one make of it: it is computed
when an item is first drawn, and from then on an item costs the trained layers alone. With LoRA on every layer, or
weights trained in full, nothing is frozen and nothing is kept.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rrec_lib.model.encode import common_prefix, of_like_lengths
from rrec_lib.model.layers import frozen_layers
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import packed_states
from rrec_lib.model.ragged import Row, ragged_forward, ragged_hidden, ragged_row, ragged_rows

PER_ROW = 16


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
        rows, order = self._rows(items, device)
        hidden = torch.cat([self._hidden(items, chosen) for chosen in order])
        with ragged_rows(model):
            states = ragged_forward(language_model(model), rows, hidden[None], self.frozen).states
        return states[torch.tensor(list(chain(*order)), device=device).argsort()]

    def _keep(self, model: nn.Module, items: Sequence[int], device: torch.device) -> None:
        """Remember what the frozen layers make of items."""
        rows, order = self._rows(items, device)
        with ragged_rows(model):
            hidden = ragged_hidden(model, rows, self.frozen)[0]
        for row, chosen, part in zip(rows, order, hidden.split([len(row) for row in rows]), strict=True):
            self.prefix_hidden = part[: self.prefix].clone()
            for place, block in zip(chosen, part[self.prefix :].view(len(chosen), row.width, -1), strict=True):
                item = items[place]
                self.suffix_hidden[item] = block[: len(self.prompts[item]) - self.prefix].clone()

    def _rows(self, items: Sequence[int], device: torch.device) -> tuple[list[Row], list[list[int]]]:
        """Rows of items of like lengths, and which of ``items`` stand in each."""
        sequences = [self.prompts[item] for item in items]
        order = of_like_lengths(sequences, PER_ROW)
        rests = [[sequences[place][self.prefix :] for place in chosen] for chosen in order]
        return [ragged_row(sequences[0][: self.prefix], rest).to(device) for rest in rests], order

    def _hidden(self, items: Sequence[int], chosen: Sequence[int]) -> Tensor:
        """(L, d) what the frozen layers made of a row."""
        blocks = pad_sequence([self.suffix_hidden[items[place]] for place in chosen], batch_first=True)
        return torch.cat([self.prefix_hidden, blocks.flatten(0, 1)])
