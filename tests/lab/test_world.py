"""The lab's world: its rule, what reasoning is worth in it, and what its written styles may not give away."""

import pytest
import torch

from rrec_lib.evaluation.metrics import hit_rate_at_k
from rrec_lib.lab import world as lab

CHANCE = 1 / lab.N_ITEMS


@pytest.fixture(scope="module")
def world() -> lab.World:
    return lab.make_world(seed=3, train=20_000, valid=50, test=500)


def by_hand(history: list[int], classes: list[int], slots: list[int]) -> int:
    """The rule in plain Python, from the attributes alone."""
    want_class = want_slot = 0
    for item in history:
        want_class = (want_class + classes[item]) % 8
        want_slot = (want_slot + slots[item]) % 8
    return next(item for item in range(64) if classes[item] == want_class and slots[item] == want_slot)


def test_targets_follow_the_rule_and_a_wrong_rule_is_noticed(world):
    classes, slots = world.classes.tolist(), world.slots.tolist()
    expected = [by_hand(history, classes, slots) for history in world.test.histories.tolist()]
    assert world.test.targets.tolist() == expected
    truncated = [by_hand(history[:3], classes, slots) for history in world.test.histories.tolist()]
    assert world.test.targets.tolist() != truncated


def test_attributes_name_each_item_once(world):
    assert torch.equal(world.catalogue[world.classes, world.slots], torch.arange(64))
    assert world.classes.bincount().tolist() == world.slots.bincount().tolist() == [8] * 8


def test_three_items_of_a_history_leave_every_target_equally_likely(world):
    for missing in range(4):
        histories = torch.tensor([5, 17, 17, 42]).repeat(64, 1)
        histories[:, missing] = torch.arange(64)
        targets = lab.next_items(histories, world.classes, world.slots, world.catalogue)
        assert targets.sort().values.tolist() == list(range(64))


def test_users_of_different_splits_share_no_history(world):
    codes = [{tuple(row) for row in split.histories.tolist()} for split in (world.train, world.valid, world.test)]
    assert [len(histories) for histories in codes] == [20_000, 50, 500]
    assert not codes[0] & codes[1]
    assert not codes[0] & codes[2]
    assert not codes[1] & codes[2]


def test_same_seed_same_world():
    first, again, other = (lab.make_world(seed, 100, 10, 10) for seed in (0, 0, 1))
    assert torch.equal(first.train.histories, again.train.histories)
    assert torch.equal(first.classes, again.classes)
    assert not torch.equal(first.classes, other.classes)


def oracle(world: lab.World, reasoning: torch.Tensor) -> torch.Tensor:
    """Scores of whoever believes the last class digit and the last slot digit."""
    classes, slots = reasoning[:, lab.HISTORY - 1] - lab.CLASS_DIGIT, reasoning[:, -1] - lab.SLOT_DIGIT
    return torch.nn.functional.one_hot(world.catalogue[classes, slots], lab.N_ITEMS).float()


def test_true_tallies_are_worth_everything_and_those_of_another_user_nothing(world):
    tallies = lab.write_tallies(world, world.test.histories)
    assert hit_rate_at_k(oracle(world, tallies), world.test.targets, 1).mean() == 1
    assert hit_rate_at_k(oracle(world, tallies.roll(1, 0)), world.test.targets, 1).mean() < 3 * CHANCE


def count_scores(train: lab.Split, test: lab.Split) -> torch.Tensor:
    """A bag of items: how often each of the history's items came before each target in the train split."""
    counts = torch.zeros(64, 64)
    counts.index_put_((train.histories.flatten(), train.targets.repeat_interleave(4)), torch.ones(()), accumulate=True)
    return counts[test.histories].sum(1)


def test_counts_stay_at_chance_here_but_not_where_one_item_decides(world):
    scores = count_scores(world.train, world.test)
    assert hit_rate_at_k(scores, world.test.targets, 1).mean() < 3 * CHANCE

    def follows_last(split: lab.Split) -> lab.Split:
        return lab.Split(split.histories, (split.histories[:, -1] + 1) % 64)

    easy = count_scores(follows_last(world.train), follows_last(world.test))
    assert hit_rate_at_k(easy, follows_last(world.test).targets, 1).mean() > 0.2


def test_neither_style_names_an_item(world):
    tallies = lab.write_tallies(world, world.test.histories)
    chatter = lab.write_chatter(500, torch.Generator().manual_seed(0))
    assert tallies.shape == chatter.shape == (500, lab.REASONING)
    assert tallies.min() >= lab.N_ITEMS
    assert tallies.max() < lab.CHATTER
    assert chatter.min() >= lab.CHATTER
    assert chatter.max() < lab.THINK


def test_tally_shares_tell_styles_and_errors_apart(world):
    histories = world.test.histories[:2]
    tallies = lab.write_tallies(world, histories)
    chatter = lab.write_chatter(2, torch.Generator().manual_seed(0))
    wrong = tallies.clone()
    wrong[:, 0] = lab.CLASS_DIGIT + (wrong[:, 0] - lab.CLASS_DIGIT + 1) % 8
    shares = [
        [share.tolist() for share in lab.tally_shares(world, histories, text)] for text in (tallies, wrong, chatter)
    ]
    assert shares == [[[1, 1], [1, 1]], [[1, 1], [0.875, 0.875]], [[0, 0], [0, 0]]]


def test_show_prints_a_reasoning():
    tokens = torch.tensor([7, lab.THINK, lab.CLASS_DIGIT + 3, lab.SLOT_DIGIT, lab.CHATTER + 15, lab.ANSWER, lab.ITEM])
    assert lab.as_text(tokens) == "#7 <think> c3 s0 w15 <answer> <item>"


@pytest.mark.parametrize("sizes", [(0, 1, 1), (10**8, 1, 1)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        lab.make_world(0, *sizes)
