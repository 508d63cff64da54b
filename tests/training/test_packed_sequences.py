"""Packed sequences: every target once, nothing of the future in a prompt, states equal to those of separate prompts."""

import pytest
import torch

from rrec_lib.model.encode import encode
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import encode_users, marker_ids
from rrec_lib.model.ragged import ragged_forward, ragged_row, ragged_rows
from rrec_lib.training.packed_sequences import (
    longest_history,
    order_by_length,
    split_prefix,
    successive_targets,
    with_common_start,
)


def example(user, position, window=3, target=None):
    """The user's log is the items 0, 1, 2, …, a second apart; this one's target stands at a position of it."""
    history = list(range(max(position - window, 0), position))
    return {
        "user_id": user,
        "history": history,
        "history_ratings": [float(item % 5) for item in history],
        "history_timestamps": [100 * item for item in history],
        "seen": list(range(position)),
        "target": position if target is None else target,
        "target_timestamp": 100 * position,
    }


def test_packed_sequences_hold_each_row_once_and_a_users_rows_in_order():
    rows = [example(2, 4), example(1, 1), example(2, 2), example(1, 2), example(1, 3), example(2, 5)]
    assert successive_targets(rows, 2) == [[1, 3], [4], [2, 0], [5]]
    assert successive_targets(rows, 1) == [[1], [3], [4], [2], [0], [5]]
    with pytest.raises(ValueError, match="at least one target, got 0"):
        successive_targets(rows, 0)


def test_a_packed_sequence_ends_where_a_history_does_not_reach_back_to_the_last_target():
    reached, missed = example(1, 5), example(1, 6)
    assert successive_targets([example(1, 2), reached], 8) == [[0, 1]]  # 3 new items, a history of 3
    assert successive_targets([example(1, 2), missed], 8) == [[0], [1]]


def test_steps_take_rows_of_like_lengths_in_a_seeded_order():
    lengths = torch.randint(1, 40, (1003,), generator=torch.Generator().manual_seed(0)).tolist()

    def order(seed):
        return order_by_length(lengths, 4, torch.Generator().manual_seed(seed))

    def filling(rows):
        steps = [[lengths[row] for row in rows[i : i + 4]] for i in range(0, len(rows), 4)]
        return sum(max(step) * len(step) - sum(step) for step in steps) / sum(lengths)

    rows = order(1)
    assert sorted(rows) == list(range(1003))
    assert rows == order(1) != order(2)
    assert filling(rows) < 0.05 < 0.3 < filling(list(range(1003)))  # as they came, a third would be padding
    firsts = torch.tensor([float(lengths[row]) for row in rows[::4]])
    assert abs(torch.corrcoef(torch.stack([firsts[1:], firsts[:-1]]))[0, 1]) < 0.2  # neighbours have nothing in common
    assert order_by_length([3, 1], 4, torch.Generator().manual_seed(0)) == [1, 0]  # less than a step


def test_its_longest_history_is_that_of_its_longest_prompt():
    block = [example(1, 4), example(1, 5), example(1, 8)]
    assert longest_history(block) == len(with_common_start(block)[-1]["history"]) == 7
    assert longest_history(block[:1]) == 3


def test_histories_begin_together_and_end_before_their_own_target():
    block = [example(1, 4), example(1, 5), example(1, 8), example(1, 8, target=9)]  # two targets at one moment
    aligned = with_common_start(block)
    assert [e["history"] for e in aligned] == [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7]]
    for e, original in zip(aligned, block, strict=True):
        assert e["target"] not in e["history"]
        assert e["history_timestamps"] == [100 * item for item in e["history"]]
        assert e["history_ratings"] == [float(item % 5) for item in e["history"]]
        assert e["target_timestamp"] == block[-1]["target_timestamp"]
        assert e["history"][-len(original["history"]) :] == original["history"]
    assert block[0]["history"] == [1, 2, 3]  # what was given is as it was


def test_a_shared_row_by_hand():
    row = split_prefix([[5, 6, 9], [5, 6, 7, 8, 9], [5, 6]])
    assert row.prefix == [5, 6, 7, 8]
    assert row.shared == [2, 4, 1]
    assert row.rest == [[9], [9], [6]]
    alone = split_prefix([[5, 6, 9]])
    assert (alone.prefix, alone.shared, alone.rest) == ([5, 6], [2], [[9]])


def test_states_of_a_packed_sequence_are_those_of_separate_prompts(smoke_profile, smoke_dataset):
    policy = load_policy(smoke_profile.model)
    train, marker = list(smoke_dataset["train"]), marker_ids(policy.tokenizer)
    rows = max(successive_targets(train, 4), key=len)
    assert len(rows) == 4
    aligned = with_common_start([train[row] for row in rows])
    prompts = encode_users(policy.tokenizer, aligned, list(smoke_dataset["items"]))
    assert len({len(prompt) for prompt in prompts}) == 4
    shared = split_prefix(prompts)
    assert sum(map(len, shared.rest)) + len(shared.prefix) < sum(map(len, prompts)) / 2  # worth it

    def states(shared_tokens):
        rest = [ids + marker for ids in shared.rest]
        with torch.no_grad(), ragged_rows(policy.model):
            return ragged_forward(policy.model, [ragged_row(shared.prefix, rest, shared_tokens)]).states

    separate = encode(policy, [prompt + marker for prompt in prompts])
    torch.testing.assert_close(states(shared.shared), separate, atol=1e-4, rtol=1e-4)
    ends = [len(shared.prefix)] * 4  # as if each went on from the row's end: the first three would see too much
    assert ((states(ends) - separate).abs().amax(1) > 1e-2).tolist() == [True, True, True, False]
