"""Titles: the prompt that asks for one, what stands behind it, and what a model writes of its own accord.

BigRec, D3, S-DPO and SPRec share all of it, so that they differ in what is learned from and how it is read out. The
prompt is R²ec's, with another instruction: the same history, window and wording. LLaRA adds vectors to it.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedTokenizerBase

from rrec_lib.core.console import progress
from rrec_lib.data.examples import Example, Item
from rrec_lib.model.encode import encode, pad_rows
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_users, item_name

TITLE_INSTRUCTION = "Recommend the next {kind} to this person. Answer with its title alone."


def title_ids(tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]) -> list[list[int]]:
    """Token ids of each item's title, without an end; items of the same title have the same."""
    encoded = tokenizer([item_name(item) for item in items], add_special_tokens=False)
    return [list(ids) for ids in encoded["input_ids"]]


def title_answers(tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]) -> list[str]:
    """What the assistant says to recommend each item: its title, and the end of the turn."""
    return [f"{item_name(item)}{tokenizer.eos_token}" for item in items]


def title_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], items: Sequence[Item]
) -> list[list[int]]:
    """Token ids of each example's prompt, which ends where the title begins."""
    return encode_users(tokenizer, examples, items, instruction=TITLE_INSTRUCTION)


class Written(NamedTuple):
    """A text without the end of the turn, and whether the model ended it itself."""

    text: str
    ended: bool


def plain_search(tokenizer: PreTrainedTokenizerBase, beams: int, max_tokens: int, **more: Any) -> GenerationConfig:
    """A search without sampling or penalties, for Transformers' ``generate``; scores are divided by the length.

    A field that is left out is taken from the model's own configuration, whose penalties are for chats.
    """
    fields = {
        "do_sample": False, "num_beams": beams, "max_new_tokens": max_tokens, "repetition_penalty": 1.0,
        "length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "early_stopping": False,
        "suppress_tokens": [], "bad_words_ids": None, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **more,
    }  # fmt: skip
    return GenerationConfig(**fields)


def write(
    policy: Policy, prompts: Sequence[Sequence[int]], max_tokens: int, beams: int = 1, batch_size: int = 16
) -> list[Written]:
    """What the model writes, free to write anything.

    Args:
        policy: with a tokenizer.
        prompts: E lists of token ids.
        max_tokens: of a title, its end included.
        beams: of the search; 1 is greedy.
        batch_size: prompts at once.
    """
    tokenizer, end = policy.tokenizer, policy.tokenizer.eos_token_id
    config = plain_search(tokenizer, beams, max_tokens)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    texts = [Written("", False)] * len(prompts)
    with policy.inference():
        model: Any = language_model(policy.model)
        for rows in progress([order[i : i + batch_size] for i in range(0, len(order), batch_size)], "writing titles"):
            ids, mask = pad_rows([prompts[row] for row in rows], tokenizer.pad_token_id, policy.device, "left")
            read = _read_once(model, ids, mask, beams) if beams > 1 else None
            written = model.generate(input_ids=ids, attention_mask=mask, past_key_values=read, generation_config=config)
            for row, tokens in zip(rows, written[:, ids.shape[1] :].tolist(), strict=True):
                ended = end in tokens
                title = tokens[: tokens.index(end)] if ended else tokens
                texts[row] = Written(str(tokenizer.decode(title)).strip(), ended)
    return texts


def _read_once(model: Any, ids: Tensor, mask: Tensor, beams: int) -> DynamicCache:
    """Keys and values of (B, T) prompts but for their last token, for each beam; ``generate`` reads them per beam."""
    cache, places = DynamicCache(config=model.config), (mask.cumsum(1) - 1).clamp(min=0)
    seen = {"input_ids": ids[:, :-1], "attention_mask": mask[:, :-1], "position_ids": places[:, :-1]}
    model.get_decoder()(**seen, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(beams)
    return cache


def title_states(policy: Policy, titles: Sequence[str]) -> Tensor:
    """The *base* model's state at the last token of each title, alone and without a prompt.

    Equal titles have the very same state, whatever else is encoded. A policy whose weights are all trained has no base
    left, and gives its own.

    Returns:
        (n, d) float32.
    """
    end = [policy.tokenizer.eos_token_id]
    ids = [list(policy.tokenizer(title)["input_ids"]) or end for title in titles]
    with policy.model.disable_adapter() if isinstance(policy.model, PeftModel) else nullcontext():
        return encode_once(policy, ids, "encoding titles")


def encode_once(policy: Policy, sequences: Sequence[Sequence[int]], description: str) -> Tensor:
    """(n, d) float32 states of sequences, each distinct one encoded once, so that equal ones tie to the last bit."""
    unique = {ids: row for row, ids in enumerate(dict.fromkeys(map(tuple, sequences)))}
    states = encode(policy, list(unique), description=description)
    return states[torch.tensor([unique[tuple(ids)] for ids in sequences], device=states.device)]
