"""The sequence models: causal, blind to padding, repeatable, and able to learn what popularity can't."""

import pytest
import torch

from rrec_lib.baselines.encoders import ENCODERS, SequenceSettings
from rrec_lib.baselines.sequence import (
    IGNORED,
    STOPPING_ROWS_PER_USER,
    SequenceRecommender,
    sampled_softmax,
    stopping_rows,
    training_windows,
)
from rrec_lib.baselines.simple import Popularity
from rrec_lib.evaluation.evaluate import mean_ndcg

N = 7
TINY = SequenceSettings(length=6, hidden=16, layers=1, heads=2, dropout=0.0, learning_rate=0.01, batch_size=4,
                        epochs=30, patience=30)  # fmt: skip


def cycle(rows, users, start):
    """Items go round: after i comes i + 1."""
    return rows(
        *((user, [(user + step) % N for step in range(length)], (user + length) % N, start + length)
          for user in range(users) for length in range(1, 6))
    )  # fmt: skip


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_later_item_changes_no_earlier_state_and_padding_none(encoder):
    model = SequenceRecommender(encoder, N, TINY).eval()
    states = model(torch.tensor([[0, 1, 2, 3]]))
    other = model(torch.tensor([[0, 1, 2, 5]]))
    padded = model(torch.tensor([[0, 1, 2, N, N, N]]))
    torch.testing.assert_close(other[:, :3], states[:, :3], atol=1e-6, rtol=0)
    torch.testing.assert_close(padded[:, :3], states[:, :3], atol=1e-6, rtol=0)
    assert not torch.allclose(other[:, 3], states[:, 3], atol=1e-4)
    assert not torch.allclose(model(torch.tensor([[4, 1, 2, 3]]))[:, 3], states[:, 3], atol=1e-4)  # the past counts


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_cycle_is_learnt_where_popularity_is_chance(encoder, rows):
    train, valid = cycle(rows, N, 0), cycle(rows, N, 100)
    model = SequenceRecommender(encoder, N, TINY).fit(train, valid)
    assert mean_ndcg(model, valid) == pytest.approx(1)
    assert mean_ndcg(Popularity(train, N), valid) < 0.8


def test_same_seed_same_scores(rows):
    train, valid = cycle(rows, N, 0), cycle(rows, N, 100)
    settings = SequenceSettings(**{**vars(TINY), "epochs": 2, "dropout": 0.2})
    first, second, other = (SequenceRecommender("sasrec", N, settings, s).fit(train, valid).scores(valid)
                            for s in (0, 0, 1))  # fmt: skip
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_best_weights_are_kept(rows):
    train, valid = cycle(rows, N, 0), cycle(rows, N, 100)
    settings = SequenceSettings(**{**vars(TINY), "epochs": 12, "learning_rate": 0.3})  # far too large: it wanders
    for seed in range(6):  # on some processors one of them happens to end at its best
        model = SequenceRecommender("sasrec", N, settings, seed).fit(train, valid)
        curve = [row["valid_ndcg@20"] for row in model.history]
        assert mean_ndcg(model, valid) == pytest.approx(max(curve))
        if max(curve) != curve[-1]:
            return
    pytest.fail("every run ended at its best, so that nothing was shown")


def test_windows_hold_every_target_once(rows):
    train = rows((1, list(range(6)), 6, 9), (1, [0, 1], 2, 3))
    histories, labels = training_windows(train, 3, N)
    assert histories.tolist() == [[3, 4, 5], [0, 1, 2]]
    assert labels.tolist() == [[IGNORED, IGNORED, 6], [IGNORED, 2, IGNORED]]


@pytest.mark.parametrize("encoder", ["sasrec", "esasrec"])
def test_attention_is_learnt_from_drawn_negatives_too(encoder, rows):
    train, valid = cycle(rows, N, 0), cycle(rows, N, 100)
    settings = SequenceSettings(**{**vars(TINY), "negatives": 3})
    model = SequenceRecommender(encoder, N, settings).fit(train, valid)
    assert mean_ndcg(model, valid) == pytest.approx(1)
    untrained = SequenceRecommender(encoder, N, SequenceSettings(**{**vars(settings), "epochs": 0}))
    assert mean_ndcg(untrained.fit(train, valid), valid) < 0.8


def test_sampled_softmax_tells_the_target_from_what_was_drawn():
    """With two items the draw is the other item or nothing, so both values can be said."""
    logits, targets = torch.tensor([[2.0, 0.5]] * 2000), torch.zeros(2000, dtype=torch.long)
    torch.manual_seed(0)
    other = torch.log1p(torch.exp(torch.tensor(-1.5)))  # against the other item; against itself nothing is lost
    assert sampled_softmax(logits, targets, 1) == pytest.approx(other.item() / 2, rel=0.1)
    torch.manual_seed(0)
    wrong = sampled_softmax(logits, targets + 1, 1)
    assert wrong > 5 * other / 2


def test_many_negatives_approach_the_whole_catalogue_s_order():
    torch.manual_seed(0)
    logits = torch.randn(50, 9, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(9, (50,))
    (sampled,) = torch.autograd.grad(sampled_softmax(logits, targets, 9000), logits)
    drawn_as_often = logits.detach() + torch.log(torch.tensor(1000.0))  # every other item stands there 1,000 times
    drawn_as_often[torch.arange(50), targets] = logits.detach()[torch.arange(50), targets]
    expected = (drawn_as_often.softmax(1) - torch.nn.functional.one_hot(targets, 9)) / 50
    torch.testing.assert_close(sampled, expected, atol=2e-4, rtol=0.2)


def test_no_user_owns_the_rows_that_stop_training(rows):
    valid = rows(*((user, [0], 1, day) for user in (1, 2) for day in range(20 if user == 1 else 3)))
    users = [row["user_id"] for row in stopping_rows(valid)]
    assert (users.count(1), users.count(2)) == (STOPPING_ROWS_PER_USER, 3)
    assert stopping_rows(valid) == stopping_rows(valid)
