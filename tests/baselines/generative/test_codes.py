"""Codes by residual k-means: they tell more with each level, twins are told apart, collapse and collisions by hand."""

from itertools import pairwise
from math import exp, log

import pytest
import torch

from rrec_lib.baselines.generative.codes import code_use, kmeans, residual_codes, residual_kmeans, tell_apart


@pytest.fixture(scope="module")
def embeddings():
    """(60, 8): a dozen heaps around one far point; item 7 has the text of item 3, item 50 too."""
    generator = torch.Generator().manual_seed(0)
    heaps = 3 * torch.randn(12, 8, generator=generator) + 100
    points = heaps.repeat(5, 1) + torch.randn(60, 8, generator=generator)
    points[7] = points[50] = points[3]
    return points


def test_each_level_tells_more_of_the_embeddings(embeddings):
    book = residual_kmeans(embeddings, levels=4, size=6)
    errors = [(book.reconstruct(levels) - embeddings).square().sum(1).mean() for levels in range(5)]
    assert all(later < 0.8 * earlier for earlier, later in pairwise(errors))
    assert book.codes.shape == (60, 4)
    assert book.codes.min() == 0
    assert book.codes.max() == 5


def test_equal_texts_have_equal_codes_but_the_last_and_no_two_items_are_alike(embeddings):
    codes = residual_codes(embeddings, size=4)
    assert codes.dtype == torch.int64
    assert codes[7, :3].tolist() == codes[50, :3].tolist() == codes[3, :3].tolist()
    assert codes[3, 3] < codes[7, 3] < codes[50, 3]
    assert len(codes.unique(dim=0)) == 60


def test_the_seed_decides(embeddings):
    first = residual_codes(embeddings, size=8, seed=1)
    assert torch.equal(residual_codes(embeddings, size=8, seed=1), first)
    assert not torch.equal(residual_codes(embeddings, size=8, seed=2), first)
    assert torch.equal(residual_codes(embeddings.double() + 0, size=8, seed=1), first)


def test_twins_are_counted_in_the_order_of_the_catalogue():
    codes = torch.tensor([[1, 0], [0, 0], [1, 0], [1, 1], [1, 0], [0, 0]])
    assert tell_apart(codes)[:, 2].tolist() == [0, 0, 1, 0, 2, 1]
    assert torch.equal(tell_apart(codes)[:, :2], codes)


def test_collapse_and_collisions_by_hand():
    use = code_use(torch.tensor([[0, 2], [0, 2], [0, 2], [1, 2]]), size=4)
    assert use.used == [0.5, 0.25]
    assert use.perplexity == pytest.approx([exp(-(0.75 * log(0.75) + 0.25 * log(0.25))), 1.0])
    assert use.collisions == 0.75
    assert use.most_alike == 3
    even = code_use(torch.arange(4)[:, None], size=4)
    assert (even.used, even.collisions, even.most_alike) == ([1.0], 0.0, 1)
    assert even.perplexity == pytest.approx([4.0])


def test_fewer_items_than_codes_are_told_apart_by_the_first_level():
    points = torch.tensor([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0], [-3.0, 2.0]])
    book = residual_kmeans(points, size=50)
    assert len(book.codes[:, 0].unique()) == 3
    assert book.codes[:, 1:].unique().tolist() == [0]
    torch.testing.assert_close(book.reconstruct(3), points)


def test_no_cluster_stays_empty_where_there_are_points_for_it():
    points = torch.cat([torch.zeros(50, 1), torch.arange(10.0)[:, None] * 10 + 100])
    for seed in range(20):
        centres, labels = kmeans(points, 6, torch.Generator().manual_seed(seed))
        assert labels.bincount(minlength=6).min() > 0
        torch.testing.assert_close(centres, torch.stack([points[labels == code].mean(0) for code in range(6)]))


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(0, 2), torch.tensor([[0.0], [torch.nan]])])
def test_what_are_no_embeddings_is_refused(wrong):
    with pytest.raises(ValueError, match="need finite embeddings"):
        residual_codes(wrong)


@pytest.mark.parametrize("sizes", [{"levels": 0}, {"size": 0}])
def test_no_level_or_no_code_is_refused(sizes):
    with pytest.raises(ValueError, match="at least one level and one code"):
        residual_codes(torch.zeros(3, 2), **sizes)
