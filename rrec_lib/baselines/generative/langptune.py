"""LangPTune: a language model writes a profile of the user, and an encoder ranks the catalogue by it alone.

Source: Gao et al. (2024), ``gao2024langptune`` in the book's references, and its public code. The writer's loss is
REBEL's, ``gao2024rebel``.

The two learn in turns. The writer samples two profiles of each user. The encoder learns to draw each profile and the
next item together. Then a profile is rewarded by the NDCG with which the encoder ranks the next item behind it, and how
much likelier than before one profile becomes than the other is regressed on the difference of their rewards. The next
round begins where this one ended. At last profiles are written greedily, and scores are cosines of items' states to a
profile's.

Left out: reviews in the prompt; in the reward the penalty for leaving the first model, whose weight is 0.2 in the
public command for Gemma and 0 in that for Llama; and a large embedding model as the encoder. Here the encoder is the
profile's language model once more, with a LoRA of its own, whose states know nothing of ranking at first: as R²ec's.

Where paper, public code and this differ:

- The public encoder is trained in full, by a softmax over the batch's next items at a temperature of 0.1, where two
  users of one item are each other's negatives. Here it is the softmax of R²ec's warm-up, at its temperature: over the
  batch's items, once each, and drawn ones, corrected for how often they are met, without what the user has seen.
- There profiles have up to 512 tokens, and one that fills them earns nothing. Here they have as many as R²ec's
  reasonings, and one that is cut off is read, rewarded and learned as it is.
- The public code rewards by MRR or NDCG over the whole catalogue, less what was seen; here it is NDCG, and ties share
  their ranks. Rewards are divided by their spread: of a step's profiles there, of a round's here.
- There two profiles are written anew for each step of the writer, and one for each user before the encoder's turn. Here
  a round's two serve both turns, for the writer is the same until its own; and they are of a sample of the training
  rows, as many as a third of a round's time is enough for.
- There profiles are sampled from all tokens, here among the likeliest, as R²ec's reasonings are. Its evaluation samples
  them too, at temperature 1; ours are greedy.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import TrainingArguments

from rrec_lib.baselines.generative.preference import rebel_loss
from rrec_lib.baselines.generative.profile_encoder import (
    EncoderTrainer,
    item_states,
    profile_rewards,
    profile_states,
)
from rrec_lib.baselines.generative.profile_writer import (
    PAIR,
    PROFILE_INSTRUCTION,
    profile_prompts,
    round_profiles,
    write_profiles,
)
from rrec_lib.baselines.generative.title_runs import (
    WRITING,
    hours_left,
    made_once,
    means_of,
    round_rows,
    train_answers,
    train_titles,
    valid_rows,
)
from rrec_lib.baselines.generative.title_trainer import Answers
from rrec_lib.baselines.registry import Splits
from rrec_lib.data.examples import Example, Item
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.model.policy import Policy, load_policy


class LangPTune:
    """Scores are cosines of items' states to that of a profile, which is all that the encoder is told of a user."""

    def __init__(
        self, writer: Policy, encoder: Policy, items: Sequence[Item], max_tokens: int, batch_size: int = 16
    ) -> None:
        """Args:
        writer: of profiles.
        encoder: of profiles and items.
        items: the item table.
        max_tokens: of a profile.
        batch_size: profiles at once.
        """
        self.writer, self.encoder, self.items = writer, encoder, items
        self.max_tokens, self.batch_size = max_tokens, batch_size
        self.states = item_states(encoder, items)  # (N, d)

    def profiles(self, examples: Sequence[Example]) -> list[str]:
        """The profile that is likeliest token by token, of each example."""
        prompts = profile_prompts(self.writer, examples, self.items)
        written = write_profiles(self.writer, prompts, self.max_tokens, self.batch_size)
        return [profile.text for (profile,) in written]

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) cosines; items of one text have the same."""
        return score_items(profile_states(self.encoder, self.profiles(examples), self.items), self.states)


def train_encoder(
    encoder: Policy, splits: Splits, name: str, seed: int, hours: float, train: Answers, valid: Answers
) -> None:
    """The encoder's turn; arguments as :func:`train_titles`, profiles in place of titles."""
    profile = means_of(splits).profile

    def make(arguments: TrainingArguments) -> EncoderTrainer:
        return EncoderTrainer(encoder, arguments, profile, splits.items, train, valid)

    settings = {"item_negatives": profile.warmup.item_negatives, "temperature": profile.reward.temperature}
    train_answers(encoder, splits, name, seed, hours, profile.warmup, train, valid, make, **settings)


