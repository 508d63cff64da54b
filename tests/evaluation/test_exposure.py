"""What lists hold: coverage and popularity, ties in expectation."""

import itertools

import pytest
import torch

from rrec_lib.evaluation.exposure import Exposure

NEG_INF = float("-inf")


def exposure(scores, cutoffs=(1, 2)):
    result = Exposure(cutoffs, scores.shape[1])
    result.add(scores)
    return result


def test_lists_without_ties_are_counted():
    found = exposure(torch.tensor([[4.0, 3, 2, 1], [4.0, 2, 3, 1]]))
    assert found.listed.tolist() == [[2, 0, 0, 0], [2, 1, 1, 0]]
    assert found.coverage() == {"coverage@1": 0.25, "coverage@2": 0.75}


def test_ties_share_the_last_places():
    """Places 1 and 2: item 0 holds the first, items 1 to 3 the second with a third each."""
    found = exposure(torch.tensor([[9.0, 5, 5, 5]]))
    assert found.listed[0].tolist() == [1, 0, 0, 0]
    assert found.listed[1].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert found.coverage()["coverage@2"] == pytest.approx(0.5)  # two of four items stand in the one list


def test_coverage_is_the_average_over_all_tie_breaks():
    """Two users, all scores equal, lists of two of four: enumerate the pairs of lists."""
    pairs = list(itertools.combinations(range(4), 2))
    shares = [len({*a, *b}) / 4 for a in pairs for b in pairs]
    found = exposure(torch.zeros(2, 4), (2,)).coverage()["coverage@2"]
    assert found == pytest.approx(sum(shares) / len(shares))
    assert found > 0.5  # the catalogue's order would show the same two items to both


def test_masked_items_are_never_listed_and_short_lists_stay_short():
    scores = torch.tensor([[NEG_INF, 1.0, NEG_INF], [3.0, 2.0, 1.0]])
    found = exposure(scores, (2, 3, 50))
    assert found.listed.tolist() == [[1, 2, 0], [1, 2, 1], [1, 2, 1]]
    assert exposure(scores[:1], (2,)).coverage() == {"coverage@2": pytest.approx(1 / 3)}


def test_batches_add_up():
    scores = torch.randint(0, 4, (12, 9), generator=torch.Generator().manual_seed(0)).float()
    whole, parts = exposure(scores, (1, 5)), Exposure((1, 5), 9)
    for part in scores.split(5):
        parts.add(part)
    torch.testing.assert_close(whole.listed, parts.listed)
    assert whole.coverage() == pytest.approx(parts.coverage())


def test_popularity_is_relative_to_the_catalogue_and_to_the_targets():
    counts = torch.tensor([8, 2, 2, 0])
    found = exposure(torch.tensor([[4.0, 3, 2, 1], [4.0, 3, 2, 1]])).popularity(counts, torch.tensor([1, 1]))
    assert found["popularity@1"] == {"mean": 8, "over_catalogue": pytest.approx(8 / 3), "over_targets": 4}
    assert found["popularity@2"]["mean"] == 5
    chance = exposure(torch.zeros(2, 4)).popularity(counts, torch.tensor([1, 1]))
    assert chance["popularity@2"]["over_catalogue"] == pytest.approx(1)
    cold = exposure(torch.eye(4)[:1]).popularity(counts, torch.tensor([3]))
    assert cold["popularity@1"]["over_targets"] is None
    assert (
        exposure(torch.eye(4)).popularity(torch.zeros(4), torch.tensor([3]))["popularity@1"]["over_catalogue"] is None
    )
