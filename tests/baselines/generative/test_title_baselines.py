"""Baselines that write on the smoke profile: shapes, ties; what each is by hand; and the command."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from rrec_lib.baselines import BASELINES, tuning
from rrec_lib.baselines.generative import bigrec, d3, langptune, recommender, sprec, title_runs
from rrec_lib.baselines.generative.bigrec import BigRec
from rrec_lib.baselines.generative.d3 import Mixed, d3_rule
from rrec_lib.baselines.generative.sprec import rejected, written_titles
from rrec_lib.baselines.generative.title_runs import title_recommender, valid_rows
from rrec_lib.baselines.generative.titles import Written, title_ids, title_prompts
from rrec_lib.baselines.registry import Means, Splits
from rrec_lib.baselines.tuning import tune
from rrec_lib.cli.main import main
from rrec_lib.core.profiles import override
from rrec_lib.core.results import write_json
from rrec_lib.evaluation.evaluate import evaluate
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.model.prompts import item_name

LANGUAGE = [name for name, one in BASELINES.items() if one.trains_language_model]
BLINK = 2e-5  # hours: a step or two


@pytest.fixture
def splits(smoke_profile, smoke_dataset, tmp_path):
    """Item 1 is item 0 once more."""
    splits = Splits.of(smoke_dataset, Means(smoke_profile, tmp_path, BLINK, every=1, beams=None))
    return replace(splits, items=[splits.items[0], splits.items[0], *splits.items[2:]])


@pytest.mark.parametrize("name", LANGUAGE)
def test_every_language_model_scores_the_whole_catalogue_and_twins_tie(name, splits, monkeypatch):
    monkeypatch.setattr(tuning, "OTHERS_TRIALS", 1)
    monkeypatch.setattr(langptune, "hours_left", lambda hours, *_: hours)  # a blink is not enough to write in
    monkeypatch.setattr(title_runs, "ROUND_ROWS", 8)
    monkeypatch.setattr(title_runs, "VALID_ROWS", 8)
    monkeypatch.setattr(
        sprec, "write", lambda policy, prompts, *_, **__: [Written("Alien (1979)", True)] * len(prompts)
    )
    parameters = {key: values[-1] for key, values in BASELINES[name].space.items()}
    model = BASELINES[name].fit(splits, 0, **{**parameters, **({"rounds": 1} if "rounds" in parameters else {})})
    scores = model.scores(splits.valid[:3])
    assert scores.shape == (3, splits.n_items)
    assert scores.isfinite().all()
    if name != "D3":  # a sequence model knows them apart, but the trie doesn't
        assert len(scores[0].unique()) > splits.n_items // 2
    assert torch.equal(scores[:, 0], scores[:, 1])
    report = evaluate(model, splits.valid[:6], name, samples=50)
    assert (report.metric("ndcg@10") <= report.metric("hit@10") + 1e-9).all()


def test_a_sequence_model_is_taken_as_its_recorded_search_left_it(splits, monkeypatch):
    monkeypatch.setattr(tuning, "OTHERS_TRIALS", 1)
    fitted = title_runs.sequence_model(splits, 0)
    path = splits.means.folder / "sasrec.json"
    found = json.loads(path.read_text())
    found["trials"][0]["cpu_seconds"] = 60 * tuning.OTHERS_MINUTES
    write_json(path, found)
    monkeypatch.setattr(tuning, "OTHERS_TRIALS", 20)
    again = title_runs.sequence_model(splits, 0)
    assert json.loads(path.read_text()) == found
    assert torch.equal(again.scores(splits.valid[:3]), fitted.scores(splits.valid[:3]))


def test_bigrec_recommends_what_it_has_written(splits, monkeypatch):
    model = BigRec(load_policy(splits.means.profile.model), splits.items)
    titles = [item_name(splits.items[row]) for row in (0, 5, 7)]
    written = [Written(titles[0], True), Written(titles[1], True), Written(titles[2], False)]
    monkeypatch.setattr(bigrec, "write", lambda *args: written)
    scores = model.scores(splits.valid[:3])
    assert scores.max(1).values.tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert [row.tolist() for row in (scores == scores.max(1, keepdim=True).values).unbind()] == [
        [item_name(item) == title for item in splits.items] for title in titles
    ]
    assert (scores <= 0).all()


@pytest.fixture
def policy(splits):
    """A policy whose LoRA is not the identity."""
    policy = load_policy(splits.means.profile.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return policy


def test_d3_adds_what_the_model_says_of_every_token_but_the_forced(splits, policy):
    """Guidance off: brute force, title by title."""
    end, rows = policy.tokenizer.eos_token_id, splits.valid[:3]
    sequences = [(*ids, end) for ids in title_ids(policy.tokenizer, splits.items)]
    expected, whole = torch.zeros(3, splits.n_items), torch.zeros(3, splits.n_items)
    for row, prompt in enumerate(title_prompts(policy.tokenizer, rows, splits.items)):
        for item, ids in enumerate(sequences):
            with policy.inference():
                logits = policy.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            steps = logits.float().log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
            free = [len({other[depth] for other in sequences if other[:depth] == ids[:depth]}) > 1
                    for depth in range(len(ids))]  # fmt: skip
            expected[row, item], whole[row, item] = (steps * torch.tensor(free)).sum(), steps.sum()
    recommender = title_recommender(policy, splits, d3_rule())
    torch.testing.assert_close(recommender.scores(rows), expected, atol=1e-3, rtol=1e-4)
    assert (expected >= whole).all()
    assert (expected > whole + 0.1).any()  # there are forced tokens
    unskipped = replace(recommender, rule=replace(d3_rule(), skip_forced=False))
    torch.testing.assert_close(unskipped.scores(rows), whole, atol=1e-3, rtol=1e-4)
    wide = replace(recommender, width=splits.n_items)
    torch.testing.assert_close(wide.scores(rows), expected, atol=1e-3, rtol=1e-4)


def test_without_the_language_model_d3_is_the_sequence_model(splits, policy):
    class Guide:
        def scores(self, examples):
            seeds = [int(example["target_timestamp"]) for example in examples]
            return torch.stack([torch.randn(splits.n_items, generator=torch.Generator().manual_seed(s)) for s in seeds])

    rows = splits.valid[:4]
    found = title_recommender(policy, splits, d3_rule(0.0), Guide()).scores(rows)
    share = Guide().scores(rows).softmax(1)
    share[:, 0] = share[:, 1] = share[:, 0] + share[:, 1]  # of one title, two items
    torch.testing.assert_close(found, share.log(), atol=1e-4, rtol=1e-4)
    mixed = title_recommender(policy, splits, d3_rule(0.5), Guide()).scores(rows)
    alone = title_recommender(policy, splits, d3_rule())
    own = alone.scores(rows)
    torch.testing.assert_close(mixed, 0.5 * own + 0.5 * share.log(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(Mixed(alone, alone.trie, Guide(), 0.5).scores(rows), mixed, atol=1e-3, rtol=1e-4)


def test_exactly_d3_asks_the_language_model_once_for_all_guidances(splits, monkeypatch):
    monkeypatch.setattr(tuning, "OTHERS_TRIALS", 1)
    rows, found = splits.valid[:4], [d3.fit(splits, 0, guidance).scores(splits.valid[:4]) for guidance in (1.0, 0.5)]
    monkeypatch.setattr(recommender, "catalogue_scores", None)
    assert torch.equal(d3.fit(splits, 0, 1.0).scores(rows), found[0])
    assert torch.equal(d3.fit(splits, 0, 0.5).scores(rows), found[1])
    further = d3.fit(splits, 0, 0.75).scores(rows)
    torch.testing.assert_close(further, (found[0] + found[1]) / 2)
    with pytest.raises(TypeError):
        d3.fit(splits, 0, 1.0).scores(splits.valid[4:6])


def test_what_the_model_knew_or_did_not_end_teaches_nothing(splits, policy, monkeypatch):
    calls, end = [], policy.tokenizer.eos_token
    rows = splits.train[:4]
    true = [item_name(splits.items[row["target"]]) for row in rows]
    written = [Written(true[0], True), Written("Nothing (1900)", True), Written("and on and", False), Written("", True)]
    monkeypatch.setattr(sprec, "write", lambda *args, **kwargs: calls.append(1) or written)
    texts, seconds = written_titles(policy, splits, rows)
    answers = rejected(policy, splits, rows, texts)
    assert answers.examples == [rows[1], rows[3]]
    assert answers.titles == [[f"{true[1]}{end}", f"Nothing (1900){end}"], [f"{true[3]}{end}", end]]
    assert written_titles(policy, splits, rows) == (texts, seconds)
    assert len(calls) == 1  # read back


def test_bigrec_and_d3_share_a_run_and_others_have_their_own(splits):
    first = weights_hash(bigrec.fit(splits, 0).policy.model, only_trainable=True)
    folders = {path.name for path in (splits.means.folder / "runs").iterdir()}  # and how the start was judged
    kept: Any = d3.fit(splits, 0)
    assert weights_hash(kept.recommender.policy.model, only_trainable=True) == first
    assert {path.name for path in (splits.means.folder / "runs").iterdir()} == folders
    profile = override(splits.means.profile, "warmup.learning_rate", 1e-2)
    bigrec.fit(replace(splits, means=replace(splits.means, profile=profile)), 0)
    assert sum(path.is_dir() for path in (splits.means.folder / "runs").iterdir()) == 2


def test_a_search_compares_on_a_part_of_valid(splits, monkeypatch):
    monkeypatch.setattr("rrec_lib.baselines.tuning.LANGUAGE_ROWS", 5)
    tuned = tune("BigRec", splits, 1, 0, splits.means.folder / "bigrec.json")
    assert 0 <= tuned.valid <= 1
    assert json.loads((splits.means.folder / "bigrec.json").read_text())["valid_rows"] == 5
    assert len(valid_rows(splits)) == len({(row["user_id"], row["target"]) for row in valid_rows(splits)})


def test_without_means_a_sentence_says_what_is_missing(smoke_dataset):
    with pytest.raises(ValueError, match="needs a language model"):
        BASELINES["BigRec"].fit(Splits.of(smoke_dataset), 0)


def test_the_command_trains_one_that_is_named_and_no_other(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = ["baselines", "--profile", "smoke", "--hours", str(BLINK), "--every", "1", "--out", str(out)]
    for name in set(BASELINES) - {"chance", "BigRec"}:
        monkeypatch.delitem(BASELINES, name)
    assert main(command) == 0
    assert [report.name for report in load_reports(out / "reports.json")] == ["chance"]
    assert main([*command, "--only", "BigRec", "--beams", "3"]) == 0
    assert "BigRec" in capsys.readouterr().out
    assert [report.name for report in load_reports(out / "reports.json")] == ["chance", "BigRec"]
    before = load_reports(out / "reports.json")[1]
    (*kept, lost) = sorted((out / "runs" / "scores").glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    times = {path: path.stat().st_mtime_ns for path in kept}
    lost.unlink()  # as if it had been stopped before
    assert main([*command, "--only", "BigRec", "--beams", "3"]) == 0
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    assert load_reports(out / "reports.json")[1].n_greater.tolist() == before.n_greater.tolist()
    for option in (["--hours", "0"], ["--every", "0"], ["--beams", "-1"]):
        assert main([*command, *option]) == 2
        assert "--hours takes a number above 0" in capsys.readouterr().err


class Dice:
    """Never says the same twice."""

    policy = None

    def __init__(self, n_items):
        self.n_items = n_items

    def scores(self, examples):
        return torch.rand(len(examples), self.n_items)


def test_scores_that_cannot_be_repeated_are_no_leak(tmp_path, monkeypatch, smoke_dataset):
    own = replace(BASELINES["BigRec"], fit=lambda splits, seed: Dice(splits.n_items))
    monkeypatch.setitem(BASELINES, "BigRec", own)
    out = tmp_path / "out"
    assert main(["baselines", "--profile", "smoke", "--only", "BigRec", "--out", str(out)]) == 0
    (blind,) = [found for found in load_reports(out / "reports.json")[0].findings if found.check == "blind"]
    assert blind.passed is None