def regression(logprobs: Tensor, reference: Tensor, rewards: Tensor, eta: float) -> Tensor:
    """REBEL's loss of (B, 2) log-probabilities of profiles, the writer's and those it was sampled with."""
    ratios = logprobs - reference
    return rebel_loss(ratios[:, 0], ratios[:, 1], rewards, eta)


def whitened(train: Tensor, valid: Tensor) -> tuple[list[list[float]], list[list[float]]]:
    """Rewards (E, 2) of both parts over the spread of the first; their mean falls out of differences."""
    spread = (train.var(correction=0) + 1e-8).sqrt()
    return (train / spread).tolist(), (valid / spread).tolist()


def rewarded(encoder: Policy, splits: Splits, train: Answers, valid: Answers) -> tuple[list[Tensor], float]:
    """Rewards (E, 2) of both parts' profiles, and the CPU seconds that they took."""
    told = [[(row["user_id"], row["target"], len(row["seen"])) for row in part.examples] for part in (train, valid)]

    def reward() -> list[list[list[float]]]:
        encoded = item_states(encoder, splits.items)
        return [profile_rewards(encoder, part, splits.items, encoded).tolist() for part in (train, valid)]

    key = f"{encoder.fingerprint} {splits.data} {told} {train.titles} {valid.titles}"
    found, spent = made_once(splits, "rewards", key, reward)
    return [torch.tensor(part) for part in found], spent


def fit(splits: Splits, seed: int, eta: float = 1.0, rounds: int = 3) -> LangPTune:
    """Rounds of writing, the encoder's turn and the writer's, which share the budget evenly.

    Args:
        splits: with means.
        seed: of the rows, of sampling and of the order.
        eta: how far rewards move the writer.
        rounds: of turns.
    """
    means, judging = means_of(splits), valid_rows(splits)[::3]  # fewer than for titles: they are written for
    profile, hours = means.profile, means.hours / rounds
    writer, encoder = load_policy(profile.model, seed), load_policy(profile.model, seed)
    for number in range(rounds):
        draw, seconds = seed * rounds + number, hours * 3600 * WRITING
        drawn = round_rows(splits, seed, number)
        rows, written, judged, spent = round_profiles(writer, splits, drawn, judging, draw, seconds)
        share = hours_left(hours, spent, f"writing {PAIR * (len(rows) + len(judging))} profiles") / 2
        read = [[[one.text for one in pair] for pair in part] for part in (written, judged)]
        train, valid = Answers(rows, read[0]), Answers(judging, read[1])
        train_encoder(encoder, splits, f"langptune-{number}-encoder", seed, share, train, valid)
        rewards, more = rewarded(encoder, splits, train, valid)
        end, (learned, worth) = writer.tokenizer.eos_token, whitened(*rewards)
        texts = [
            [[f"{text}{end if ended else ''}" for text, ended in pair] for pair in part] for part in (written, judged)
        ]
        train_titles(
            writer, splits, f"langptune-{number}-writer", seed,
            hours_left(hours - share, spent + more, "writing and rewarding profiles"),
            Answers(rows, texts[0], learned, PROFILE_INSTRUCTION),
            Answers(judging, texts[1], worth, PROFILE_INSTRUCTION),
            partial(regression, eta=eta), eta=eta,
        )  # fmt: skip
    return LangPTune(writer, encoder, splits.items, profile.rollouts.max_new_tokens, profile.evaluation.batch_size)
