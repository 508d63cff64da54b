"""What is wrong with an argument is said before any work."""

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


@pytest.mark.parametrize("command", [["train"], ["baselines", "--only", "chance"], ["evaluate"]], ids=" ".join)
def test_sizes_of_data_that_are_prepared_already_are_refused(command, tmp_path, capsys):
    folder = str(tmp_path / "prepared")
    assert main(["prepare", "--profile", "smoke", "--out", folder]) == 0
    capsys.readouterr()
    sizes = ["--set", f"data.dataset={folder}", "--set", "data.window=2", "--out", str(tmp_path / "out")]
    said = error(capsys, *command, "--profile", "smoke", *sizes)
    assert f"{folder} is prepared already and keeps its sizes, so --set data.window would change nothing" in said


def test_a_recommender_without_a_file_is_refused(capsys):
    assert "sys has no file" in error(capsys, "evaluate", "--recommender", "sys:exit")
