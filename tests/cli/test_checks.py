"""What is wrong with an argument is said before any work."""

import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from cli.refused import error

from rrec_lib.cli.main import main

COMMANDS = [
    ["evaluate", "--out"], ["compare", "none.json", "--figure"], ["inspect", "none", "--figure"],
    ["inspect", "none", "--markdown"], ["leaderboard", "show", "--out"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "is a folder; name a file in it" in error(capsys, *command, str(tmp_path))
    assert "in which report.json would lie, is a file" in error(capsys, *command, str(tmp_path / "file/a/report.json"))
    if command[-1] == "--figure":
        assert "let it end in .png, .svg or .pdf" in error(capsys, *command, str(tmp_path / "figure.csv"))


FOLDERS = [["train"], ["baselines"], ["prepare"], ["prepare", "csv", "--events", "x", "--items", "y"]]


@pytest.mark.parametrize("command", FOLDERS, ids=" ".join)
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "is a file; name a folder" in error(capsys, *command, "--out", str(tmp_path / "file"))
    assert "in which run would lie, is a file" in error(capsys, *command, "--out", str(tmp_path / "file/run"))
    assert "/proc can't be written to" in error(capsys, *command, "--out", "/proc/a/b")  # to root the mode says nothing


def test_a_mistyped_option_names_the_command_s_help(capsys):
    assert error(capsys, "recommend", "--top", "5", "Alien") == (
        "rrec: error: unrecognized arguments: --top; see `rrec recommend --help`\n"
    )
    assert "takes a number from 0 to 4294967295, got -1" in error(capsys, "train", "--out", "x", "--seed", "-1")
    assert "did you mean 'training.steps'?" in error(capsys, "recommend", "Alien", "--set", "training.step=5")
    assert "did you mean 'data.window'?" in error(capsys, "recommend", "Alien", "--set", "window=5")


@pytest.mark.parametrize("command", ["recommend", "evaluate"])
def test_an_adapter_s_folder_may_be_meant_by_that_of_its_run(command, tmp_path, capsys):
    titles = ["Alien"] if command == "recommend" else []
    assert "`rrec train` makes one" in error(capsys, command, *titles, "--adapter", str(tmp_path))
    (tmp_path / "warmup-adapter").mkdir()
    (tmp_path / "warmup-adapter" / "adapter_card.json").touch()
    assert f"did you mean {tmp_path / 'warmup-adapter'}?" in error(capsys, command, *titles, "--adapter", str(tmp_path))


@pytest.mark.parametrize("command", [["train"], ["baselines", "--only", "chance"], ["evaluate"]], ids=" ".join)
def test_sizes_of_data_that_are_prepared_already_are_refused(command, tmp_path, capsys):
    folder = str(tmp_path / "prepared")
    assert main(["prepare", "--profile", "smoke", "--out", folder]) == 0
    capsys.readouterr()
    sizes = ["--set", f"data.dataset={folder}", "--set", "data.window=2", "--out", str(tmp_path / "out")]
    said = error(capsys, *command, "--profile", "smoke", *sizes)
    assert f"{folder} is prepared already, with window 3, so data.window=2 would change nothing" in said


def test_a_recommender_without_a_file_is_refused(capsys):
    assert "sys has no file" in error(capsys, "evaluate", "--recommender", "sys:exit")


CSV = ["csv", "--events", "events.csv", "--items", "items.csv"]


@pytest.fixture
def csv_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("items.csv").write_text("item_id,title\n1,One\n2,Two\n3,Three\n")
    rows = [f"{user},{item},5,{1_600_000_000 + 90_000 * user + item}" for user in range(9) for item in (1, 2, 3)]
    Path("events.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]))


def test_the_folder_may_be_named_before_the_source(csv_files):
    assert main(["prepare", "--out", "before", *CSV]) == 0
    assert main(["prepare", *CSV, "--out", "behind"]) == 0
    assert Path("before/manifest.json").read_text() == Path("behind/manifest.json").read_text()


def test_a_profile_changes_no_other_source(csv_files, capsys):
    for more in (["--profile", "smoke"], ["--set", "data.window=3"]):
        assert "give --window, --k-core" in error(capsys, "prepare", *more, *CSV, "--out", "x")
    for command in (["prepare", "--seed=1"], ["plan", "--seed", "1"], ["inspect", "x", "--profile", "smoke"]):
        assert "unrecognized arguments" in error(capsys, *command)


WRONG = [["--start", "2022"], ["--window", "0"], ["--k-core", "-1"], ["--max-faults", "7"], ["--out", "busy"]]


@pytest.mark.parametrize("recipe", ["clean", "official"])
@pytest.mark.parametrize("wrong", WRONG, ids=" ".join)
def test_what_is_wrong_is_said_before_anything_is_downloaded(csv_files, capsys, monkeypatch, wrong, recipe):
    Path("busy").mkdir()
    Path("busy/mine").touch()
    asked = Mock()
    monkeypatch.setattr("rrec_lib.data.amazon.sources.download", asked)
    error(capsys, "prepare", "amazon", "--category", "Gift_Cards", "--recipe", recipe, "--out", "new", *wrong)
    asked.assert_not_called()
    if "busy" in wrong:
        assert "not replaced" in error(capsys, "prepare", *CSV, "--out", "busy")


def test_an_interrupted_download_is_said_to_go_on(csv_files, capsys, monkeypatch):
    monkeypatch.setattr("rrec_lib.data.amazon.sources.download", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr("rrec_lib.data.amazon.sources.cache_dir", Path.cwd)
    assert main(["prepare", "amazon", "--category", "Gift_Cards", "--out", "new"]) == 130
    assert "goes on with what was downloaded" in capsys.readouterr().err


def test_the_demo_takes_the_sizes_of_its_data(csv_files, monkeypatch):
    assert main(["prepare", *CSV, "--window", "7", "--out", "data: mine"]) == 0
    served = Mock()
    monkeypatch.setitem(sys.modules, "rrec_lib.demo.page", Mock(serve=served))  # it needs Gradio
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert main(["demo", "--profile", "smoke", "--dataset", "data: mine"]) == 0
    profile = served.call_args[0][0]
    assert (profile.data.dataset, profile.data.window) == ("data: mine", 7)
