"""A model that writes, as the evaluation wants it: (E, N) scores by beams or exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrec_lib.baselines.generative.beam import beam_search
from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.trie import Trie, prefix_logprobs
from rrec_lib.baselines.generative.walk import Prompt, Rule
from rrec_lib.baselines.registry import Splits
from rrec_lib.core import hardware
from rrec_lib.core.console import progress
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.chunks import KeptScores
from rrec_lib.evaluation.evaluate import Recommender
from rrec_lib.model.encode import batches
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy, weights_hash
from rrec_lib.model.precision import float32_head


@dataclass(frozen=True)
class GenerativeRecommender:
    """Ranks the catalogue by what a language model would write behind each prompt.

    Attributes:
        policy: the language model.
        trie: over what it may write, an entry per item.
        prompts: makes E prompts of E examples, token ids or (P, d) input embeddings, without looking at targets.
        width: beams of each prompt; what they don't reach ties behind what they do. None ranks exactly.
        rule: of the scores; the default is the log-probability over the catalogue.
        guide: a recommender whose scores, normalised over the catalogue, are mixed in where the rule's guidance is
            below 1.
        pool: how the guide's items make up a prefix, see :func:`~rrec_lib.baselines.generative.trie.prefix_logprobs`.
        batch_tokens: prompt tokens that go through the model at a time; what suits the device, if not given.
    """

    policy: Policy
    trie: Trie
    prompts: Callable[[Sequence[Example]], Sequence[Prompt]]
    width: int | None = None
    rule: Rule | None = None
    guide: Recommender | None = None
    pool: str = "sum"
    batch_tokens: int | None = None

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) scores in nats, higher is better, on the policy's device; twins have the same."""
        device = self.policy.device
        trie, prompts = self.trie.to(device), self.prompts(examples)
        limit = self.batch_tokens or hardware.batch_tokens(device)
        result = torch.empty(len(examples), trie.n_items, device=device)
        with self.policy.inference(), float32_head(language_model(self.policy.model)):
            for batch in progress(batches([len(prompt) for prompt in prompts], limit), "writing"):
                chosen, extra = [prompts[i] for i in batch], None
                if self.guide is not None:
                    guiding = self.guide.scores([examples[i] for i in batch])
                    extra = prefix_logprobs(trie, guiding.to(device), self.pool)
                if self.width is None:
                    scores = catalogue_scores(self.policy.model, trie, chosen, self.rule, extra, self.batch_tokens)
                else:
                    found = beam_search(self.policy.model, trie, chosen, self.width, self.rule, extra)
                    scores = found.item_scores(trie)
                result[batch] = scores.to(result)
        return result


def kept_scores(
    recommender: Recommender, name: str, parameters: dict[str, Any], splits: Splits, seed: int
) -> KeptScores:
    """A recommender whose scores are kept beside the checkpoints that it is made with: who deletes those deletes these.

    Args:
        recommender: a baseline that was fitted.
        name: of the baseline.
        parameters: of the fit.
        splits: with means.
        seed: of the fit.

    Raises:
        ValueError: without means.
    """
    if splits.means is None:
        raise ValueError(f"scores of {name} are kept in a folder: give means, see Splits")
    means_alone = replace(splits.means, folder=Path())
    made_by = repr((name, parameters, seed, splits.data, means_alone, weights_within(recommender)))
    return KeptScores(recommender, made_by, splits.means.folder / "runs" / "scores", name)


def weights_within(recommender: Any) -> list[str]:
    """Hashes of all networks that a recommender holds, those of the recommenders within it included."""
    if isinstance(recommender, Policy):
        return [recommender.fingerprint]
    if isinstance(recommender, nn.Module):
        return [weights_hash(recommender)]
    parts = [part for part in vars(recommender).values() if isinstance(part, Policy) or hasattr(part, "scores")]
    return [found for part in parts for found in weights_within(part)]
