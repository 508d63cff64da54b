"""S-DPO: a model fine-tuned on titles learns to prefer the true one to several others at once.

Source: Chen et al. (2024), ``chen2024softmaxdpo`` in the book's references, and its public code.

The loss is −log σ(−log Σ exp β(Δ rejected − Δ chosen)), where Δ is how much more likely a title has become than under
the fine-tuned model. With one rejected title it is DPO's.

Left out: the list of twenty candidates in every prompt, from which the original rejects titles and among which it
ranks. Here nothing but the history is told, titles are rejected from all that a user has not seen, and the whole
catalogue is ranked.

Where paper, public code and this differ:

- The public code sums exponentials before it takes the logarithm, which overflows where the model has moved far; here
  it is a logsumexp, as in the paper's formula, with the same value elsewhere.
- Rejected titles are drawn once for each example, there and here.
- The published β is 1 in the script and 0.1 by default in the code; valid chooses.
- The public evaluation asks whether what is written names the true candidate. Ours ranks by the probability of each
  title among those of the catalogue.
"""

from functools import partial

from torch import Tensor

from rrec_lib.baselines.generative.preference import sdpo_loss
from rrec_lib.baselines.generative.recommender import GenerativeRecommender
from rrec_lib.baselines.generative.title_runs import (
    fine_tuned,
    means_of,
    title_recommender,
    train_titles,
    valid_rows,
    with_negatives,
)
from rrec_lib.baselines.registry import Splits


def preference(logprobs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """S-DPO's loss of (B, 1 + K) log-probabilities of titles, the true one first, against a reference's."""
    ratios = logprobs - reference
    return sdpo_loss(ratios[:, 0], ratios[:, 1:], beta)


def fit(splits: Splits, seed: int, beta: float = 1.0, negatives: int = 3) -> GenerativeRecommender:
    """Fine-tune with half of the budget, and prefer with the other.

    Args:
        splits: with means.
        seed: of the order, and of what is rejected.
        beta: how dear it is to leave the fine-tuned model.
        negatives: K, rejected titles of an example.
    """
    half = means_of(splits).hours / 2
    policy = fine_tuned(splits, seed, half)
    train, valid = (
        with_negatives(policy, rows, splits.items, negatives, seed) for rows in (splits.train, valid_rows(splits))
    )
    train_titles(policy, splits, "sdpo", seed, half, train, valid, partial(preference, beta=beta), beta=beta)
    return title_recommender(policy, splits)
