"""Codes of items: residual k-means of their embeddings, and a last code that tells twins apart.

Source: TIGER (Rajput et al., 2023), ``rajput2023tiger`` in the book's references. Its codes come from an autoencoder
with residual quantisation (RQ-VAE). K-means of what the levels before have left over is the simplest quantiser of this
kind: it has nothing to tune but its size.

What goes wrong: levels *collapse*, so that few of their codes are used, and items *collide*, so that several share all
of theirs. :func:`code_use` counts both.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rrec_lib.baselines.generative.walk import places

ROUNDS = 50  # of Lloyd's algorithm, at most; it stops where no item changes its cluster


@dataclass(frozen=True)
class Codebook:
    """What the levels have learned.

    Attributes:
        codes: (N, levels) int64 of the items, each from 0 to ``size`` − 1.
        mean: (d,) of all distinct embeddings.
        centres: of each level (K, d), K = ``size``, or fewer where fewer distinct points are left to tell apart.
    """

    codes: Tensor
    mean: Tensor
    centres: list[Tensor]

    def reconstruct(self, levels: int) -> Tensor:
        """(N, d) embeddings as the first levels' codes tell them; the mean for none."""
        told = [table[self.codes[:, level]] for level, table in enumerate(self.centres[:levels])]
        return self.mean + torch.stack(told).sum(0) if told else self.mean.expand(len(self.codes), -1)


@dataclass(frozen=True)
class CodeUse:
    """How evenly codes are used, and how often they fail to tell items apart.

    Attributes:
        used: of each level, the share of its codes that some item has; 1 is all.
        perplexity: of each level, exp of the entropy of its codes: how many there would be if used evenly.
        collisions: share of the items that share all these codes with another.
        most_alike: how many items share the codes that most of them share.
    """

    used: list[float]
    perplexity: list[float]
    collisions: float
    most_alike: int


def residual_codes(embeddings: Tensor, levels: int = 3, size: int = 256, seed: int = 0) -> Tensor:
    """The whole codes of a catalogue: no two items have the same.

    Args:
        embeddings: (N, d) of the items.
        levels: of residual codes.
        size: codes of each level.
        seed: of the first centres.

    Returns:
        (N, levels + 1) int64: the residual codes, from 0 to ``size`` − 1, and 0, 1, 2, … among items that share them,
        in the catalogue's order. Equal embeddings have equal residual codes.

    Raises:
        ValueError: as :func:`residual_kmeans`.
    """
    return tell_apart(residual_kmeans(embeddings, levels, size, seed).codes)


def residual_kmeans(embeddings: Tensor, levels: int = 3, size: int = 256, seed: int = 0) -> Codebook:
    """Cluster the embeddings, then what the clusters' centres leave over, and so on, a level each time.

    Equal embeddings count once, so that twins draw no centre to themselves. A catalogue of fewer distinct items than
    ``size`` uses as many codes as it has such items.

    Args:
        embeddings: (N, d) of the items.
        levels: how often.
        size: clusters of each level.
        seed: of the first centres.

    Raises:
        ValueError: for no embeddings or ones that aren't finite, or for less than one level or cluster.
    """
    if embeddings.dim() != 2 or not embeddings.numel() or not embeddings.isfinite().all():
        raise ValueError(f"need finite embeddings (N, d) of at least one item, got {tuple(embeddings.shape)}")
    if levels < 1 or size < 1:
        raise ValueError(f"need at least one level and one code in each, got {levels} and {size}")
    # On the processor, so that an accelerator's rounding changes no code.
    distinct, row_of = embeddings.detach().cpu().float().unique(dim=0, return_inverse=True)
    mean, generator = distinct.mean(0), torch.Generator().manual_seed(seed)
    left, codes, centres = distinct - mean, [], []  # without the mean, near distances keep their digits
    for _ in range(levels):
        table, code = kmeans(left, size, generator)
        left = left - table[code]
        codes.append(code)
        centres.append(table)
    return Codebook(torch.stack(codes, 1)[row_of], mean, centres)


def kmeans(points: Tensor, size: int, generator: torch.Generator, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from centres that are drawn far apart (k-means++). An empty cluster takes a point far from its.

    Args:
        points: (N, d).
        size: clusters; fewer if there are fewer distinct points.
        generator: of the draws.
        rounds: at most.

    Returns:
        (K, d) centres and (N,) which of them is nearest to each point.
    """
    centres = _far_apart(points, size, generator)
    distances, labels = _nearest(points, centres)
    for _ in range(rounds):
        counts = labels.bincount(minlength=len(centres))
        centres = torch.zeros_like(centres).index_add_(0, labels, points) / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero()[:, 0]
        centres[empty] = points[distances.argsort(descending=True, stable=True)[: len(empty)]]
        before, (distances, labels) = labels, _nearest(points, centres)
        if labels.equal(before):
            break
    return centres, labels


def tell_apart(codes: Tensor) -> Tensor:
    """(N, levels + 1): codes (N, levels) with 0, 1, 2, … behind those of items that share them, in catalogue order."""
    groups = codes.unique(dim=0, return_inverse=True)[1]
    order = groups.argsort(stable=True)
    last = torch.empty_like(groups)
    last[order] = places(groups[order])
    return torch.cat([codes, last[:, None]], 1)


def code_use(codes: Tensor, size: int) -> CodeUse:
    """Count collapse and collisions.

    Args:
        codes: (N, levels) residual codes, without the last one of :func:`residual_codes`.
        size: codes that each level has.
    """
    used, perplexity = [], []
    for level in codes.T:
        counts = level.bincount(minlength=size)
        shares = counts[counts > 0].double() / len(codes)
        used.append(len(shares) / size)
        perplexity.append(float((-shares * shares.log()).sum().exp()))
    alike = codes.unique(dim=0, return_counts=True)[1]
    return CodeUse(used, perplexity, int(alike[alike > 1].sum()) / len(codes), int(alike.max()))


def _far_apart(points: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(K, d) of the points, each drawn by its squared distance from those before; none that equals one of them."""
    chosen = [int(torch.randint(len(points), (), generator=generator))]
    distances = (points - points[chosen[0]]).square().sum(1)
    while len(chosen) < size and distances.max() > 0:
        chosen.append(int(torch.multinomial(distances, 1, generator=generator)))
        distances = torch.minimum(distances, (points - points[chosen[-1]]).square().sum(1))
    return points[chosen]


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) squared distance of each point from its nearest centre, and (N,) which centre that is."""
    best = (centres.square().sum(1) - 2 * points @ centres.T).min(1)
    return best.values + points.square().sum(1), best.indices
