"""A trie over the catalogue's token sequences, as arrays.

Sequences are sorted and nodes numbered in depth-first order, so that what lies below a node is a range of numbers: *u*
is on the way to *v* where ``u <= v < stops[u]``. An attention mask asks just that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trie:
    """N items' sequences as M nodes, of which node 0 is the root. Built by :func:`build_trie`.

    Attributes:
        tokens: (M,) the token that leads to each node; −1 at the root.
        parents: (M,) the node before it; the root's is the root.
        depths: (M,) tokens from the root.
        stops: (M,) the first node behind those below each.
        starts, children: (M + 1,) and (M − 1,); node n goes on to ``children[starts[n]:starts[n + 1]]``, by token.
        leaves: (N,) where each item's sequence ends; items with the same sequence, twins, share it.
    """

    tokens: Tensor
    parents: Tensor
    depths: Tensor
    stops: Tensor
    starts: Tensor
    children: Tensor
    leaves: Tensor

    def __len__(self) -> int:
        """M."""
        return len(self.tokens)

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.leaves)

    @cached_property
    def degrees(self) -> Tensor:
        """(M,) in how many ways each node goes on; 0 at a leaf, 1 where the next token is forced."""
        return self.starts.diff()

    @cached_property
    def choices(self) -> Tensor:
        """(M,) where forced tokens lead: the first node, from each on, that is a leaf or goes on in several ways."""
        numbers = torch.arange(len(self), device=self.tokens.device)
        return numbers.masked_fill(self.degrees == 1, len(self)).flip(0).cummin(0).values.flip(0)

    @cached_property
    def max_depth(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.depths.max())

    def to(self, device: torch.device) -> "Trie":
        """The trie with its arrays on a device."""
        if self.tokens.device == device:
            return self
        return Trie(*(getattr(self, field.name).to(device) for field in fields(self)))

    def find(self, prefix: Sequence[int]) -> int:
        """The node that a sequence of tokens leads to; −1 if no item begins with it."""
        node = 0
        for token in prefix:
            below = self.children[self.starts[node] : self.starts[node + 1]]
            found = below[self.tokens[below] == token]
            if not len(found):
                return -1
            node = int(found)
        return node

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        """The tokens that may follow a prefix, ascending; none behind a whole sequence or a prefix of no item."""
        node = self.find(prefix)
        return [] if node < 0 else self.tokens[self.children[self.starts[node] : self.starts[node + 1]]].tolist()

    def items_at(self, node: int) -> list[int]:
        """The catalogue rows whose sequence ends at a node: one, several twins, or none."""
        return (self.leaves == node).nonzero()[:, 0].tolist()

    def path_sums(self, values: Tensor) -> Tensor:
        """(E, M) sums of (E, M) values over the nodes from the root to each, both included."""
        sums = values.clone()
        for depth in range(1, self.max_depth + 1):
            nodes = (self.depths == depth).nonzero()[:, 0]
            sums[:, nodes] += sums[:, self.parents[nodes]]
        return sums


def build_trie(sequences: Sequence[Sequence[int]], end: int | None = None) -> Trie:
    """Build the trie of a catalogue.

    Args:
        sequences: N lists of token ids, none empty; several may be the same.
        end: a token that is put behind each, so that a title may be another's beginning; None for sequences that have
            one already or need none, such as codes of one length.

    Raises:
        ValueError: for no sequence, an empty one, the end token inside one, or one that is another's beginning.
    """
    tail = () if end is None else (end,)
    for row, sequence in enumerate(sequences):
        if not len(sequence) or end in sequence:
            raise ValueError(f"item {row} has the tokens {list(sequence)}; expected at least one, none of them {end}")
    whole = [(*sequence, *tail) for sequence in sequences]
    unique = sorted(set(whole))
    if not unique:
        raise ValueError("a trie needs at least one sequence")
    lengths = np.array([len(sequence) for sequence in unique])
    table = np.full((len(unique), lengths.max()), -1)
    for row, sequence in enumerate(unique):
        table[row, : len(sequence)] = sequence
    shared = np.zeros_like(lengths)  # with the sequence before it
    shared[1:] = np.cumprod(table[1:] == table[:-1], 1).sum(1)
    if len(cut := (shared[1:] == lengths[:-1]).nonzero()[0]):
        raise ValueError(f"{list(unique[cut[0]])} is the beginning of {list(unique[cut[0] + 1])}; give an end token")
    columns = np.arange(table.shape[1])
    new = (columns >= shared[:, None]) & (columns < lengths[:, None])
    numbers = np.where(new, np.cumsum(new).reshape(new.shape), 0)
    numbers = np.maximum.accumulate(numbers, 0)  # a place that is not new is the latest new one above it
    before = np.pad(numbers, ((0, 0), (1, 0)))[:, :-1]
    parents, depths = np.append(0, before[new]), np.append(0, np.nonzero(new)[1] + 1)
    sizes = np.ones(len(parents), dtype=np.int64)
    for depth in range(depths.max(), 0, -1):
        nodes = (depths == depth).nonzero()[0]
        np.add.at(sizes, parents[nodes], sizes[nodes])
    leaf_of = dict(zip(unique, numbers[np.arange(len(unique)), lengths - 1].tolist(), strict=True))
    arrays = (
        np.append(-1, table[new]),
        parents,
        depths,
        np.arange(len(parents)) + sizes,
        np.append(0, np.bincount(parents[1:], minlength=len(parents)).cumsum()),
        1 + np.argsort(parents[1:], kind="stable"),
        np.array([leaf_of[sequence] for sequence in whole]),
    )
    return Trie(*(torch.from_numpy(array.astype(np.int64)) for array in arrays))


def prefix_logprobs(trie: Trie, item_logprobs: Tensor, pool: str = "sum") -> Tensor:
    """What another model thinks of each next token: it scores items, and a prefix stands for the items that it begins.

    Args:
        trie: over the catalogue.
        item_logprobs: (E, N) of, for example, a sequence model; normalised here.
        pool: a prefix's share of the probability is its items' ``"sum"``, or their ``"max"``, as D3's code has it.

    Returns:
        (E, M) log-probability in nats of each node's token behind its parent, float64; 0 at the root and where it is
        forced. With ``"sum"`` and no twins, those of an item's tokens add up to its own log-probability.

    Raises:
        ValueError: for an unknown pool, or another catalogue.

    Source: D3 (Bao et al., 2024); their public code takes the maximum of a prefix's items over the sum of these maxima.
    """
    if pool not in ("sum", "max") or item_logprobs.shape[1] != trie.n_items:
        raise ValueError(f"need pool sum or max and (E, {trie.n_items}), got {pool!r}, {tuple(item_logprobs.shape)}")
    share = item_logprobs.double().softmax(1).clamp(min=torch.finfo(torch.float64).tiny)
    mass = share.new_zeros(len(share), len(trie))
    reduce = "sum" if pool == "sum" else "amax"
    mass.scatter_reduce_(1, trie.leaves.expand(len(share), -1), share, reduce)
    for depth in range(trie.max_depth, 0, -1):
        nodes = (trie.depths == depth).nonzero()[:, 0]
        mass.scatter_reduce_(1, trie.parents[nodes].expand(len(share), -1), mass[:, nodes], reduce)
    of_siblings = torch.zeros_like(mass).index_add_(1, trie.parents[1:], mass[:, 1:])
    result = torch.zeros_like(mass)
    result[:, 1:] = mass[:, 1:].log() - of_siblings[:, trie.parents[1:]].log()
    return result
