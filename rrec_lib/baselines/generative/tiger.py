"""TIGER: every item is a few codes, and a small transformer writes those of the next one.

Source: Rajput et al. (2023), ``rajput2023tiger`` in the book's references. There is no code by its authors; public code
means Snap's GRID (Ju et al., 2025), ``ju2025grid`` there.

The profile's language model reads each item's prompt, as R²ec's items are read, without training. Residual k-means
turns the states into codes (:mod:`rrec_lib.baselines.generative.codes`), and a decoder without any pretraining learns
from the codes of histories. The catalogue is ranked by the probability of its codes.

Items that share their three residual codes have a fourth that tells them apart, as in the paper, so that each has a
score of its own: the probability of what they share, split by that of the last code. Without it they would tie. What
that code means differs from twins to twins, so the split of those that training rarely saw is a guess.

Left out: the token of the user, one of 2,000 that users are hashed to, since users here may be new.

Where paper, public code and this differ:

- The paper's codes are from an RQ-VAE on Sentence-T5 embeddings; GRID has residual k-means too, on any model's.
- The paper's transformer is a T5 with encoder and decoder, and so is GRID's by default. Here one decoder reads and
  writes; GRID has such a one as an option.
- The paper and GRID's default learn the codes of one target behind each history. Here every target of a window is
  learned in one pass, as the sequence models do, and GRID's option does.
- The paper's beams may write codes that no item has. GRID can leave these out and renormalise, as is done here, where
  the whole catalogue is ranked exactly, or by everybody's beams.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Phi3Config, Phi3ForCausalLM

from rrec_lib.baselines.encoders import SequenceSettings
from rrec_lib.baselines.generative.codes import residual_codes
from rrec_lib.baselines.generative.recommender import GenerativeRecommender
from rrec_lib.baselines.generative.title_runs import means_of
from rrec_lib.baselines.generative.trie import build_trie
from rrec_lib.baselines.registry import Splits
from rrec_lib.baselines.sequence import IGNORED, WindowModel, training_windows
from rrec_lib.baselines.user_logs import recent
from rrec_lib.core import hardware
from rrec_lib.data.examples import Example
from rrec_lib.model.item_table import item_table
from rrec_lib.model.policy import Policy, load_policy

BATCH_TOKENS = 4096  # the model is so small that a pass of fewer costs as much
STOPPING_ROWS = 300  # of those that the sequence models stop by: a row costs many times theirs


@dataclass(frozen=True)
class TigerSettings(SequenceSettings):
    """Sizes and optimisation: the sequence models', and how many codes of how many an item has.

    An epoch takes seconds, so fewer without gain end the training.
    """

    levels: int = 3
    size: int = 64
    patience: int = 5


class Tiger(WindowModel):
    """A decoder over codes, which ranks the catalogue exactly, or by ``width`` beams."""

    def __init__(self, codes: Tensor, settings: TigerSettings, seed: int = 0, width: int | None = None) -> None:
        """Args:
        codes: (N, K) of the items, no two the same, as :func:`rrec_lib.baselines.generative.codes.residual_codes`.
        settings: sizes and optimisation; ``negatives`` has no part.
        seed: of the weights, the order of windows and dropout.
        width: beams of each ranking; None ranks exactly.

        Raises:
            ValueError: for codes that aren't (N, K), or two items that share theirs.
        """
        if codes.dim() != 2 or len(codes.unique(dim=0)) < len(codes):
            raise ValueError(f"need codes (N, K) that no two items share, got {tuple(codes.shape)}")
        super().__init__(settings, seed)
        self.n_items, self.width = len(codes), width
        sizes = codes.amax(0) + 1
        tokens = codes + sizes.cumsum(0) - sizes  # each level has tokens of its own
        self.begin = int(sizes.sum())  # stands before every history, and fills rows up
        self.trie = build_trie(tokens.tolist())
        self.tokens: Tensor
        self.register_buffer("tokens", torch.cat([tokens, torch.full_like(tokens[:1], self.begin)]), persistent=False)
        # Phi-3 is Llama's decoder with dropout behind attention and network, as T5 has it.
        config = Phi3Config(
            vocab_size=self.begin + 1, hidden_size=settings.hidden, intermediate_size=2 * settings.hidden,
            num_hidden_layers=settings.layers, num_attention_heads=settings.heads, resid_pdrop=settings.dropout,
            attention_dropout=settings.dropout, initializer_range=settings.init_std, bos_token_id=self.begin,
            eos_token_id=None, pad_token_id=None,
        )  # fmt: skip
        torch.manual_seed(seed)
        self.model = Phi3ForCausalLM(config)

    def loss(self, histories: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the codes of every target in windows (B, L) of :func:`training_windows`."""
        wanted = labels != IGNORED
        following = torch.cat([histories[:, 1:], torch.full_like(histories[:, :1], self.n_items)], 1)
        items = torch.cat([histories[:, :1], torch.where(wanted, labels, following)], 1)  # (B, L + 1)
        ids = self.tokens[items].flatten(1)
        ids = torch.cat([torch.full_like(ids[:, :1], self.begin), ids], 1)
        learned = nn.functional.pad(wanted, (1, 0)).repeat_interleave(self.tokens.shape[1], 1)
        logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits[learned]
        return nn.functional.cross_entropy(logits, ids[:, 1:][learned])

    def prompts(self, examples: Sequence[Example]) -> list[list[int]]:
        """The tokens of each history, behind the one that every history begins with."""
        histories = [recent(example, self.settings.length) for example in examples]
        return [[self.begin, *self.tokens[history].flatten().tolist()] for history in histories]

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) log-probabilities of the items' codes, which over the catalogue sum to 1 where they are exact."""
        policy = Policy(self.model, None, torch.float32, "")  # type: ignore[arg-type]  # it writes no text
        tokens = max(BATCH_TOKENS, hardware.batch_tokens(policy.device))
        return GenerativeRecommender(policy, self.trie, self.prompts, self.width, batch_tokens=tokens).scores(examples)


def item_states(splits: Splits) -> Tensor:
    """(N, d) states of the profile's language model, untrained, on the items' prompts: less their mean, of length 1.

    What all states share and how long they are says little of the items, and k-means would spend its codes on it.
    """
    states = item_table(load_policy(means_of(splits).profile.model), splits.items)  # kept in the cache folder
    return nn.functional.normalize(states - states.mean(0))


def fit(splits: Splits, seed: int, **parameters: float) -> Tiger:
    """Make codes and train on them until an exact ranking of valid's rows stops it, or the means' hours are over.

    Args:
        splits: with means.
        seed: of codes and model.
        parameters: fields of :class:`TigerSettings`.
    """
    means, settings = means_of(splits), TigerSettings(**parameters)  # type: ignore[arg-type]
    codes = residual_codes(item_states(splits), settings.levels, settings.size, seed)
    model = Tiger(codes, settings, seed).to(hardware.device())
    windows = training_windows(splits.train, settings.length, splits.n_items)
    model.fit_windows(*windows, splits.valid, STOPPING_ROWS, 3600 * means.hours)
    model.width = means.beams
    return model
