"""The items of a step: its targets and those drawn, and how likely each is to be among them."""

import torch

from rrec_lib.recpo.step_items import choose_items


def test_chosen_items_and_how_likely_they_are():
    share = torch.tensor([0.5, 0.0, 0.2, 0.2, 0.1, 0.0])
    targets = torch.tensor([4, 2, 4])
    ids, log_q = choose_items(targets, share, 3, seed=1, step=0)
    assert torch.equal(ids, ids.unique())
    assert set(ids.tolist()) >= {2, 4}
    assert 3 <= len(ids) <= 5
    torch.testing.assert_close(log_q.exp(), 1 - (1 - share[ids]) ** 3 * (1 - 3 / 6))
    assert torch.equal(ids, choose_items(targets, share, 3, seed=1, step=0)[0])
    assert any(not torch.equal(ids, choose_items(targets, share, 3, seed=other, step=0)[0]) for other in range(2, 6))
    alone, log_q = choose_items(targets, share, 0, seed=1, step=0)
    assert alone.tolist() == [2, 4]
    torch.testing.assert_close(log_q.exp(), 1 - (1 - share[alone]) ** 3)
    everything, log_q = choose_items(targets, share, 99, seed=1, step=0)
    assert everything.tolist() == list(range(6))  # never more than there are
    assert not log_q.any()  # all are always there, so there is nothing to correct
    drawn = choose_items(targets, share, 2, seed=1, step=0, whole_catalogue=True)[0]
    assert torch.equal(
        drawn, choose_items(targets[:1], share, 2, seed=1, step=0, whole_catalogue=True)[0]
    )  # whatever targets
    assert len(drawn) == 2


def test_the_correction_is_what_steps_are_seen_to_hold():
    share, generator = torch.tensor([0.4, 0.2, 0.2, 0.1, 0.1, 0.0]), torch.Generator().manual_seed(0)
    held, steps, log_q = torch.zeros(6), 3000, torch.zeros(6)
    for step in range(steps):
        targets = torch.multinomial(share, 8, replacement=True, generator=generator)
        ids, found = choose_items(targets, share, 2, 0, step)
        held[ids] += 1
        log_q[ids] = found
    torch.testing.assert_close(log_q.exp(), held / steps, atol=0.03, rtol=0)


def test_no_item_is_drawn_again_before_all_others_were():
    share, nothing = torch.ones(10) / 10, torch.zeros(0, dtype=torch.long)
    steps = [choose_items(nothing, share, 4, 0, step)[0].tolist() for step in range(10)]
    drawn = [item for step in steps[:2] for item in step]
    assert len(set(drawn)) == 8
    assert {*drawn, *steps[2]} == set(range(10))  # the third has the last two, and begins the second round
    assert sum(map(len, steps)) >= 38  # a step that ends a round may meet an item twice
