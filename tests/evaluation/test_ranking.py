"""Scores, masks, ranks, lists and intervals."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rrec_lib.evaluation import ranking
from rrec_lib.evaluation.ranking import (
    bootstrap_mean_interval,
    mask_items,
    paired_bootstrap,
    repeated_targets,
    score_items,
    seen_items,
    target_rank,
    top_k,
    unit_rows,
)

SIMILARITY = json.loads((Path(__file__).parents[1] / "reference" / "similarity.json").read_text())
NEG_INF = float("-inf")


@pytest.mark.parametrize("case", SIMILARITY["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("config", ["default_normalised_dot_t0.02", "normalised_dot_t1"])
def test_scores_match_the_reference_similarity(case, config):
    expected = case["by_config"][config]
    user, item = (torch.tensor(case[name], dtype=torch.float64) for name in ("user", "item"))
    scores = score_items(user, item, expected["temperature"])
    torch.testing.assert_close(
        scores, torch.tensor(expected["paper_similarity"], dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


def test_scores_equal_a_brute_force_cosine():
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(2, 3, 5, generator=generator), torch.randn(4, 5, generator=generator)
    scores = score_items(users, items, 0.5)
    for b in range(2):
        for g in range(3):
            for n in range(4):
                u, v = users[b, g], items[n]
                assert scores[b, g, n].item() == pytest.approx((u @ v / (u.norm() * v.norm()) / 0.5).item(), rel=1e-5)
    torch.testing.assert_close(score_items(users * 7, items * 0.1, 0.5), scores)  # lengths do not matter
    torch.testing.assert_close(score_items(users, items), scores * 0.5)  # the temperature is 1 by default


def test_scores_stay_in_float32_inside_autocast_and_for_half_states():
    """Negative control beside it: the same product in bfloat16 is off by far more than float32 rounding."""
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(8, 64, generator=generator), torch.randn(50, 64, generator=generator)
    plain = score_items(users, items, 0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = score_items(users, items, 0.02)
        naive = unit_rows(users) @ unit_rows(items).T / 0.02
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)
    assert (naive.float() - plain).abs().max() > 1e-3
    assert score_items(users.bfloat16(), items.bfloat16()).dtype == torch.float32
    assert score_items(users, items.double()).dtype == torch.float64


def test_a_zero_state_scores_zero():
    assert torch.equal(score_items(torch.zeros(1, 2), torch.eye(2)), torch.zeros(1, 2))


def test_score_items_refuses_bad_input():
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=rf"^temperature must be positive, got {temperature}$"):
            score_items(torch.ones(1, 2), torch.ones(1, 2), temperature)
    with pytest.raises(ValueError, match=r"^user states are 2 wide, item rows 3$"):
        score_items(torch.ones(1, 2), torch.ones(1, 3))


def test_mask_removes_seen_items_and_keeps_the_target():
    scores = torch.zeros(3, 4)
    masked = mask_items(scores, [[0, 1], [], [3, 3]], torch.tensor([1, 2, 0]))
    expected = torch.zeros(3, 4)
    expected[0, 0] = expected[2, 3] = NEG_INF
    assert torch.equal(masked, expected)
    assert torch.equal(scores, torch.zeros(3, 4))  # the input is left alone
    assert mask_items(scores, [[0, 1], [], [3]])[0].tolist() == [NEG_INF, NEG_INF, 0.0, 0.0]


def test_mask_covers_every_reasoning_of_a_user():
    masked = mask_items(torch.zeros(2, 3, 4), [[0], [2]], torch.tensor([0, 1]))
    assert (masked[0] == 0).all()
    assert torch.equal(masked[1], torch.tensor([[0.0, 0.0, NEG_INF, 0.0]]).expand(3, 4))


def test_seen_items_are_what_the_mask_removes():
    seen, targets = [[0, 1], [], [3, 3]], torch.tensor([1, 2, 0])
    assert torch.equal(seen_items(seen, targets, 4), mask_items(torch.zeros(3, 4), seen, targets).isneginf())
    with pytest.raises(ValueError, match=r"^seen lie in 0..3, the catalogue has 0..2$"):
        seen_items(seen, targets, 3)


def test_mask_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"^seen has 1 entries for 2 rows of scores$"):
        mask_items(torch.zeros(2, 3), [[0]], torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"^seen lie in 0..3, the catalogue has 0..2$"):
        mask_items(torch.zeros(1, 3), [[0, 3]], torch.tensor([0]))
    with pytest.raises(ValueError, match=r"^seen lie in -1..0, the catalogue has 0..2$"):
        mask_items(torch.zeros(1, 3), [[-1, 0]], torch.tensor([0]))


def test_repeated_targets_are_counted():
    repeats = repeated_targets([[4, 1], [], [2], [5]], torch.tensor([1, 0, 0, 5]))
    assert repeats.tolist() == [True, False, False, True]


def test_repeated_targets_and_masks_name_items_of_their_own_row_only():
    assert repeated_targets([[1, 1], [], [0]], torch.tensor([1, 1, 1])).tolist() == [True, False, False]
    masked = mask_items(torch.zeros(2, 3), [[1, 2], [1]], torch.tensor([1, 2]))
    assert masked.tolist() == [[0, 0, NEG_INF], [0, NEG_INF, 0]]


def test_nobody_has_seen_anything():
    assert torch.equal(mask_items(torch.ones(2, 3), [[], []]), torch.ones(2, 3))
    repeated = repeated_targets([[], []], torch.tensor([0, 1]))
    assert repeated.tolist() == [False, False]
    assert repeated.dtype == torch.bool


def test_items_are_counted_along_the_last_axis_of_grouped_scores():
    masked = mask_items(torch.zeros(1, 2, 5), [[4]])
    assert torch.isneginf(masked).nonzero().tolist() == [[0, 0, 4], [0, 1, 4]]
    with pytest.raises(ValueError, match=r"^seen lie in 2..2, the catalogue has 0..1$"):
        mask_items(torch.zeros(1, 5, 2), [[2]])


def test_a_mask_lets_gradients_of_what_it_leaves_through():
    scores = torch.ones(1, 3, requires_grad=True)
    masked = mask_items(scores, [[1]])
    masked[~torch.isneginf(masked)].sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [[1, 0, 1]]


def test_target_rank_by_hand():
    scores = torch.tensor([[3.0, 2.0, 2.0, 1.0], [NEG_INF, NEG_INF, 5.0, 0.0], [NEG_INF, 1.0, 2.0, 3.0]])
    greater, equal = target_rank(scores, torch.tensor([1, 3, 0]))
    assert greater.tolist() == [1, 1, 4]
    assert equal.tolist() == [2, 1, 0]


def test_trues_are_counted_along_the_last_axis_in_any_shape():
    flags = torch.tensor([[[True, False, True]], [[False, False, False]]])
    assert ranking.count_true(flags).tolist() == [[2], [0]]
    assert ranking.count_true(flags[0, 0]).item() == 2
    assert ranking.count_true(flags).dtype == torch.int64
    assert ranking.count_true(flags[:0]).shape == (0, 1)


def test_trues_are_counted_by_numpy_on_a_processor_alone(monkeypatch):
    monkeypatch.setattr(np, "count_nonzero", lambda flags, axis: [10 + axis])
    assert ranking.count_true(torch.ones(1, 2, dtype=torch.bool)).tolist() == [9]
    elsewhere: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"), sum=lambda axis: 20 + axis)
    assert ranking.count_true(elsewhere) == 19


def test_top_k_lists_the_best_and_keeps_catalogue_order_in_ties():
    best = top_k(torch.tensor([[1.0, 3.0, 3.0, NEG_INF, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]]), 3)
    assert best.items.tolist() == [[1, 2, 4], [0, 1, 2]]
    assert best.scores[0].tolist() == [3.0, 3.0, 2.0]
    assert top_k(torch.zeros(2, 4), 9).items.shape == (2, 4)
    assert top_k(torch.tensor([NEG_INF, 1.0]), 2).scores.tolist() == [1.0, NEG_INF]
    assert top_k(torch.tensor([0.0, 1.0]), 1).items.tolist() == [1]
    with pytest.raises(ValueError, match=r"^k must be at least 1, got 0$"):
        top_k(torch.zeros(2), 0)
    with pytest.raises(ValueError, match="NaN"):  # sorted, it would recommend the catalogue's order
        top_k(torch.full((2, 3), torch.nan), 1)


def _loop_bootstrap(values, users, samples, seed):
    """The definition, slowly: draw users, bring all their rows, take the mean."""
    rng = np.random.default_rng(seed)
    rows = [values[users == user] for user in np.unique(users)]
    return [np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))]).mean() for _ in range(samples)]


def test_bootstrap_agrees_with_the_definition():
    rng = np.random.default_rng(0)
    users = rng.integers(0, 30, 400)
    values = rng.random(400) + 0.05 * users  # users differ, rows of a user resemble each other
    ours = bootstrap_mean_interval(values, users, 4000, seed=1)
    slow = np.quantile(_loop_bootstrap(values, users, 4000, seed=2), [0.025, 0.975])
    assert ours.mean == pytest.approx(values.mean(), rel=1e-12)
    assert [ours.low, ours.high] == pytest.approx(slow, abs=0.02)
    assert (ours.users, ours.rows, ours.level) == (30, 400, 0.95)
    # negative control: rows resampled as if independent give an interval much too narrow
    naive = bootstrap_mean_interval(values, np.arange(400), 4000, seed=1)
    assert (naive.high - naive.low) < 0.6 * (ours.high - ours.low)


def test_bootstrap_two_users_by_hand():
    """Users A (rows 0, 0, 0) and B (row 1): draws AA, AB, BA, BB give means 0, 1/4, 1/4, 1."""
    interval = bootstrap_mean_interval([0, 0, 0, 1], ["a", "a", "a", "b"], 20_000, seed=0, level=0.4)
    assert interval.mean == 0.25
    assert (interval.low, interval.high) == (0.25, 0.25)  # the middle half of the draws
    wide = bootstrap_mean_interval([0, 0, 0, 1], ["a", "a", "a", "b"], 20_000, seed=0)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_bootstrap_is_seeded():
    values, users = np.random.default_rng(0).random(50), np.arange(50)
    first, again, other = (bootstrap_mean_interval(values, users, 500, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_constant_has_no_spread_and_tensors_are_accepted():
    interval = bootstrap_mean_interval(torch.full((6,), 0.5), torch.tensor([1, 1, 2, 2, 3, 9]), 100, seed=0)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_bootstrap_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(40), 5)
    covered = 0
    for trial in range(200):
        values = np.repeat(rng.normal(size=40), 5) + rng.normal(size=200)
        interval = bootstrap_mean_interval(values, users, 300, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_paired_bootstrap_is_that_of_the_differences():
    rng = np.random.default_rng(0)
    users, a = np.repeat(np.arange(20), 3), rng.random(60)
    b = a - 0.1 + 0.01 * rng.random(60)
    paired = paired_bootstrap(a, b, users, 500, seed=1)
    assert paired == bootstrap_mean_interval(a - b, users, 500, seed=1)
    assert 0.08 < paired.low < paired.high < 0.11
    wide = paired_bootstrap(a, b, users, 500, seed=1, level=0.99)
    assert wide.low < paired.low
    assert wide.high > paired.high
    assert wide.level == 0.99


def test_bootstrap_refuses_bad_input():
    with pytest.raises(ValueError, match=r"^values \(3,\) and users \(2,\) must be two lists of the same length$"):
        bootstrap_mean_interval([1, 2, 3], [1, 2], 10, seed=0)
    with pytest.raises(ValueError, match=r"must be two lists of the same length$"):
        bootstrap_mean_interval([[1, 2]], [[1, 2]], 10, seed=0)
    with pytest.raises(ValueError, match=r"^values hold NaN"):
        bootstrap_mean_interval([1, float("nan")], [1, 2], 10, seed=0)
    for users in ([], [4, 4]):
        with pytest.raises(ValueError, match=r"^an interval over users needs at least two of them, got [01]$"):
            bootstrap_mean_interval([0.5] * len(users), users, 10, seed=0)
    for samples, level in ((0, 0.95), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match=r"^need samples >= 1 and 0 < level < 1"):
            bootstrap_mean_interval([0, 1], [0, 1], samples, seed=0, level=level)
    with pytest.raises(ValueError, match=r"^a paired comparison needs the same examples, got \(2,\) and \(1,\)$"):
        paired_bootstrap([0, 1], [0], [0, 1], 10, seed=0)


def test_bootstrap_of_many_users_is_quick_and_small():
    """50,000 users, 200 resamples: a fiftieth of the work that must take less than 5 s on 2 cores."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 50_000, 60_000)
    start = time.perf_counter()
    bootstrap_mean_interval(rng.random(60_000), users, 200, seed=0)
    assert time.perf_counter() - start < 2  # generous: the machine may be busy


