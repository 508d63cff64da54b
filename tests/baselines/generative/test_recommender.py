"""The adapter: (E, N) scores in the order of the examples, by beams and exactly, and that the evaluation takes them."""

import pytest
import torch

from rrec_lib.baselines.generative.beam import beam_search
from rrec_lib.baselines.generative.d3 import Mixed
from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.recommender import GenerativeRecommender, weights_within
from rrec_lib.baselines.generative.trie import build_trie, prefix_logprobs
from rrec_lib.baselines.generative.walk import Rule
from rrec_lib.evaluation.chunks import KeptScores
from rrec_lib.evaluation.evaluate import evaluate
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import encode_users, item_name


@pytest.fixture(scope="module")
def policy(smoke_profile):
    return load_policy(smoke_profile.model)


@pytest.fixture(scope="module")
def items(smoke_dataset):
    return list(smoke_dataset["items"])


@pytest.fixture(scope="module")
def examples(smoke_dataset):
    return list(smoke_dataset["test"])[:6]


@pytest.fixture(scope="module")
def make(policy, items):
    titles = [policy.tokenizer(item_name(item), add_special_tokens=False)["input_ids"] for item in items]
    trie = build_trie(titles, policy.tokenizer.eos_token_id)

    def recommender(**settings):
        return GenerativeRecommender(
            policy, trie, lambda examples: encode_users(policy.tokenizer, examples, items), **settings
        )

    return recommender


class Counting:
    """Scores items by how often the history has them, and notes what it was asked."""

    def __init__(self, n_items):
        self.n_items, self.asked = n_items, []

    def scores(self, examples):
        self.asked += examples
        return torch.stack([torch.tensor(e["history"]).bincount(minlength=self.n_items) for e in examples]).float()


@pytest.mark.parametrize("width", [None, 5])
def test_scores_come_in_the_order_of_the_examples(make, policy, examples, width):
    recommender = make(width=width, batch_tokens=300)
    scores = recommender.scores(examples)
    assert scores.shape == (len(examples), recommender.trie.n_items)
    for row, prompt in enumerate(recommender.prompts(examples)):
        with policy.inference():
            if width is None:
                alone = catalogue_scores(policy.model, recommender.trie, [prompt])
            else:
                alone = beam_search(policy.model, recommender.trie, [prompt], width).item_scores(recommender.trie)
        torch.testing.assert_close(scores[row], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [None, 5])
def test_the_evaluation_takes_them(make, examples, width):
    report = evaluate(make(width=width), examples, "writer", samples=10)
    assert len(report.n_greater) == len(examples)
    assert (report.n_equal >= 1).all()
    ndcg, hit = (report.metric(f"{name}@20") for name in ("ndcg", "hit"))
    assert (ndcg <= hit).all()


def test_a_guide_is_asked_for_the_same_rows_and_mixed_in(make, policy, items, examples):
    guide = Counting(len(items))
    recommender = make(rule=Rule(guidance=0.25), guide=guide)
    scores = recommender.scores(examples)
    assert sorted(id(e) for e in guide.asked) == sorted(id(e) for e in examples)
    extra = prefix_logprobs(recommender.trie, guide.scores(examples[:1]))
    with policy.inference():
        expected = catalogue_scores(
            policy.model, recommender.trie, recommender.prompts(examples)[:1], Rule(guidance=0.25), extra
        )
    torch.testing.assert_close(scores[0], expected[0].float(), atol=1e-4, rtol=1e-4)
    assert (scores - make().scores(examples)).abs().max() > 0.1


class Guide(torch.nn.Linear):
    def scores(self, examples):
        return torch.zeros(len(examples), 3)


def test_all_weights_within_a_recommender_are_told_apart(make, policy, examples, tmp_path):
    """Scores that are kept are of the very networks, wherever in a recommender they lie."""
    alone = make()
    mixed = [Mixed(KeptScores(alone, "", tmp_path, ""), alone.trie, Guide(2, 3), 0.5) for _ in range(2)]
    assert weights_within(alone) == [policy.fingerprint]
    (first, one), (second, other) = map(weights_within, mixed)
    assert first == second == policy.fingerprint
    assert one != other
    assert weights_within(Counting(3)) == []
