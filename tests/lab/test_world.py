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


def pair_scores(train: lab.Split, test: lab.Split) -> torch.Tensor:
    """Co-occurrence by the last item: how often each target came behind it in the train split."""
    counts = torch.zeros(64, 64)
    counts.index_put_((train.histories[:, -1], train.targets), torch.ones(()), accumulate=True)
    return counts[test.histories[:, -1]]


def dialled(habits: float, chain: int = lab.HISTORY) -> lab.World:
    return lab.make_world(seed=3, train=20_000, valid=50, test=500, chain=chain, habits=habits)


@pytest.mark.parametrize("habits", [0.0, 0.25, 0.5, 1.0])
def test_co_occurrence_solves_the_habit_users_and_nobody_else(habits):
    world = dialled(habits)
    hits = hit_rate_at_k(pair_scores(world.train, world.test), world.test.targets, 1)
    users = lab.kinds(world, world.test.histories)
    assert users["habit"].float().mean() == pytest.approx(habits, abs=0.06)
    assert hits[users["habit"]].eq(1).all()
    assert not users["sum"].any() or hits[users["sum"]].mean() < 5 * CHANCE
    strange = lab.Split(world.train.histories, world.train.targets.roll(1))  # pairs of different users teach nothing
    assert hit_rate_at_k(pair_scores(strange, world.test), world.test.targets, 1).mean() < 5 * CHANCE


def test_tallies_solve_the_sum_users_alone():
    world = dialled(0.5)
    hits = hit_rate_at_k(oracle(world, lab.write_tallies(world, world.test.histories)), world.test.targets, 1)
    users = lab.kinds(world, world.test.histories)
    assert hits[users["sum"]].eq(1).all()
    assert hits[users["habit"]].mean() < 5 * CHANCE


def test_the_dial_changes_targets_alone_and_only_where_it_is_turned():
    worlds = [dialled(habits) for habits in (0.0, 0.25, 0.75, 1.0)]
    none, some, most, everyone = worlds
    assert none.follows.eq(-1).all()
    assert everyone.follows.sort().values.tolist() == list(range(64))
    assert not everyone.follows.eq(torch.arange(64)).any()
    for world in worlds:
        assert torch.equal(world.train.histories, none.train.histories)
        assert torch.equal(world.classes, none.classes)
    for fewer, more in ((none, some), (some, most), (most, everyone)):
        kept = fewer.follows >= 0
        assert torch.equal(fewer.follows[kept], more.follows[kept])
        sums = lab.kinds(more, more.test.histories)["sum"]
        assert torch.equal(fewer.test.targets[sums], more.test.targets[sums])


@pytest.mark.parametrize(("chain", "length"), [(2, 4), (6, 6)])
def test_a_chain_sums_the_last_items(chain, length):
    world = dialled(0.0, chain)
    histories, targets = world.test.histories, world.test.targets
    assert histories.shape == (500, length)
    classes, slots = world.classes.tolist(), world.slots.tolist()
    assert targets.tolist() == [by_hand(history[-chain:], classes, slots) for history in histories.tolist()]
    tallies = lab.write_tallies(world, histories)
    assert tallies.shape == (500, 2 * chain)
    last = tallies[:, [chain - 1, -1]] - torch.tensor([lab.CLASS_DIGIT, lab.SLOT_DIGIT])
    assert torch.equal(world.catalogue[last[:, 0], last[:, 1]], targets)
    shorter = [by_hand(history[1 - chain :], classes, slots) for history in histories.tolist()]
    assert targets.tolist() != shorter


@pytest.mark.parametrize("dial", [{"habits": 1.1}, {"habits": -0.1}, {"chain": 0}])
def test_a_dial_out_of_range_is_refused(dial):
    with pytest.raises(ValueError, match="habits from 0 to 1"):
        lab.make_world(0, 10, 10, 10, **dial)


def test_a_chain_too_long_to_number_its_histories_is_refused():
    with pytest.raises(ValueError, match=r"may have 10 items.* got 11"):
        lab.make_world(seed=0, train=10, valid=2, test=2, chain=11)


@pytest.mark.parametrize(("chain", "share"), [(2, 1.0), (4, 0.01), (6, 0.0)])
def test_pairs_can_be_looked_up_and_longer_sums_can_not(chain, share):
    made = lab.make_world(chain=chain, test=2048)
    known = {tuple(items[-chain:]) for items in made.train.histories.tolist()}
    found = [tuple(items[-chain:]) in known for items in made.test.histories.tolist()]
    assert sum(found) / len(found) == pytest.approx(share, abs=0.01)
