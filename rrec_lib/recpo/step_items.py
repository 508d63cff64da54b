"""The items of one optimiser step: chosen together, encoded once, shared by its micro-batches and its processes.

The in-batch softmax is over the whole optimiser batch, so every micro-batch needs every item's state, and an item's
gradient comes from every micro-batch. Encoding all items in each of them would multiply the work. Instead each process
encodes its share once; micro-batches read the states as constants and note the gradient of their loss with respect to
them; the last one sends what was noted back through the encoder. By the chain rule this is the gradient of one large
batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

ITEM_SOFTMAX = ("batch", "catalogue")


def check_item_softmax(name: str, negatives: int) -> None:
    """Raise ``ValueError`` unless the item softmax is one of ``ITEM_SOFTMAX`` and has items to train.

    Over the *batch* as in the paper: its targets and items drawn at random. Or over the *catalogue*: every item that
    the user has not seen, as in the ranking, by its row of the item table. Items drawn at random are encoded for the
    step and get gradient, whether targets or not; the other rows are as old as their last turn and get none.
    """
    if name not in ITEM_SOFTMAX:
        raise ValueError(f"item_softmax is {name!r}, expected one of {', '.join(ITEM_SOFTMAX)}")
    if name == "catalogue" and not negatives:
        raise ValueError(
            "item_softmax catalogue trains the items that are drawn for a step: set item_negatives of the stage's"
            " section, training or warmup, to 1 or more"
        )


@dataclass
class StepItems:
    """The M rows of a step's item softmax.

    Attributes:
        ids: (M,) catalogue ids, ascending and distinct.
        log_q: (M,) logarithm of how likely each is to be among a step's.
        states: (M, d) float32 states, the same on every process, without history.
        own: (n, d) the states that this process encoded, with their history.
        gradient: (P·n, d) what the micro-batches noted so far; P processes, filled up to equal shares.
    """

    ids: Tensor
    log_q: Tensor
    states: Tensor
    own: Tensor
    gradient: Tensor

    def rows(self, targets: Tensor) -> Tensor:
        """Row of each target."""
        return torch.searchsorted(self.ids, targets)

    def in_table(self, table: Tensor) -> Tensor:
        """(N, d) the whole table with this step's states in their rows, so that all others are negatives as well.

        Args:
            table: (N, d) the catalogue's states as they were last encoded, without history.
        """
        return table.index_copy(0, self.ids, self.states)

    def note(self, loss: Tensor) -> None:
        """Add a micro-batch's gradient with respect to the states; its own backward pass is still to come."""
        (gradient,) = torch.autograd.grad(loss, self.states, retain_graph=True)
        self.gradient[: len(self.ids)] += gradient

    def send_back(self, accelerator: Accelerator) -> Tensor:
        """A term worth 0 whose gradient is that of all micro-batches and processes for the states encoded here.

        Processes average their gradients, so the sum over processes is what each has to send back.
        """
        first = accelerator.process_index * len(self.own)
        total = accelerator.reduce(self.gradient, "sum")[first : first + len(self.own)]
        term = (self.own * total).sum()
        return term - term.detach()


def encode_step(
    encode: Callable[[list[int]], Tensor], ids: Tensor, log_q: Tensor, accelerator: Accelerator
) -> StepItems:
    """Encode a step's items, each process an equal share.

    Args:
        encode: from n catalogue ids to (n, d) states, with gradients.
        ids: (M,) distinct and ascending, the same on every process.
        log_q: (M,) see :class:`StepItems`.
        accelerator: the trainer's.
    """
    count = accelerator.num_processes
    share = -(-len(ids) // count)
    filled = torch.cat([ids, ids[-1:].expand(share * count - len(ids))])  # the last share is filled up
    own = encode(filled[accelerator.process_index * share :][:share].tolist())
    everyone = accelerator.gather(own.detach())
    states = everyone[: len(ids)].clone().requires_grad_(torch.is_grad_enabled())
    return StepItems(ids, log_q, states, own, torch.zeros_like(everyone))


def choose_items(
    targets: Tensor, target_share: Tensor, negatives: int, seed: int, step: int, whole_catalogue: bool = False
) -> tuple[Tensor, Tensor]:
    """The distinct items that a step encodes: its targets, and more drawn at random.

    Args:
        targets: the step's targets, repeats included.
        target_share: (N,) share of each catalogue item among the training targets.
        negatives: how many items are drawn; a drawn target counts once.
        seed: of the order in which items take their turns, the same on every process and in a resumed run.
        step: which turn it is; no item is drawn again before all others were.
        whole_catalogue: the softmax is over the catalogue. Targets are then left out: rows that are fresh because they
            are targets would stand out by their age.

    Returns:
        (M,) ascending catalogue ids, and the logarithm of how likely each is to be among a step's, for the logQ
        correction: however often it is met there, it stands in the softmax once.
    """
    total = len(target_share)
    negatives = min(negatives, total)
    if whole_catalogue:
        targets = targets[:0]
    first = step * negatives
    rounds = {turn: _order(total, seed, turn) for turn in range(first // total, (first + negatives - 1) // total + 1)}
    drawn = torch.tensor([rounds[turn // total][turn % total] for turn in range(first, first + negatives)]).long()
    ids = torch.cat([targets, drawn.to(targets.device)]).unique()
    missed = (1 - target_share.double().to(ids.device)[ids]) ** len(targets) * (1 - negatives / total)
    return ids, torch.log1p(-missed).float()


def _order(total: int, seed: int, number: int) -> list[int]:
    """The order of all items in a round."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return torch.randperm(total, generator=generator).tolist()


def token_weights(normalization: str, masks: list[Tensor], accelerator: Accelerator) -> list[float]:
    """What each micro-batch's token term counts, so that their mean over the step is that of one large batch.

    Args:
        normalization: see :func:`rrec_lib.recpo.losses.recpo_loss`; means over trajectories need no weights.
        masks: the loss masks (..., T) of this process's micro-batches, all of a width.
        accelerator: the trainer's.
    """
    if normalization == "batch":
        counts = torch.stack([mask.sum() for mask in masks]).float()
        return (counts / accelerator.gather(counts).mean().clamp(min=1e-6)).tolist()
    if normalization == "constant":  # one large batch would be as wide as the widest
        width = torch.tensor([float(masks[0].shape[-1])], device=masks[0].device)
        return [(width / accelerator.gather(width).max()).item()] * len(masks)
    return [1.0] * len(masks)
