"""D3: BigRec's model, read out token by token through the trie, without what favours long titles.

Source: Bao et al. (2024), ``bao2024decoding`` in the book's references, and its public code.

A title's score is the sum of its tokens' log-probabilities, not divided by its length: tokens that are forced by what
stands before them have a probability close to 1 after fine-tuning, and the division makes a premium of it. A sequence
model may have a share in every step: that of the probability which it gives to the items
behind a token, among those behind all tokens that are allowed.

Left out: the split of the test set among graphics cards, and instructions by category; the prompt is everybody's.

Where paper, public code and this differ:

- Guidance is the language model's share of a step. The paper mixes; the public script names a file of SASRec's scores
  and leaves the scale at its default, 1, so that they have no part. Here valid chooses, 1 among the values.
- The public code sets the length's power to 0 and adds the language model's log-probability of forced tokens too, near
  0 as it is. Here they are skipped, so that they need not be computed.
- Its releases differ on whether the items behind a token count by the sum of their probabilities or by the largest. We
  take the sum, with which the steps of a title multiply to its probability.
- Its sequence model is a SASRec; so is ours, tuned as the other baselines are.
- It searches with 10 beams and counts what they miss as a miss; here the number is everybody's, and what is missed ties
  behind what was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rrec_lib.baselines.generative.title_runs import fine_tuned, means_of, sequence_model, title_recommender
from rrec_lib.baselines.generative.trie import Trie, prefix_logprobs
from rrec_lib.baselines.generative.walk import Rule
from rrec_lib.baselines.registry import Splits
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.chunks import KeptScores
from rrec_lib.evaluation.evaluate import Recommender


def d3_rule(guidance: float = 1.0) -> Rule:
    """Log-probabilities as the model was trained, of the tokens where there is a choice; no division by the length."""
    return Rule(constrained=False, skip_forced=True, guidance=guidance, length_power=0.0)


@dataclass(frozen=True)
class Mixed:
    """Exact scores of the language model, with a share of another model's.

    What is mixed in each step adds up, so the sums can be mixed instead, and the language model is asked once for all
    guidances.

    Attributes:
        language: exact scores by :func:`d3_rule` with a guidance of 1.
        trie: over the titles.
        guide: scores items.
        guidance: the language model's share.
    """

    language: Recommender
    trie: Trie
    guide: Recommender
    guidance: float

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) scores in nats, higher is better."""
        own = self.language.scores(examples)
        extra = prefix_logprobs(self.trie, self.guide.scores(examples).to(self.trie.tokens.device))
        guided = self.trie.path_sums(extra)[:, self.trie.leaves]
        return self.guidance * own + (1 - self.guidance) * guided.to(own)


def fit(splits: Splits, seed: int, guidance: float = 1.0) -> Recommender:
    """Fine-tune as BigRec does, or take its run; below a guidance of 1 a tuned SASRec is mixed in.

    Args:
        splits: with means; SASRec's search, if recorded, lies in their folder.
        seed: of both models.
        guidance: the language model's share, 0 to 1.
    """
    means = means_of(splits)
    guide = sequence_model(splits, seed) if guidance < 1 else None
    policy = fine_tuned(splits, seed, means.hours)
    if means.beams is not None:
        return title_recommender(policy, splits, d3_rule(guidance), guide)
    exact = title_recommender(policy, splits, d3_rule())
    made_by = f"D3 exactly {policy.fingerprint} {splits.data}"
    kept = KeptScores(exact, made_by, means.folder / "runs" / "scores", "titles, scored exactly:")
    return kept if guide is None else Mixed(kept, exact.trie, guide, guidance)
