"""Reports as files: what comes back is what went in, and nothing of the data is in them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import DatasetDict

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.compare import compare
from rrec_lib.evaluation.evaluate import evaluate_scores
from rrec_lib.evaluation.reports import check_same_examples, data_hash, load_reports, save_reports

COUNTS = torch.tensor([3] * 5 + [0] * 35)


def examples(count=30):
    return [
        {
            "user_id": 987_650 + i // 2, "history": [i % 7], "history_timestamps": [1000 + i], "seen": [i % 7],
            "target": 7 + i, "target_timestamp": 3000 + i, "title": "secret",
        }
        for i in range(count)
    ]  # fmt: skip


def report(name, seed=0, count=30):
    scores = torch.randint(0, 9, (count, 40), generator=torch.Generator().manual_seed(seed)).float()
    return evaluate_scores(scores, examples(count), name, 100, train_counts=COUNTS)


def test_a_saved_report_comes_back(tmp_path):
    before = report("one")
    save_reports(tmp_path / "new" / "one.json", [before], "smoke", "data", seed=7)
    (after,) = load_reports(tmp_path / "new" / "one.json")
    for metric, values in before.values.items():
        assert np.array_equal(values, after.values[metric])
    assert after.figures() == json.loads(json.dumps(before.figures()))
    assert (after.examples, after.n_items, after.findings) == (before.examples, 40, before.findings)
    assert np.array_equal(before.users, after.users)
    assert {"command", "commit", "profile", "seed", "device", "data", "time"} <= set(after.run)
    assert (after.run["seed"], after.run["profile"], after.run["data"]) == (7, "smoke", "data")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["one.json"]


def test_pairs_from_files_equal_pairs_in_memory(tmp_path):
    one, two = report("one"), report("two", seed=1)
    save_reports(tmp_path / "both.json", [one, two], "smoke", "data")
    loaded = load_reports(tmp_path / "both.json")
    assert [r.name for r in loaded] == ["one", "two"]
    assert compare(loaded[:1], loaded[1:], "mrr", 200) == compare([one], [two], "mrr", 200)


def test_a_file_holds_no_row_and_no_text_of_the_data(tmp_path):
    save_reports(tmp_path / "one.json", [report("one")], "smoke", "data")
    text = (tmp_path / "one.json").read_text()
    assert "98765" not in text  # users are bare indices
    assert "secret" not in text
    assert json.loads(text)["users"].split()[:4] == ["0", "0", "1", "1"]
    assert len(text.splitlines()) < 400  # ranks stand on one line each


def test_figures_hold_slices_lists_and_what_was_masked():
    figures = report("one").figures()
    assert (figures["rows"], figures["users"], figures["items"], figures["repeats"]) == (30, 15, 40, 0)
    assert "taken out" in figures["masking"]
    assert set(figures["metrics"]) == {f"{m}@{k}" for m in ("hit", "ndcg") for k in (1, 5, 10, 20, 50)} | {"mrr"}
    assert set(figures["slices"]) == {"history length", "target popularity", "cold items", "time"}
    for bands in figures["slices"].values():
        assert sum(band["rows"] for band in bands.values()) == 30
    assert {f"{what}@{k}" for what in ("coverage", "popularity") for k in (1, 5, 10, 20, 50)} == set(figures["lists"])
    quarters = [band["metrics"]["mrr"] for band in figures["slices"]["time"].values()]
    assert all(quarter["low"] < quarter["mean"] < quarter["high"] for quarter in quarters)
    assert len({quarter["mean"] for quarter in quarters}) == 4
    lonely = report("two rows", count=2).figures()["metrics"]["mrr"]  # both of one user
    assert lonely["low"] is lonely["high"] is None


def test_a_rank_that_cannot_be_is_refused():
    """NDCG@k above Hit@k would need broken metric code; here the code is broken on purpose."""
    sound = report("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rrec_lib.evaluation.reports.expected_hit", lambda greater, equal, k: torch.zeros(len(greater)))
        with pytest.raises(AssertionError, match="exceeds Hit@"):
            _ = report("two").values
    assert sound.values["ndcg@5"].max() > 0


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "one.json"
    with pytest.raises(FileNotFoundError, match=r"`rrec evaluate --out .*one\.json` writes one"):
        load_reports(path)
    save_reports(path, [report("one")], "smoke", "data")
    sound = json.loads(path.read_text())
    damages: tuple[dict[str, object], ...] = ({"format": 2}, {"users": "0 1"}, {"users": "0 x"}, {"figures": {}})
    for damage in damages:
        path.write_text(json.dumps({**sound, **damage}))
        with pytest.raises(ValueError, match="can't be read as a report"):
            load_reports(path)
    for text in ("[]", "{}", "not json"):
        path.write_text(text)
        with pytest.raises(ValueError, match="can't be read as a report"):
            load_reports(path)


def test_the_hash_of_the_data_tells_every_split_apart(smoke_dataset):
    cut = [DatasetDict({**smoke_dataset, name: smoke_dataset[name].select(range(5))}) for name in smoke_dataset]
    assert len({data_hash(some) for some in [smoke_dataset, *cut]}) == 1 + len(smoke_dataset)
    assert data_hash(smoke_dataset) == data_hash(DatasetDict(dict(reversed(smoke_dataset.items()))))


def test_what_a_window_shows_of_the_same_events_keeps_them_comparable(tmp_path):
    """A baseline that takes the whole log, and a model that is shown ten lines of it, are ranked on the same rows."""
    profile = load_profile("smoke")
    told = [data_hash(prepare_profile(replace(profile, data=replace(profile.data, window=n)))) for n in (5, 10)]
    assert told[0] != told[1]
    assert told[0].partition("-")[0] == told[1].partition("-")[0]
    reports = []
    for number, data in enumerate([*told, "0" + told[0][1:]]):
        save_reports(tmp_path / f"{number}.json", [report(f"report {number}")], "smoke", data)
        reports += load_reports(tmp_path / f"{number}.json")
    check_same_examples(*reports[:2])
    with pytest.raises(ValueError, match="on different data"):
        check_same_examples(*reports)


def test_a_file_takes_each_name_once_and_like_with_like(tmp_path):
    one = report("one")
    for reports in ([], [one, one]):
        with pytest.raises(ValueError, match="at least one report and each name once"):
            save_reports(tmp_path / "x.json", reports, "smoke", "data")
    with pytest.raises(ValueError, match="different examples"):
        save_reports(tmp_path / "x.json", [one, report("short", count=20)], "smoke", "data")
    assert not list(tmp_path.iterdir())


def test_reports_that_were_made_by_a_call_each_keep_their_seeds(tmp_path):
    """`rrec baselines` adds to a file: the last call's seed, commit and time are not those of all."""
    made = {"one": {"seed": 0, "commit": "a", "time": "then"}, "two": {"seed": 1, "commit": "b", "time": "now"}}
    save_reports(tmp_path / "x.json", [report("one"), report("two"), report("three")], "smoke", "data", 1, made=made)
    found = {one.name: one.run for one in load_reports(tmp_path / "x.json")}
    assert [found[name]["seed"] for name in ("one", "two", "three")] == [0, 1, 1]
    assert [found[name]["commit"] for name in ("one", "two")] == ["a", "b"]