@pytest.mark.parametrize("types", [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_scores_take_the_wider_of_two_types(types):
    users, items = torch.ones(2, 3, dtype=types[0]), torch.ones(4, 3, dtype=types[1])
    assert score_items(users, items).dtype == torch.float64


def test_messages_name_the_widths_and_shapes_that_clash():
    with pytest.raises(ValueError, match="user states are 5 wide, item rows 4"):
        score_items(torch.ones(2, 3, 5), torch.ones(6, 4))
    with pytest.raises(ValueError, match=r"need targets \(2, 3\), got"):
        target_rank(torch.ones(2, 3, 5), torch.zeros(2, dtype=torch.long))


def test_repeats_are_found_wherever_the_larger_number_stands():
    assert repeated_targets([[1], [2, 9]], torch.tensor([7, 9])).tolist() == [False, True]
    assert repeated_targets([[12], [2]], torch.tensor([7, 2])).tolist() == [False, True]
    assert repeated_targets([[1], [2]], torch.tensor([7, 2])).tolist() == [False, True]
    assert repeated_targets([], torch.zeros(0, dtype=torch.long)).tolist() == []


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_resampled_means_are_those_of_the_drawn_users_rows(samples):
    values, owner = np.array([0.0, 1.0, 0.5, 0.25, 1.0]), np.array([0, 0, 1, 2, 2])
    rng, rows = np.random.default_rng(5), [values[owner == user] for user in range(3)]
    drawn = rng.integers(0, 3, (samples, 3), dtype=np.int32)
    means = [np.concatenate([rows[user] for user in users]).mean() for users in drawn]
    interval = bootstrap_mean_interval(values, owner, samples, seed=5)
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(means, [0.025, 0.975]), rtol=1e-12)
    assert (interval.low == interval.high) == (samples == 1)


def test_means_drawn_in_chunks_fill_every_place():
    sums, counts = np.arange(400_000.0), np.ones(400_000)
    totals = ranking.resampled_totals(np.stack([sums, counts], 1), 5, np.random.default_rng(0))  # two at a time
    means = totals[:, 0] / totals[:, 1]
    assert ((means > 190_000) & (means < 210_000)).all()
    children = zip(np.random.default_rng(0).spawn(3), (2, 2, 1), strict=True)  # a generator for each chunk
    by_hand = [draw.mean() for rng, n in children for draw in rng.integers(0, 400_000, (n, 400_000), dtype=np.int32)]
    np.testing.assert_allclose(means, by_hand, rtol=1e-12)


def test_totals_do_not_depend_on_the_number_of_threads():
    columns, before = np.random.default_rng(0).random((150_000, 2)), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ranking.resampled_totals(columns, 30, np.random.default_rng(1))
        torch.set_num_threads(3)
        three = ranking.resampled_totals(columns, 30, np.random.default_rng(1))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(one, three)
    assert not np.array_equal(one, ranking.resampled_totals(columns, 30, np.random.default_rng(2)))


def test_intervals_of_several_metrics_are_those_of_each():
    rng = np.random.default_rng(0)
    users, values = rng.integers(0, 20, 90), rng.random((90, 3))
    together = ranking.bootstrap_mean_intervals(values, users, 300, seed=4, level=0.9)
    alone = [bootstrap_mean_interval(values[:, column], users, 300, seed=4, level=0.9) for column in range(3)]
    for several, single in zip(together, alone, strict=True):
        assert (several.low, several.high) == pytest.approx((single.low, single.high), rel=1e-12)
        assert several.mean == pytest.approx(single.mean, rel=1e-12)
        assert (several.level, several.users, several.rows) == (0.9, 19, 90)
    assert len({interval.mean for interval in together}) == 3
    assert ranking.bootstrap_mean_intervals(values, users, 10, seed=0)[0].level == 0.95


def test_user_totals_by_hand():
    sums, counts = ranking.user_totals([[1, 10], [2, 20], [4, 40]], ["b", "a", "b"])
    assert sums.tolist() == [[2, 20], [5, 50]]
    assert counts.tolist() == [1, 2]
    assert counts.dtype == np.float64
    for values in ([1, 2, 3], [[1], [2]]):
        with pytest.raises(ValueError, match=r"need one row for each of the users \(3,\)$"):
            ranking.user_totals(values, ["a", "b", "b"])


def test_paired_differences_of_hits_given_as_booleans():
    a, b = [True, False, True], [False, False, True]
    assert paired_bootstrap(a, b, ["x", "y", "z"], 10, 0).mean == pytest.approx(1 / 3)
