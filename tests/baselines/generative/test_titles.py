"""The prompt that asks for a title, what is written behind it, and the states that ground it."""

from typing import Any

import pytest
import torch

from rrec_lib.baselines.generative.titles import (
    TITLE_INSTRUCTION,
    plain_search,
    title_answers,
    title_ids,
    title_prompts,
    title_states,
    write,
)
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.model.prompts import encode_users, item_name


@pytest.fixture(scope="module")
def policy(smoke_profile):
    policy = load_policy(smoke_profile.model)
    with torch.no_grad():  # so that LoRA is not the identity
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return policy


@pytest.fixture(scope="module")
def items(smoke_dataset):
    return list(smoke_dataset["items"])


def test_the_prompt_is_r2ecs_with_another_instruction(policy, items, smoke_dataset):
    example = smoke_dataset["test"][0]
    (asked,), (reasoned,) = (
        title_prompts(policy.tokenizer, [example], items),
        encode_users(policy.tokenizer, [example], items),
    )
    text, other = (str(policy.tokenizer.decode(ids)) for ids in (asked, reasoned))
    assert TITLE_INSTRUCTION.format(kind="film") in text
    assert text.split("seen, oldest first")[1] == other.split("seen, oldest first")[1]
    assert all(item_name(items[row]) in text for row in example["history"])
    assert item_name(items[example["target"]]) not in text


def test_a_titles_tokens_are_those_that_are_learned(policy, items):
    end = policy.tokenizer.eos_token_id
    learned = policy.tokenizer(title_answers(policy.tokenizer, items), add_special_tokens=False)["input_ids"]
    assert [ids[:-1] for ids in learned] == title_ids(policy.tokenizer, items)
    assert all(ids.index(end) == len(ids) - 1 for ids in learned)
    assert len({tuple(ids) for ids in title_ids(policy.tokenizer, [items[0], items[0], items[1]])}) == 2


def test_what_is_written_is_the_likeliest_token_each_time(policy, items, smoke_dataset):
    prompts = title_prompts(policy.tokenizer, list(smoke_dataset["test"])[:5], items)
    written = write(policy, prompts, 6, batch_size=2)
    for prompt, (text, ended) in zip(prompts, written, strict=True):
        ids = list(prompt)
        with policy.inference():
            for _ in range(6):
                logits = language_model(policy.model)(input_ids=torch.tensor([ids])).logits
                ids.append(int(logits[0, -1].argmax()))
        tokens = ids[len(prompt) :]
        end = policy.tokenizer.eos_token_id
        assert ended == (end in tokens)
        assert text == policy.tokenizer.decode(tokens[: tokens.index(end)] if ended else tokens).strip()


@pytest.mark.parametrize(
    ("name", "settings"), [("qwen2", {}), ("llama", {}), ("gemma2", {}), ("gemma2", {"sliding_window": 4})]
)
def test_beams_share_the_reading_of_their_prompt(family, name, settings):
    model, tokenizer = family(name, **settings)
    policy = Policy(model, tokenizer, torch.float32, "none")
    prompts = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]
    found = [one.text for one in write(policy, prompts, 6, beams=4, batch_size=3)]
    config = plain_search(tokenizer, 4, 6)
    for prompt, text in zip(prompts, found, strict=True):  # alone and without padding
        with policy.inference():
            written = model.generate(input_ids=torch.tensor([prompt]), generation_config=config)
        assert text == tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True).strip() != ""


@pytest.mark.parametrize("beams", [1, 3])
def test_the_models_own_settings_cut_nothing(policy, items, smoke_dataset, beams):
    prompts = title_prompts(policy.tokenizer, list(smoke_dataset["test"])[:3], items)
    model: Any = language_model(policy.model)
    before, config = write(policy, prompts, 8, beams), model.generation_config
    model.generation_config = type(config)(
        do_sample=True, top_k=1, temperature=5.0, repetition_penalty=50.0, no_repeat_ngram_size=1, min_length=99,
        num_beams=2, length_penalty=9.0, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id,
    )  # fmt: skip
    try:
        assert write(policy, prompts, 8, beams) == before
        changed = model.generate(input_ids=torch.tensor([prompts[0]]), max_new_tokens=8)  # the settings do have effect
        assert policy.tokenizer.decode(changed[0, len(prompts[0]) :]).strip() != before[0].text
    finally:
        model.generation_config = config


def test_states_are_the_base_models_and_equal_titles_share_theirs(policy, smoke_profile, items):
    titles = [item_name(item) for item in items[:7]]
    states = title_states(policy, [*titles, titles[2], ""])
    torch.testing.assert_close(title_states(load_policy(smoke_profile.model), titles), states[:7])
    assert torch.equal(states[2], states[7])
    assert states.isfinite().all()
    ids = torch.tensor([policy.tokenizer(titles[0])["input_ids"]])
    with policy.inference():
        tuned = language_model(policy.model)(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
    assert not torch.allclose(tuned, states[0], atol=1e-3)  # the fine-tuned model's would be others
