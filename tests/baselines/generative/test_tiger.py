"""TIGER: probabilities of codes, windows, what it learns where popularity is chance, and the command."""

import json
from dataclasses import replace

import pytest
import torch

from rrec_lib.baselines import BASELINES
from rrec_lib.baselines.generative import tiger
from rrec_lib.baselines.generative.tiger import Tiger, TigerSettings
from rrec_lib.baselines.registry import Means, Splits
from rrec_lib.baselines.sequence import training_windows
from rrec_lib.baselines.simple import Popularity
from rrec_lib.cli.main import main
from rrec_lib.evaluation.evaluate import evaluate, mean_ndcg
from rrec_lib.evaluation.reports import load_reports

# Seven items; 1 and 4 share all but their last code, as do 2, 5 and 6.
CODES = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 1, 0], [2, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 2]])
N = len(CODES)
TINY = TigerSettings(length=6, hidden=16, layers=1, dropout=0.0, learning_rate=0.01, batch_size=4, epochs=30,
                     patience=30)  # fmt: skip


@pytest.fixture
def model():
    """With weights large enough that what it writes depends on the history."""
    return Tiger(CODES, replace(TINY, init_std=1.0))


@pytest.fixture
def cycle(rows):
    """Training and valid rows in which after item i comes i + 1."""

    def make(start):
        return rows(
            *((user, [(user + step) % N for step in range(length)], (user + length) % N, start + length)
              for user in range(N) for length in range(1, 6))
        )  # fmt: skip

    return make(0), make(100)


def by_hand(model, history):
    """(N,) log-probability of each item, step by step, over the codes that some item has there."""
    prompt, tokens = model.prompts([{"seen": history}])[0], model.tokens[:N].tolist()
    scores = []
    for item in tokens:
        total = 0.0
        for place, token in enumerate(item):
            allowed = sorted({other[place] for other in tokens if other[:place] == item[:place]})
            logits = model.model(torch.tensor([[*prompt, *item[:place]]])).logits[0, -1]
            total += (logits[token] - logits[allowed].logsumexp(0)).item()
        scores.append(total)
    return torch.tensor(scores)


@torch.no_grad()
def test_exact_scores_are_log_probabilities_over_the_catalogue(model, rows):
    examples = rows((1, [0, 3, 6], 1, 1), (2, [4], 2, 1), (3, [5, 4, 3, 2, 1, 0, 6, 6], 2, 1))
    scores = model.scores(examples)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(3))
    for example, found in zip(examples, scores, strict=True):
        torch.testing.assert_close(found, by_hand(model.eval(), example["seen"]), atol=1e-4, rtol=1e-4)
    assert (scores[:, 1] != scores[:, 4]).all()  # they share what the first two codes say, the last one splits it
    assert scores.std(0).min() > 0.01  # the history counts
    model.width = N
    torch.testing.assert_close(model.scores(examples), scores, atol=1e-5, rtol=1e-5)
    model.width = 2
    assert (model.scores(examples).argmax(1) == scores.argmax(1)).float().mean() > 0.5


def test_a_window_teaches_the_codes_of_its_targets_and_no_others(model, rows):
    """By hand: user 1's second item was no target."""
    train = rows((1, [0, 3], 6, 2), (2, [2, 5], 1, 3), (2, [2], 5, 2))
    histories, labels = training_windows(train, TINY.length, N)
    found = model.eval().loss(histories, labels)
    losses = []
    for history, target in (([0, 3], 6), ([2], 5), ([2, 5], 1)):
        prompt, codes = model.prompts([{"seen": history}])[0], model.tokens[target].tolist()
        logits = model.model(torch.tensor([[*prompt, *codes]])).logits[0, len(prompt) - 1 : -1]
        losses.append(-logits.log_softmax(-1)[torch.arange(3), codes])
    torch.testing.assert_close(found, torch.cat(losses).mean())


def test_a_cycle_is_learnt_where_popularity_is_chance(cycle):
    train, valid = cycle
    model = Tiger(CODES, TINY)
    model.fit_windows(*training_windows(train, TINY.length, N), valid)
    assert mean_ndcg(model, valid) == pytest.approx(1)
    assert mean_ndcg(Popularity(train, N), valid) < 0.8


def test_same_seed_same_scores_and_the_budget_ends_it(cycle):
    train, valid = cycle
    windows = training_windows(train, TINY.length, N)
    scores = []
    for seed in (0, 0, 1):
        model = Tiger(CODES, replace(TINY, dropout=0.3), seed)
        model.fit_windows(*windows, valid, seconds=0.0)
        assert len(model.history) == 1
        scores.append(model.scores(valid))
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


@pytest.mark.parametrize("codes", [torch.arange(3), torch.zeros(2, 3, dtype=torch.long)])
def test_codes_that_tell_no_items_apart_are_refused(codes):
    with pytest.raises(ValueError, match="no two items share"):
        Tiger(codes, TINY)


@pytest.fixture
def splits(smoke_profile, smoke_dataset, tmp_path):
    return Splits.of(smoke_dataset, Means(smoke_profile, tmp_path, hours=1e-6, beams=None))


def test_twins_of_a_real_catalogue_are_told_apart_and_its_scores_are_evaluated(splits):
    items = [splits.items[0], {**splits.items[0]}, *splits.items[2:]]
    model = tiger.fit(replace(splits, items=items), 0, size=8, hidden=16)
    same, other, last = model.tokens[0], model.tokens[1], model.tokens.shape[1] - 1
    assert same[:last].tolist() == other[:last].tolist()
    assert same[last] != other[last]
    report = evaluate(model, splits.valid[:6], "TIGER", samples=50)
    assert (report.metric("ndcg@10") <= report.metric("hit@10") + 1e-9).all()
    with pytest.raises(ValueError, match="needs a language model"):
        tiger.fit(replace(splits, means=None), 0)


def test_the_command_runs_it_where_it_is_named_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(vars(BASELINES["TIGER"]), "space", {"size": (8, 16), "hidden": (16,)})
    for name in set(BASELINES) - {"chance", "TIGER"}:
        monkeypatch.delitem(BASELINES, name)
    out = tmp_path / "out"
    command = ["baselines", "--profile", "smoke", "--hours", "1e-6", "--out", str(out)]
    assert main(command) == 0
    assert main([*command, "--only", "TIGER", "--trials", "1", "--beams", "0"]) == 0
    assert main([*command, "--only", "TIGER", "--trials", "2", "--beams", "0"]) == 0
    assert "TIGER" in capsys.readouterr().out
    assert [report.name for report in load_reports(out / "reports.json")] == ["chance", "TIGER"]
    assert len(json.loads((out / "tiger.json").read_text())["trials"]) == 2
