"""Hit@k and NDCG@k: by hand, at their limits, and against the reference values."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rrec_lib.evaluation.metrics import expected_reciprocal_rank, hit_rate_at_k, ndcg_at_k

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "metrics.json").read_text())
CASES = {case["name"]: case for case in REFERENCE["cases"]}
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
NEG_INF = float("-inf")


def tensors(case):
    return torch.tensor(case["logits"], dtype=torch.float64), torch.tensor(case["target"])


@pytest.mark.parametrize("name", CASES)
def test_metrics_match_the_reference_expectation_over_ties(name):
    case = CASES[name]
    scores, targets = tensors(case)
    for k in case["ks"]:
        hit = torch.tensor(case["exact"]["expected_hit"][str(k)], dtype=torch.float64)
        ndcg = torch.tensor(case["exact"]["expected_ndcg"][str(k)], dtype=torch.float64)
        torch.testing.assert_close(hit_rate_at_k(scores, targets, k), hit, **EXACT)
        torch.testing.assert_close(ndcg_at_k(scores, targets, k), ndcg, **EXACT)


@pytest.mark.parametrize("name", ["integer_ties", "all_equal"])
def test_breaking_ties_for_or_against_the_target_would_be_noticed(name):
    """Negative control: the optimistic and the pessimistic rank both differ from the expectation."""
    case = CASES[name]
    scores, targets = tensors(case)
    k = max(case["ks"])
    ours = ndcg_at_k(scores, targets, k)
    for wrong in ("best_case_ndcg", "worst_case_ndcg"):
        values = torch.tensor(case["exact"][wrong][str(k)], dtype=torch.float64)
        assert (ours - values).abs().max() > 1e-3


def test_grouped_scores_match_the_reference():
    case = REFERENCE["grouped"]
    scores, targets = tensors(case)
    expected = torch.tensor(case["exact_ndcg"], dtype=torch.float64)
    result = ndcg_at_k(scores, targets[:, None].expand(expected.shape), case["cutoff"])
    torch.testing.assert_close(result, expected, **EXACT)


@pytest.mark.parametrize(
    ("scores", "k", "hit", "ndcg"),
    [
        ([9.0, 1.0, 2.0, 3.0], 1, 1.0, 1.0),  # perfect
        ([9.0, 1.0, 2.0, 3.0], 4, 1.0, 1.0),
        ([2.0, 9.0, 1.0, 0.0], 1, 0.0, 0.0),  # second place, list of one
        ([2.0, 9.0, 1.0, 0.0], 2, 1.0, 1 / math.log2(3)),
        ([0.0, 9.0, 8.0, 7.0], 3, 0.0, 0.0),  # a miss by one place
        ([0.0, 9.0, 8.0, 7.0], 4, 1.0, 1 / math.log2(5)),
        ([5.0, 5.0, 1.0, 0.0], 1, 0.5, 0.5),  # two share the first place
        ([5.0, 5.0, 1.0, 0.0], 2, 1.0, (1 + 1 / math.log2(3)) / 2),
        ([5.0, 9.0, 5.0, 5.0], 2, 1 / 3, 1 / math.log2(3) / 3),  # three share places 2 to 4
        ([5.0, 9.0, 5.0, 5.0], 1, 0.0, 0.0),
        ([5.0, NEG_INF, NEG_INF, 9.0], 2, 1.0, 1 / math.log2(3)),  # masked items take no place
        ([NEG_INF, NEG_INF, 1.0, 0.0], 4, 0.0, 0.0),  # a masked target is a miss, not a tie
        ([NEG_INF, NEG_INF, 1.0, 0.0], 1000, 0.0, 0.0),
        ([3.0, 9.0, 8.0, 7.0], 1000, 1.0, 1 / math.log2(5)),  # k above N
    ],
)
def test_values_worked_by_hand(scores, k, hit, ndcg):
    scores, target = torch.tensor([scores], dtype=torch.float64), torch.tensor([0])
    assert hit_rate_at_k(scores, target, k).item() == pytest.approx(hit, rel=1e-12, abs=0)
    assert ndcg_at_k(scores, target, k).item() == pytest.approx(ndcg, rel=1e-12, abs=0)


def test_a_perfect_rank_is_exactly_one_in_every_type():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        scores = torch.eye(4).to(dtype)
        assert torch.equal(
            ndcg_at_k(scores, torch.arange(4), 3), torch.ones(4, dtype=torch.promote_types(dtype, torch.float32))
        )
        assert torch.equal(
            hit_rate_at_k(scores, torch.arange(4), 3), torch.ones(4, dtype=torch.promote_types(dtype, torch.float32))
        )


def test_ndcg_never_exceeds_hit_rate_and_both_grow_with_k():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 7, (200, 25), generator=generator).double()  # many ties
    targets = torch.randint(0, 25, (200,), generator=generator)
    before = torch.zeros(200, dtype=torch.float64)
    for k in range(1, 30):
        hit, ndcg = hit_rate_at_k(scores, targets, k), ndcg_at_k(scores, targets, k)
        assert (ndcg <= hit + 1e-15).all()
        assert (hit <= 1).all()
        assert (hit >= before - 1e-15).all()
        before = hit
    assert torch.equal(before, torch.ones_like(before))


def test_any_leading_shape_and_no_rows():
    assert hit_rate_at_k(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, dtype=torch.long), 2).shape == (2, 3, 4)
    assert ndcg_at_k(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), 2).shape == (0,)
    assert ndcg_at_k(torch.tensor([1.0, 2.0]), torch.tensor(0), 2).item() == pytest.approx(1 / math.log2(3))


@pytest.mark.parametrize("metric", [hit_rate_at_k, ndcg_at_k])
def test_bad_input_is_refused(metric):
    scores, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"^k must be at least 1, got 0$"):
        metric(scores, targets, 0)
    with pytest.raises(ValueError, match=r"^scores hold NaN"):
        metric(torch.full((2, 3), float("nan")), targets, 1)
    with pytest.raises(ValueError, match=r"^targets lie in 0..3, the catalogue has 0..2$"):
        metric(scores, torch.tensor([0, 3]), 1)
    with pytest.raises(ValueError, match=r"^targets lie in -1..1, the catalogue has 0..2$"):
        metric(scores, torch.tensor([-1, 1]), 1)
    with pytest.raises(ValueError, match=r"^scores \(2, 3\) need targets \(2,\)"):
        metric(scores, torch.tensor([0]), 1)


def test_reciprocal_rank_is_the_mean_over_the_places_of_a_tie():
    greater, equal = torch.tensor([0, 3, 1, 4, 6]), torch.tensor([1, 1, 3, 0, 1])
    expected = [1, 1 / 4, (1 / 2 + 1 / 3 + 1 / 4) / 3, 0, 1 / 7]
    found = expected_reciprocal_rank(greater, equal)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert found.dtype == torch.float64
    assert found[2] < 1 / 2  # the optimistic rank would give more
    assert expected_reciprocal_rank(torch.zeros(0).long(), torch.zeros(0).long()).shape == (0,)
