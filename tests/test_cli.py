"""The command line on the smoke profile: what it prints, and that mistakes are one sentence."""

import json

import pytest

from rrec_lib.cli import main
from rrec_lib.recommend import find_items, typed_example

ITEMS = [
    {"title": "Alien", "year": 1979},
    {"title": "Solaris", "year": 1972},
    {"title": "Solaris", "year": 2002},
    {"title": "Aliens", "year": 1986},
]


@pytest.fixture
def titles(smoke_dataset):
    items = smoke_dataset["items"]
    return [f"{items[i]['title']} ({items[i]['year']})" for i in (3, 11)]


def error(capsys, *arguments):
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_recommend_prints_a_reasoning_and_a_list(titles, capsys):
    assert main(["recommend", *titles, "-k", "3", "--profile", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("; ".join(titles))
    assert lines[1].startswith("It wrote")
    assert len(lines) == 6
    assert not any(title in line for title in titles for line in lines[3:])


def test_recommend_prints_json_and_takes_ratings(titles, capsys):
    assert main(["recommend", f"{titles[0]}=2.5", titles[1], "--json", "--profile", "smoke"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["history"] == titles
    assert answer["stage"] == "base"
    assert len(answer["films"]) == 5
    scores = [film["score"] for film in answer["films"]]
    assert scores == sorted(scores, reverse=True)


def test_mistakes_are_one_sentence(titles, capsys):
    assert "unknown profile 'big'; choose one of" in error(capsys, "recommend", "x", "--profile", "big")
    assert "name at least one film" in error(capsys, "recommend", "--profile", "smoke")
    assert "did you mean" in error(capsys, "recommend", titles[0][:-8], "--profile", "smoke")
    assert "between 0.5 and 5" in error(capsys, "recommend", f"{titles[0]}=9", "--profile", "smoke")
    assert "k must be at least 1" in error(capsys, "recommend", titles[0], "-k", "0", "--profile", "smoke")
    assert "unknown stage" in error(capsys, "recommend", titles[0], "--stage", "best", "--profile", "smoke")


def test_prepare_train_and_evaluate_go_together(tmp_path, capsys):
    smoke = ["--profile", "smoke"]
    assert main(["prepare", "--out", str(tmp_path / "data"), *smoke]) == 0
    assert (tmp_path / "data" / "manifest.json").is_file()
    assert main(["train", "--out", str(tmp_path / "run"), *smoke]) == 0
    adapter = str(tmp_path / "run" / "recpo-adapter")
    report = tmp_path / "report.json"
    assert main(["evaluate", "--adapter", adapter, "--sample", "5", "--out", str(report), *smoke]) == 0
    assert "R²ec (recpo)" in capsys.readouterr().out
    assert json.loads(report.read_text())["figures"]["popularity"]["rows"] == 5
    assert "no adapter in" in error(capsys, "evaluate", "--adapter", str(tmp_path / "run"), *smoke)


def test_titles_are_found_whatever_their_case():
    assert find_items(["alien  (1979)", "ALIENS", "Solaris (2002)"], ITEMS) == [0, 3, 2]
    with pytest.raises(ValueError, match=r"several films are called 'Solaris': Solaris \(1972\); Solaris \(2002\)"):
        find_items(["Solaris"], ITEMS)
    with pytest.raises(ValueError, match=r"did you mean Aliens \(1986\)"):
        find_items(["Alienss"], ITEMS)
    with pytest.raises(ValueError, match="no title is near it"):
        find_items(["zzzzzz"], ITEMS)


def test_a_typed_history_ends_yesterday():
    example = typed_example([4, 7], [3.0, 5.0])
    assert example["target_timestamp"] - example["history_timestamps"][-1] == 86400
    with pytest.raises(ValueError, match="2 films need 2 ratings"):
        typed_example([4, 7], [3.0])
