"""Reasonings, and what stands in their place."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
import torch

from rrec_lib.evaluation.evaluate import sample_examples
from rrec_lib.model.encode import encode
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import closing_ids, encode_users, item_name, marker_ids, reasoning_ids
from rrec_lib.recommend.controls import cheat, other_users, random_texts, shuffled_histories, swap_titles
from rrec_lib.recommend.recommender import ReasoningRecommender, averaged, seed_of
from rrec_lib.recpo.rollouts import sample_groups
from rrec_lib.training.skills import SKILLS, world_of


def test_controls_read_other_states(smoke_profile, smoke_dataset):
    recommender = ReasoningRecommender(load_policy(smoke_profile.model), list(smoke_dataset["items"]), smoke_profile)
    examples = sample_examples(smoke_dataset["test"], 6, 2, seed=0)
    written = recommender.reason(examples, temperature=1.0)  # greedily, random weights write the same for everybody
    own = recommender.states(examples, "own", written)
    prompts = encode_users(recommender.policy.tokenizer, examples, recommender.items)
    whole = [prompt + closed.ids for prompt, closed in zip(prompts, written.closed, strict=True)]
    torch.testing.assert_close(own, encode(recommender.policy, whole), atol=1e-4, rtol=1e-4)
    none = recommender.states(examples, "none")
    other = recommender.states(examples, "other", written)
    random, shuffled = (recommender.states(examples, control, written) for control in ("random", "shuffled"))
    moved = shuffled_histories(examples, seed_of(examples))
    torch.testing.assert_close(shuffled, recommender.reason(moved).states)
    marker = marker_ids(recommender.policy.tokenizer)
    tokenizer, (newline,) = recommender.policy.tokenizer, recommender.policy.tokenizer("\n")["input_ids"]
    ends = [[newline] * (closed.ids[-len(marker) - 1] == newline) + marker for closed in written.closed]
    sizes = [len(closed.ids) - len(end) for closed, end in zip(written.closed, ends, strict=True)]
    texts = random_texts(tokenizer, sizes, seed_of(examples))
    whole = [prompt + text + end for prompt, text, end in zip(prompts, texts, ends, strict=True)]
    torch.testing.assert_close(random, encode(recommender.policy, whole), atol=1e-4, rtol=1e-4)
    users = [example["user_id"] for example in examples]
    donors = [next(j % 6 for j in range(i + 1, i + 6) if users[j % 6] != users[i]) for i in range(6)]
    whole = [prompt + written.closed[donor].ids for prompt, donor in zip(prompts, donors, strict=True)]
    torch.testing.assert_close(other, encode(recommender.policy, whole), atol=1e-4, rtol=1e-4)
    found = {"own": own, "none": none, "other": other, "random": random, "shuffled": shuffled}
    for one, another in combinations(found, 2):
        assert not torch.allclose(found[one], found[another]), f"{one} and {another}"
    assert recommender.scores(examples).shape == (6, len(recommender.items))
    with pytest.raises(ValueError, match="unknown control 'all'; choose one of own, none, other"):
        recommender.states(examples, "all")


def test_random_words_keep_the_line_s_end_and_differ_between_chunks(smoke_profile, smoke_dataset):
    recommender = ReasoningRecommender(load_policy(smoke_profile.model), list(smoke_dataset["items"]), smoke_profile)
    tokenizer, rows = recommender.policy.tokenizer, list(smoke_dataset["test"])[:6]
    for text in ("Likes Drama.", ""):
        ids = reasoning_ids(tokenizer, text)
        assert tokenizer.decode(closing_ids(tokenizer, ids)) == "\n<answer>"
    assert closing_ids(tokenizer, marker_ids(tokenizer)) == marker_ids(tokenizer)
    newline, *marker = closing_ids(tokenizer, reasoning_ids(tokenizer, "x"))
    pieces = [tokenizer(piece)["input_ids"] for piece in ("Drama.", *"<answer>")]  # as a policy may write it
    text, others = pieces[0], [token for piece in pieces[1:] for token in piece]
    assert closing_ids(tokenizer, [*text, newline, *others]) == [newline, *marker]
    assert closing_ids(tokenizer, [*text, *others]) == marker
    assert seed_of(rows[:3]) == seed_of([{**row, "target": 0} for row in rows[:3]]) != seed_of(rows[3:])
    assert seed_of(rows[:3], 1) != seed_of(rows[:3])


def test_what_is_written_is_heard_by_example_whatever_the_order_of_the_batch(smoke_profile, smoke_dataset):
    recommender = ReasoningRecommender(load_policy(smoke_profile.model), list(smoke_dataset["items"]), smoke_profile)
    short, long = ({**smoke_dataset["test"][0], name: 0} for name in ("shorter", "longer"))
    for name in ("history", "history_ratings", "history_timestamps"):
        short[name], long[name] = long[name][:1], long[name] * 2
    for examples in ([short, long], [long, short]):
        heard: list[Mapping[int, list[str]]] = []
        written = recommender.sample(examples, 2, 1.0, seed=1, hear=heard.append)
        assert heard[-1] == {i: [one.texts[i] for one in written] for i in range(2)}
        assert written[0].texts != written[1].texts


def test_reasoning_leaves_the_random_stream_as_it_was(smoke_profile, smoke_dataset):
    policy = load_policy(smoke_profile.model)
    recommender = ReasoningRecommender(policy, list(smoke_dataset["items"]), smoke_profile)
    examples = sample_examples(smoke_dataset["test"], 2, 1, seed=0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    written = [recommender.reason(examples, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    ids = [[closed.ids for closed in found.closed] for found in written]
    assert ids[0] == ids[1] != ids[2]


def test_shuffled_histories_keep_ratings_with_their_items_and_times_in_place():
    example: dict[str, Any] = {"history": [7, 8, 9, 6], "history_ratings": [1.0, 2.0, 3.0, 4.0]}
    example["history_timestamps"] = [1, 2, 3, 4]
    (moved,) = shuffled_histories([example])
    assert moved["history"] != example["history"]
    ratings = dict(zip(example["history"], example["history_ratings"], strict=True))
    assert {item: ratings[item] for item in moved["history"]} == ratings
    assert [ratings[item] for item in moved["history"]] == moved["history_ratings"]
    assert moved["history_timestamps"] == [1, 2, 3, 4]
    assert example["history"] == [7, 8, 9, 6]


def test_random_texts_are_seeded_and_hold_no_special_token(smoke_profile):
    tokenizer = load_policy(smoke_profile.model).tokenizer
    texts = random_texts(tokenizer, [5000, -2, 3])
    assert [len(text) for text in texts] == [5000, 0, 3]
    assert not set(texts[0]) & set(tokenizer.all_special_ids)
    assert len(set(texts[0])) > 4000  # drawn evenly from nearly fifty thousand
    assert random_texts(tokenizer, [5000])[0] == texts[0]


def test_other_users_never_gives_ones_own():
    assert other_users([1, 1, 2, 2]) == [2, 2, 0, 0]
    with pytest.raises(ValueError, match="at least two users"):
        other_users([1, 1])


def test_a_real_adapter_is_caught_until_it_is_trained(smoke_profile, smoke_dataset):
    """LoRA starts as no change at all; any change of its second matrix is one."""
    policy = load_policy(smoke_profile.model)
    recommender = ReasoningRecommender(policy, list(smoke_dataset["items"]), smoke_profile, use_cache=False)
    rows = list(smoke_dataset["test"])[:4]
    assert [found.check for found in recommender.check(rows, "base", trained=False)] == ["item table"]
    with pytest.raises(ValueError, match="adapter is untrained"):
        recommender.check(rows, "x", trained=True)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.1)
    stale = recommender.item_embeddings  # of the weights before
    del recommender.item_embeddings
    assert [found.check for found in recommender.check(rows, "x", trained=True)] == ["trained", "item table"]
    recommender.item_embeddings = stale.roll(1, 0)
    with pytest.raises(ValueError, match="the table is shuffled or of other weights"):
        recommender.check(rows, "x", trained=True)


def test_one_sampled_reasoning_is_todays_and_more_share_their_prompt(smoke_profile, smoke_dataset, monkeypatch):
    recommender = ReasoningRecommender(load_policy(smoke_profile.model), list(smoke_dataset["items"]), smoke_profile)
    examples = list(smoke_dataset["test"])[:5]
    asked: list[tuple[int, int]] = []

    def noted(model, tokenizer, prompts, count, *rest, **named):
        asked.append((len(prompts), count))
        return sample_groups(model, tokenizer, prompts, count, *rest, **named)

    monkeypatch.setattr("rrec_lib.recommend.recommender.sample_groups", noted)
    today, (one,) = recommender.reason(examples, 1.0, seed=3), recommender.sample(examples, 1, 1.0, seed=3)
    assert [closed.ids for closed in one.closed] == [closed.ids for closed in today.closed]
    scores = recommender.score_states(averaged(one.states[None]))
    torch.testing.assert_close(scores, recommender.score_states(today.states))
    asked.clear()
    several = recommender.sample(examples, 4, 1.0, seed=3)
    assert asked == [(2, 4), (2, 4), (1, 4)]  # 8 at a time, as single ones are
    prompts = encode_users(recommender.policy.tokenizer, examples, recommender.items)
    for written in several:  # every state is that of its own example's prompt and text
        whole = [prompt + closed.ids for prompt, closed in zip(prompts, written.closed, strict=True)]
        torch.testing.assert_close(written.states, encode(recommender.policy, whole), atol=1e-4, rtol=1e-4)
        assert len(written.texts) == 5
    assert len({tuple(written.closed[0].ids) for written in several}) > 1


def test_averaged_states_rank_as_the_mean_of_the_scores(smoke_profile, smoke_dataset):
    recommender = ReasoningRecommender(load_policy(smoke_profile.model), list(smoke_dataset["items"]), smoke_profile)
    torch.manual_seed(0)
    states = torch.randn(4, 6, recommender.policy.hidden_size)
    states[0] *= 50  # a long state counts once, as the others do
    mean = torch.stack([recommender.score_states(one) for one in states]).mean(0)
    ranked = [scores.argsort(dim=1) for scores in (recommender.score_states(averaged(states)), mean)]
    assert torch.equal(*ranked)
    assert not torch.equal(recommender.score_states(states.mean(0)).argsort(dim=1), ranked[0])


def test_given_texts_stand_before_the_marker_and_the_cheat_alone_looks_at_the_target(smoke_profile, smoke_dataset):
    policy, items, world = load_policy(smoke_profile.model), list(smoke_dataset["items"]), world_of(smoke_dataset)
    recommender = ReasoningRecommender(policy, items, smoke_profile, world=world)
    examples = list(smoke_dataset["test"])[:4]
    prompts = encode_users(policy.tokenizer, examples, items)
    blind = [{**example, "target": (example["target"] + 30) % len(items)} for example in examples]
    for control, text in {**{f"skill {name}": SKILLS[name] for name in SKILLS}, "cheat": cheat}.items():
        endings = [f"{text(example, world)}\n<answer>" for example in examples]
        whole = [p + policy.tokenizer(e)["input_ids"] for p, e in zip(prompts, endings, strict=True)]
        torch.testing.assert_close(recommender.states(examples, control), encode(policy, whole), atol=1e-4, rtol=1e-4)
        assert (control == "cheat") != torch.equal(
            recommender.states(blind, control), recommender.states(examples, control)
        )
    genres = items[examples[0]["target"]]["genres"]
    assert cheat(examples[0], world) == f"Likes {' and '.join(genres)}."
    with pytest.raises(ValueError, match="control 'skill taste' needs the items' neighbours"):
        ReasoningRecommender(policy, items, smoke_profile).states(examples, "skill taste")


def test_a_title_is_swapped_for_one_that_nothing_else_speaks_for(smoke_profile, smoke_dataset):
    world, examples = world_of(smoke_dataset), list(smoke_dataset["test"])
    texts = [SKILLS["association"](example, world) for example in examples]
    swaps = swap_titles(texts, examples, world)
    assert swap_titles(texts[3:5], examples[3:5], world) == swaps[3:5]  # whatever it is asked with
    done = [(swap, text, example) for swap, text, example in zip(swaps, texts, examples, strict=True) if swap.added]
    assert len(done) > len(texts) / 2
    for swap, text, example in done:
        removed, added = swap.removed, swap.added
        assert removed is not None
        assert added is not None
        assert removed not in example["seen"]  # what was recommended, not what was had
        assert added not in example["seen"]
        assert added not in world.neighbours[removed]
        old, new = (item_name(world.items[item]) for item in (removed, added))
        assert old in text
        assert new not in text
        assert swap.text == text.replace(old, new)
    assert len({swap.added for swap, *_ in done}) > 5
    assert swap_titles(["no title at all"], examples[:1], world)[0].text == "no title at all"
    had = item_name(world.items[examples[0]["history"][0]])
    (swap,) = swap_titles([f"They had {had}."], examples[:1], world)  # where there is no other
    assert swap.removed == examples[0]["history"][0]
    recommender = ReasoningRecommender(
        load_policy(smoke_profile.model), list(smoke_dataset["items"]), smoke_profile, world=world
    )
    written = recommender.reason(examples[:4], temperature=1.0)
    written.texts[:] = texts[:4]
    expected = recommender.states_behind(examples[:4], [swap.text for swap in swaps[:4]])
    assert torch.equal(recommender.states(examples[:4], "title swapped", written), expected)
    assert not torch.allclose(expected, recommender.states_behind(examples[:4], texts[:4]))
