"""The command line on the smoke profile: what it prints, and that mistakes are one sentence."""

import io
import json
import sys

import pytest
import torch
from cli.refused import error  # tests/ is on the path
from safetensors.torch import load_file, save_file

from rrec_lib.cli.main import main
from rrec_lib.model.prompts import item_name


@pytest.fixture
def titles(smoke_dataset):
    items = smoke_dataset["items"]
    return [f"{items[i]['title']} ({items[i]['year']})" for i in (3, 11)]


def test_recommend_prints_a_reasoning_and_a_list(titles, capsys):
    assert main(["recommend", *titles, "-k", "3", "--profile", "smoke"]) == 0
    out = capsys.readouterr().out
    read, wrote, weights, table = (out.index(word) for word in ("It read", "It wrote", "Weights", "rank"))
    assert read < wrote < weights < table
    assert " ".join(out[read:wrote].split()) == "It read " + "; ".join(titles)
    assert "base (profile smoke has no recpo adapter)" in out
    lines = out[table:].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert not any(title in line for title in titles for line in lines)


def test_recommend_prints_json_and_takes_ratings(titles, capsys):
    assert main(["recommend", f"{titles[0]}=2.5", titles[1], "--json", "--profile", "smoke"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["history"] == titles
    assert answer["stage"] == "base"
    assert len(answer["items"]) == 5
    assert set(answer["items"][0]) == {"title", "year", "source_id", "score"}
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def test_a_long_history_is_cut_to_the_window_and_says_so(smoke_dataset, smoke_profile, capsys):
    names = [item_name(item) for item in smoke_dataset["items"].select(range(smoke_profile.data.window + 2))]
    assert main(["recommend", *names, "-k", "60", "--profile", "smoke"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"(the last {smoke_profile.data.window} of {len(names)})" in out
    assert "; ".join(names[2:]) in out
    assert not any(f" {name} " in out.partition("rank")[2] + " " for name in names)


def test_mistakes_are_one_sentence(titles, capsys):
    smoke = ["--profile", "smoke"]
    assert "unknown profile 'big'; choose one of" in error(capsys, "recommend", "x", "--profile", "big")
    assert "the history is empty" in error(capsys, "recommend", *smoke)
    assert "did you mean" in error(capsys, "recommend", titles[0][:-8], *smoke)
    assert "between 0.5 and 5" in error(capsys, "recommend", f"{titles[0]}=9", *smoke)
    assert "k must be at least 1" in error(capsys, "recommend", titles[0], "-k", "0", *smoke)
    assert "unknown stage" in error(capsys, "recommend", titles[0], "--stage", "best", *smoke)
    assert "see `rrec recommend --help`" in error(capsys, "recommend", "-k", "many")
    assert "see `rrec --help`" in error(capsys)
    assert "number of rows from 1 up" in error(capsys, "evaluate", "--sample", "0", *smoke)
    assert "no adapter folder" in error(capsys, "evaluate", "--adapter", "nowhere", *smoke)
    assert "not allowed with" in error(capsys, "evaluate", "--adapter", "x", "--stage", "base")
    assert "unknown profile key 'steps'" in error(capsys, "recommend", titles[0], "--set", "steps=1", *smoke)


def test_the_demos_mistakes_are_one_sentence_and_without_gradio_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "`make demo` makes .venv-demo" in error(capsys, "demo", "--profile", "smoke")
    assert "--port takes a number from 1 to 65535" in error(capsys, "demo", "--port", "0")
    assert "no adapter folder" in error(capsys, "demo", "--adapter", "nowhere")


def test_prepare_train_and_evaluate_go_together(tmp_path, capsys):
    smoke = ["--profile", "smoke"]
    assert main(["prepare", "--out", str(tmp_path / "data"), *smoke]) == 0
    assert (tmp_path / "data" / "manifest.json").is_file()
    assert main(["train", "--out", str(tmp_path / "run"), "--seed", "3", "--set", "training.steps=3", *smoke]) == 0
    assert (tmp_path / "run" / "recpo-adapter" / "log.jsonl").read_text().count("\n") == 3
    adapter = str(tmp_path / "run" / "recpo-adapter")
    report = tmp_path / "report.json"
    sample = ["evaluate", "--adapter", adapter, "--sample", "5", "--seed", "3", *smoke]  # of the random base
    assert main([*sample, "--out", str(report)]) == 0
    out = capsys.readouterr().out
    assert "R²ec (recpo-adapter)" in out
    assert "note on chance: NDCG@20" in out
    written = json.loads(report.read_text())
    assert written["figures"]["popularity"]["rows"] == 5
    assert {"command", "commit", "profile", "seed", "device", "data"} <= set(written)
    assert written["seed"] == 3  # that of the training
    assert [c["check"] for c in written["figures"]["R²ec (recpo-adapter)"]["checks"]] == [
        "blind", "trained", "item table", "past", "repeats", "above chance"
    ]  # fmt: skip
    said = error(capsys, "evaluate", "--adapter", str(tmp_path / "run"), *smoke)
    assert f"did you mean {tmp_path / 'run' / 'recpo-adapter'}?" in said
    # another seed of the run, on the same rows
    assert main(["train", "--out", str(tmp_path / "again"), "--seed", "4", "--set", "training.steps=3", *smoke]) == 0
    adapter, again = str(tmp_path / "again" / "recpo-adapter"), tmp_path / "again.json"
    sample = ["evaluate", "--adapter", adapter, "--sample", "5", "--seed", "4", *smoke]
    assert main([*sample, "--out", str(again)]) == 0
    capsys.readouterr()
    assert main(["compare", str(report), str(again)]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(" seed")[0].split()[-1] for line in lines] == ["1"] * (len(lines) - 1) + ["2"]


def test_an_adapter_below_the_working_directory_and_a_single_row_are_evaluated(tmp_path, capsys, monkeypatch):
    smoke = ["--profile", "smoke"]
    assert main(["train", "--out", str(tmp_path / "run"), "--set", "training.steps=3", *smoke]) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--adapter", "run/recpo-adapter", "--sample", "1", "--out", "one.json", *smoke]) == 0
    out = capsys.readouterr().out
    (row,) = [line for line in out.splitlines() if line.startswith("  R²ec (recpo-adapter)")]
    assert "[" not in row  # an interval over users needs more than one
    assert json.loads((tmp_path / "one.json").read_text())["figures"]["chance"]["rows"] == 1
    monkeypatch.setattr("rrec_lib.evaluation.evaluate.evaluate", None)  # nothing is evaluated for these
    for wrong, said in ((["--name", "chance"], "is a baseline's name"), (["--out", "run"], "run is a folder")):
        assert main(["evaluate", *wrong, *smoke]) == 2
        assert said in capsys.readouterr().err


def test_compare_prints_a_table_and_draws(tmp_path, capsys):
    sample = ["evaluate", "--sample", "12", "--profile", "smoke"]
    for name in ("one", "two"):
        assert main([*sample, "--name", name, "--out", str(tmp_path / f"{name}.json")]) == 0
    files = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    capsys.readouterr()
    figure = tmp_path / "figures" / "compare.png"
    assert main(["compare", *files, "--metric", "hit@20", "--first", "popularity", "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()[2:-1]]
    assert [line[0] for line in lines] == ["popularity", "chance", "co-occurrence", "text", "one", "two"]
    assert all("no difference can be shown" in line or "by 0." in line for line in out.splitlines()[3:-1])
    assert "hit@20 on 12 rows" in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in figure.parent.iterdir()] == ["compare.png"]
    assert main([*sample, "--sample", "9", "--out", str(tmp_path / "nine.json")]) == 0
    capsys.readouterr()
    assert "different examples (12 rows of 60 items, 9 of 60)" in error(
        capsys, "compare", files[0], str(tmp_path / "nine.json")
    )
    assert "no report is called 'best'; choose one of chance" in error(capsys, "compare", files[0], "--first", "best")
    assert "unknown metric 'auc'" in error(capsys, "compare", files[0], "--metric", "auc")
    assert "no report" in error(capsys, "compare", str(tmp_path / "none.json"))
    assert "see `rrec compare --help`" in error(capsys, "compare")


def test_a_command_ends_well_on_a_terminal_that_cannot_show_its_characters(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["evaluate", "--sample", "5", "--profile", "smoke"]) == 0
    assert rb"R\xb2ec (base)" in written.getvalue()


def test_weights_that_are_no_numbers_recommend_nothing(titles, tmp_path, capsys):
    smoke = ["--profile", "smoke"]
    assert main(["train", "--out", str(tmp_path), "--stage", "warmup", *smoke]) == 0
    weights = tmp_path / "warmup-adapter" / "adapter_model.safetensors"
    broken = {name: torch.full_like(value, torch.nan) for name, value in load_file(weights).items()}
    save_file(broken, weights)
    capsys.readouterr()
    adapter = str(tmp_path / "warmup-adapter")
    assert "holds weights that are no numbers" in error(capsys, "evaluate", "--adapter", adapter, *smoke)
