"""SPRec: rounds in which the model is fine-tuned, and then taught to prefer the true title to its own.

Source: Gao et al. (2025), ``gao2025sprec`` in the book's references, and its public code.

What a model recommends too often is what it writes of its own accord, so that is rejected: of some training rows the
model writes a title, is fine-tuned on the true ones, and learns by DPO from the pairs, its fine-tuned state being the
reference. The next round begins where this one ended.

Left out: its evaluation, which writes one title for each row and looks for items near it, as BigRec does; here the
catalogue is ranked by the probability of each title.

Where paper, public code and this differ:

- The paper's equation 6 weighs the loss by how likely the model is to write each item
  (:func:`rrec_lib.baselines.generative.preference.sprec_loss`). The public training code has none of it: it is DPO
  against the one title that was written. So is this.
- It writes greedily, and rejects the first quoted text, whatever it is; where there is none the row is left out. Here
  the whole text is rejected, if it was ended. A row whose title the model knew teaches nothing and is left out as well.
- Titles are written by the model as it was before the round's fine-tuning, there and here.
- It takes 2,048 rows a round and one pass over them. Here a round has its share of the budget, writing included, and
  learns from a sample of the rows, as many as a third of its time is enough to write for.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from rrec_lib.baselines.generative.recommender import GenerativeRecommender
from rrec_lib.baselines.generative.sdpo import preference
from rrec_lib.baselines.generative.title_runs import (
    WRITING,
    fine_tuned,
    hours_left,
    made_once,
    means_of,
    round_rows,
    title_recommender,
    train_titles,
    true_titles,
    valid_rows,
    written_in_parts,
)
from rrec_lib.baselines.generative.title_trainer import Answers
from rrec_lib.baselines.generative.titles import Written, title_answers, title_ids, title_prompts, write
from rrec_lib.baselines.registry import Splits
from rrec_lib.core.console import say
from rrec_lib.data.examples import Example
from rrec_lib.model.policy import Policy


def written_titles(policy: Policy, splits: Splits, examples: Sequence[Example]) -> tuple[list[Written], float]:
    """The title that the model writes for each example, and the CPU seconds that it took.

    What was written is kept: a run that goes on reads it back. All of a batch wait for the last that ends, so a title
    may be no longer than 95 of 100 are.
    """
    tokenizer, size = policy.tokenizer, means_of(splits).profile.evaluation.batch_size
    prompts = title_prompts(tokenizer, examples, splits.items)
    longest = 1 + int(np.quantile([len(ids) for ids in title_ids(tokenizer, splits.items)], 0.95))
    key = f"{policy.fingerprint} {longest} {prompts}"
    kept, spent = made_once(splits, "own-titles", key, lambda: write(policy, prompts, longest, batch_size=size))
    return [Written(*one) for one in kept], spent


def rejected(policy: Policy, splits: Splits, examples: Sequence[Example], written: Sequence[Written]) -> Answers:
    """Examples whose title the model did not write, with the true title and the written one to be rejected."""
    end, answers = policy.tokenizer.eos_token, title_answers(policy.tokenizer, splits.items)
    pairs = [
        (example, [answers[example["target"]], f"{text}{end}"])
        for example, (text, ended) in zip(examples, written, strict=True)
        if ended and f"{text}{end}" != answers[example["target"]]
    ]
    return Answers([example for example, _ in pairs], [titles for _, titles in pairs])


def fit(splits: Splits, seed: int, beta: float = 0.1, rounds: int = 3) -> GenerativeRecommender:
    """Fine-tune with half of the budget; the rounds share the other evenly.

    Args:
        splits: with means.
        seed: of the rows and the order.
        beta: how dear it is to leave the reference.
        rounds: of writing, fine-tuning and preferring.
    """
    half, loss = means_of(splits).hours / 2, partial(preference, beta=beta)
    policy, judging = fine_tuned(splits, seed, half), valid_rows(splits)
    for number in range(rounds):
        seconds, write_for = half / rounds * 3600 * WRITING, partial(written_titles, policy, splits)
        rows, written, spent = written_in_parts(round_rows(splits, seed, number), write_for, seconds, "titles")
        train = rejected(policy, splits, rows, written)
        valid = rejected(policy, splits, judging, write_for(judging)[0])
        share = hours_left(half / rounds, spent, f"writing {len(rows)} titles") / 2
        true, asked = (true_titles(policy, part, splits.items) for part in (rows, judging))
        train_titles(policy, splits, f"sprec-{number}-titles", seed, share, true, asked)
        if train.examples and valid.examples:
            train_titles(policy, splits, f"sprec-{number}", seed, share, train, valid, loss, beta=beta)
        else:
            say(f"round {number}: the model ended no title but true ones, so there is nothing to reject")
    return title_recommender(policy, splits)
