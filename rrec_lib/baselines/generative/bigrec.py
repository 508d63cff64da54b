"""BigRec: a model fine-tuned on titles writes one freely, and the nearest items are recommended.

Source: Bao et al. (2023), ``bao2023bigrec`` in the book's references, and its public code.

What is written need not exist. It is grounded in the catalogue by the L2 distance between two states: that of the
written title, and that of each item's. Items of one title share both state and rank.

Left out: the weights of popularity and of a collaborative model that the paper puts on the distances in a second step,
which would make it a hybrid; and its few-shot samples, since everybody here learns from the same rows.

Where paper, public code and this differ:

- The public code takes both states from the *base* model: the last layer's at the last token of the title alone, with
  no prompt before it. So do we.
- The public code keeps items in a dictionary by title: of several with one title the last alone can be found, and equal
  distances rank in the catalogue's order. Here they tie.
- The public code's loss is on prompt and answer by default; here on the answer alone.
- It searches with four beams and uses the best; so do we.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrec_lib.baselines.generative.title_runs import fine_tuned, means_of
from rrec_lib.baselines.generative.titles import title_ids, title_prompts, title_states, write
from rrec_lib.baselines.registry import Splits
from rrec_lib.data.examples import Example, Item
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import item_name

BEAMS = 4  # the public code's


class BigRec:
    """Scores are minus the distances from what was written."""

    def __init__(self, policy: Policy, items: Sequence[Item], beams: int = BEAMS, batch_size: int = 16) -> None:
        """Args:
        policy: fine-tuned on titles.
        items: the item table.
        beams: of the search that writes.
        batch_size: prompts at once.
        """
        self.policy, self.items, self.beams, self.batch_size = policy, items, beams, batch_size
        self.max_tokens = 1 + max(map(len, title_ids(policy.tokenizer, items)))
        self.states = title_states(policy, [item_name(item) for item in items])  # (N, d)

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) minus the L2 distance of each item's title from the written one."""
        prompts = title_prompts(self.policy.tokenizer, examples, self.items)
        written = write(self.policy, prompts, self.max_tokens, self.beams, self.batch_size)
        states = title_states(self.policy, [one.text for one in written])
        # Distances themselves: by way of a matrix product they lose the digits that tell near titles apart.
        return -torch.cdist(states, self.states, compute_mode="donot_use_mm_for_euclid_dist")


def fit(splits: Splits, seed: int) -> BigRec:
    """Fine-tune with the whole budget."""
    means = means_of(splits)
    return BigRec(fine_tuned(splits, seed, means.hours), splits.items, batch_size=means.profile.evaluation.batch_size)
