"""LangPTune's writer: profiles behind prompts, two of each sampled part by part and kept."""

from collections.abc import Sequence
from functools import partial

import torch

from rrec_lib.baselines.generative.title_runs import made_once, means_of, written_in_parts
from rrec_lib.baselines.generative.titles import Written
from rrec_lib.baselines.registry import Splits
from rrec_lib.core.console import progress
from rrec_lib.data.examples import Example, Item
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_users
from rrec_lib.recpo.rollouts import sample_groups

PROFILE_INSTRUCTION = "Describe this person's taste in {kind}s, in one or two sentences."
PAIR = 2  # profiles that are compared


def write_profiles(
    policy: Policy, prompts: Sequence[Sequence[int]], max_tokens: int, batch_size: int,
    count: int = 1, temperature: float = 0.0, top_k: int = 0, seed: int = 0,
) -> list[list[Written]]:  # fmt: skip
    """Profiles behind each prompt, which is computed once for all of its own.

    Args:
        policy: the writer.
        prompts: E lists of token ids.
        max_tokens: of a profile.
        batch_size: profiles at once.
        count: of each prompt.
        temperature: 0 is greedy.
        top_k: sample among the k likeliest tokens; 0 among all.
        seed: of sampling, apart from the global random stream.
    """
    order, size = sorted(range(len(prompts)), key=lambda row: len(prompts[row])), -(-batch_size // count)
    profiles: list[list[Written]] = [[]] * len(prompts)
    with policy.inference(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in progress([order[i : i + size] for i in range(0, len(order), size)], "writing profiles"):
            chosen = [prompts[row] for row in rows]
            model = language_model(policy.model)
            found = sample_groups(model, policy.tokenizer, chosen, count, max_tokens, temperature, top_k)
            written = [
                Written(text.rstrip("\ufffd"), one.sampled < max_tokens)
                for text, one in zip(found.texts(policy.tokenizer), found.closed, strict=True)
            ]
            for place, row in enumerate(rows):
                profiles[row] = written[place * count : (place + 1) * count]
    return profiles


def profile_prompts(policy: Policy, examples: Sequence[Example], items: Sequence[Item]) -> list[list[int]]:
    """Token ids of each example's prompt, which ends where the profile begins."""
    return encode_users(policy.tokenizer, examples, items, instruction=PROFILE_INSTRUCTION)


def sampled_profiles(
    writer: Policy, splits: Splits, examples: Sequence[Example], seed: int
) -> tuple[list[list[Written]], float]:
    """Two profiles of each example, sampled as R²ec's reasonings are, and the CPU seconds that they took."""
    profile, prompts = means_of(splits).profile, profile_prompts(writer, examples, splits.items)
    rollouts, size = profile.rollouts, profile.evaluation.batch_size
    how = rollouts.max_new_tokens, size, PAIR, 1.0, rollouts.top_k, seed
    written, spent = made_once(
        splits, "profiles", f"{writer.fingerprint} {prompts} {how}", lambda: write_profiles(writer, prompts, *how)
    )
    return [[Written(*one) for one in several] for several in written], spent


def round_profiles(
    writer: Policy, splits: Splits, rows: Sequence[Example], judging: Sequence[Example], seed: int, seconds: float
) -> tuple[list[Example], list[list[Written]], list[list[Written]], float]:
    """Two profiles of each row that judges, and of as many others as there is time for.

    They are written part by part, each an even sample of the rows, and a run that was killed goes on with the next.

    Args:
        writer, splits, seed: as in :func:`sampled_profiles`.
        rows: of training.
        judging: of valid.
        seconds: of the processor, after which no part is begun; one always is.

    Returns:
        The rows of training that were written for, their profiles, those of valid, and the CPU seconds.
    """
    judged, spent = sampled_profiles(writer, splits, judging, seed)
    write = partial(sampled_profiles, writer, splits, seed=seed)
    chosen, profiles, spent = written_in_parts(rows, write, seconds, "profiles", spent)
    return chosen, profiles, judged, spent
