"""R_d, R_c and the fused reward: by hand on the toy world, and against the reference values."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rrec_lib.book.toy import toy_world
from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "reward_advantage.json").read_text())
CASES = {case["name"]: case for case in REFERENCE["cases"]}
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
NEG_INF = float("-inf")


def reference_scores(case, candidates):
    """(B, G, N) scores and (B,) targets of a reference case, masked as the named set of candidates says."""
    if "similarity" in case:
        scores = torch.tensor(case["similarity"], dtype=torch.float64)
    else:
        user, item = (torch.tensor(case[name], dtype=torch.float64) for name in ("user", "item"))
        scores = score_items(user, item, temperature=0.02)
    targets = torch.tensor(case["target"])
    scores = scores.view(len(targets), -1, scores.shape[-1])
    if candidates == "same_candidates_as_official":
        seen = [sorted(set(row)) if case["through_history_mask"] else [] for row in case["history_padded_with_0"]]
    else:
        seen = [sorted({0, *row}) for row in case["history_padded_with_0"]]
    kept = targets if candidates.endswith("target_kept") else None
    return mask_items(scores, seen, kept), targets


def every_candidate_set():
    return [(name, candidates) for name, case in CASES.items() for candidates in case["paper"]]


@pytest.mark.parametrize(("name", "candidates"), every_candidate_set())
def test_rewards_match_the_reference(name, candidates):
    case = CASES[name]
    scores, targets = reference_scores(case, candidates)
    expected = {key: torch.tensor(case["paper"][candidates][key], dtype=torch.float64) for key in ("R_d", "R_c", "R")}
    ranking = ranking_reward(scores, targets, k=case["ndcg_k"])
    similarity = similarity_reward(scores, targets)
    torch.testing.assert_close(ranking, expected["R_d"], **EXACT)
    torch.testing.assert_close(similarity, expected["R_c"], **EXACT)
    torch.testing.assert_close(fused_reward(ranking, similarity, case["beta"]), expected["R"], **EXACT)


def test_keeping_a_repeated_target_rankable_changes_its_reward():
    case = CASES["target_in_history"]
    kept, targets = reference_scores(case, "history_and_pad_excluded_target_kept")
    masked, _ = reference_scores(case, "history_and_pad_excluded")
    assert (ranking_reward(kept, targets)[0] > 0.2).all()
    assert torch.equal(ranking_reward(masked, targets)[0], torch.zeros(4, dtype=torch.float64))
    assert torch.equal(similarity_reward(masked, targets)[0], torch.zeros(4, dtype=torch.float64))


def test_toy_world_by_hand():
    toy = toy_world()
    scores = score_items(toy.user_states, toy.item_states, toy.temperature)
    scores = mask_items(scores, toy.histories, toy.targets)
    # user 1, first reasoning: cosines 1 (seen, masked), 4/5 for the target, 3/5, 0, -3/5, -1: the target is first
    fifths = [0.8, 0.6, 0.0, -0.6, -1.0]
    assert ranking_reward(scores, toy.targets)[0, 0].item() == 1.0
    by_hand = math.exp(0.8) / sum(math.exp(x) for x in fifths)
    assert similarity_reward(scores, toy.targets)[0, 0].item() == pytest.approx(by_hand, rel=1e-12)


def test_default_cutoff_is_1000():
    scores = torch.arange(2000, 0, -1).double().view(1, 1, -1)
    assert ranking_reward(scores, torch.tensor([999])).item() == pytest.approx(1 / math.log2(1001))
    assert ranking_reward(scores, torch.tensor([1000])).item() == 0


def test_similarity_reward_survives_large_scores_and_low_precision():
    scores = torch.tensor([[[1e4, 1e4, NEG_INF]]])
    assert similarity_reward(scores, torch.tensor([0])).item() == 0.5
    assert similarity_reward(torch.full((1, 1, 3), NEG_INF), torch.tensor([0])).item() == 0
    half = similarity_reward(torch.zeros(1, 1, 3, dtype=torch.bfloat16), torch.tensor([0]))
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(1 / 3, rel=1e-6)


def test_ranking_reward_ties_where_similarity_does_not():
    """Two reasonings with the same order of items and other scores: R_d is equal, R_c and R are not."""
    scores = torch.tensor([[[0.9, 0.5, 0.1], [0.6, 0.5, 0.4]]])
    ranking, similarity = ranking_reward(scores, torch.tensor([1])), similarity_reward(scores, torch.tensor([1]))
    assert ranking[0, 0] == ranking[0, 1]
    assert abs(similarity[0, 0] - similarity[0, 1]) > 1e-3
    assert fused_reward(ranking, similarity)[0, 0] != fused_reward(ranking, similarity)[0, 1]


def test_fused_reward_weights():
    ranking, similarity = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert fused_reward(ranking, similarity).tolist()[0] == pytest.approx([0.95, 0.05])
    assert torch.equal(fused_reward(ranking, similarity, 0.0), ranking)
    assert torch.equal(fused_reward(ranking, similarity, 1.0), similarity)


def test_bad_input_is_refused():
    ones = torch.ones(1, 2)
    for beta in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"^beta must lie in \[0, 1\], got {beta}$"):
            fused_reward(ones, ones, beta)
    with pytest.raises(ValueError, match=r"^ranking \(1, 2\) and similarity \(2, 1\) must agree$"):
        fused_reward(ones, ones.T)
    for reward in (ranking_reward, similarity_reward):
        with pytest.raises(ValueError, match=r"^need scores \(B, G, N\) and targets \(B,\), got \(2, 3\), \(2,\)$"):
            reward(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
        with pytest.raises(ValueError, match=r"^need scores \(B, G, N\)"):
            reward(torch.zeros(2, 2, 3), torch.zeros(2, 2, dtype=torch.long))
        with pytest.raises(ValueError, match=r"^scores hold NaN"):
            reward(torch.full((1, 1, 2), float("nan")), torch.tensor([0]))
        for target in (-1, 2):
            with pytest.raises(ValueError, match=rf"^targets lie in {target}..{target}, the catalogue has 0..1$"):
                reward(torch.zeros(1, 1, 2), torch.tensor([target]))
