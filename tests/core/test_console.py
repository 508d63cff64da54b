"""Progress: off for pages, plain lines in a log, and every item comes through either way."""

import errno
import io
import json
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from rrec_lib.cli.main import main
from rrec_lib.core import console, paths
from rrec_lib.core.console import TrainingError, script


def test_progress_hands_on_every_item_and_says_nothing_when_off(monkeypatch, capsys):
    monkeypatch.setenv("RREC_PROGRESS", "off")
    assert list(console.progress(range(5), "work")) == [0, 1, 2, 3, 4]
    console.say("converting")
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("RREC_PROGRESS")
    console.say("converting")
    assert capsys.readouterr() == ("", "converting\n")


def test_progress_prints_plain_lines_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.delenv("RREC_PROGRESS", raising=False)
    monkeypatch.delitem(console.sys.modules, "ipykernel.kernelapp", raising=False)
    clock = iter(range(0, 1000, 7))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    assert list(console.progress(iter("abcd"), "encoding", total=4)) == list("abcd")
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("encoding: ") and "/4, " in line for line in lines)


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("RREC_CACHE", str(tmp_path / "here"))
    assert paths.cache_dir() == tmp_path / "here"
    assert (tmp_path / "here").is_dir()


def test_the_cache_folder_is_never_the_working_directory(monkeypatch, tmp_path):
    """An empty variable is an unset one."""
    monkeypatch.setenv("RREC_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert paths.cache_dir() == tmp_path / "shared" / "rrec"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / ".cache" / "rrec"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert paths.cache_dir() == tmp_path / ".cache" / "rrec"
    monkeypatch.setenv("RREC_CACHE", "~/mine")
    assert paths.cache_dir() == tmp_path / "mine"


def test_without_a_home_directory_a_set_cache_is_used_and_none_gets_a_sentence(monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(paths.Path, "home", homeless)
    monkeypatch.setenv("RREC_CACHE", str(tmp_path / "given"))
    assert paths.cache_dir() == tmp_path / "given"
    monkeypatch.delenv("RREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / "rrec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(OSError, match="no home directory; set RREC_CACHE"):
        paths.cache_dir()


def test_a_cache_folder_that_cannot_be_made_is_named_with_the_reason(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    reason = r"can't be made \((File exists|Not a directory)\); set RREC_CACHE"
    for given in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("RREC_CACHE", str(given))
        with pytest.raises(OSError, match=f"cache folder .*file.* {reason}"):
            paths.cache_dir()


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("writer", [paths.replacing, paths.replacing_folder])
@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, FULL),
        SafetensorError(f"I/O error: {FULL} (os error 28)"),
        Exception(f"{FULL} (os error 28)"),
    ],
)
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, writer, problem):
    with writer(tmp_path / "kept") as new:
        (new / "a" if new.is_dir() else new).write_text("old")
    with (
        pytest.raises(OSError, match=r"kept can't be written \(.*No space left.*\); make room"),
        writer(tmp_path / "kept"),
    ):
        raise problem
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    kept = tmp_path / "kept"
    assert (kept / "a" if kept.is_dir() else kept).read_text() == "old"


def test_a_terminal_that_cannot_show_a_character_gets_an_escape(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(console.sys, "stdout", narrow)
    with pytest.raises(UnicodeEncodeError):
        print("Amélie")
    console.forgive_terminals()
    print("Amélie")
    console.print_json({"film": "Amélie"})
    narrow.flush()
    first, _, rest = narrow.buffer.getvalue().decode("ascii").partition("\n")
    assert first == r"Am\xe9lie"
    assert json.loads(rest) == {"film": "Amélie"}


def test_a_closed_output_ends_nothing(monkeypatch, capsys):
    """As ``rrec ... >&-`` has it."""
    monkeypatch.setattr(console.sys, "stdout", None)
    monkeypatch.setattr(console.sys, "stderr", None)
    assert main(["plan", "--profile", "paper"]) == 0
    assert main(["plan", "--profile", "none"]) == 2
    assert not console.sys.stderr.isatty()


def test_json_for_programs_is_readable_where_it_can_be_and_holds_no_nan(capsys):
    console.print_json({"film": "Amélie"})
    assert "Amélie" in capsys.readouterr().out
    with pytest.raises(ValueError, match="JSON"):
        console.print_json({"score": float("nan")})


def test_a_missing_resource_names_where_it_was_looked_for():
    with pytest.raises(FileNotFoundError, match=r"data/nowhere is missing .*restore it"):
        paths.resource("data/nowhere")


def test_byte_progress_counts_and_rates_bytes_from_where_an_earlier_run_ended(monkeypatch, capsys):
    chunks = [b"x" * 1_000_000] * 3
    monkeypatch.setenv("RREC_PROGRESS", "off")
    assert list(console.byte_progress(iter(chunks), "file")) == chunks
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("RREC_PROGRESS")
    monkeypatch.delitem(console.sys.modules, "ipykernel.kernelapp", raising=False)
    clock = iter(range(0, 1000, 8))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    assert list(console.byte_progress(iter(chunks), "file", done=5_000_000, total=8_000_000)) == chunks
    assert capsys.readouterr().err == "file: 7.0 of 8.0 MB, 0.1 MB/s\n"


def test_byte_progress_shows_a_bar_at_a_terminal(monkeypatch, capsys):
    monkeypatch.delenv("RREC_PROGRESS", raising=False)
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    assert list(console.byte_progress(iter([b"x" * 500]), "file", done=500, total=1000)) == [b"x" * 500]
    shown = capsys.readouterr().err
    assert "file:" in shown
    assert "500/1.00k" in shown


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (ValueError("no\n such  thing"), 2, "error: no such thing\n"),
        (FileNotFoundError("no file"), 2, "error: no file\n"),
        (TrainingError("stopped"), 2, "error: stopped\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; what is finished is kept, and the same command goes on\n"),
    ],
)
def test_a_script_ends_in_a_sentence(problem, code, said, capsys):
    @script
    def ends():
        raise problem

    with pytest.raises(SystemExit) as ended:
        ends()
    assert ended.value.code == code
    assert capsys.readouterr().err == said


def test_a_fault_of_the_code_keeps_its_traceback():
    @script
    def ends():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        ends()


def test_every_script_of_the_library_ends_so():
    root = Path(__file__).parents[2] / "scripts"
    texts = {path.name: path.read_text(encoding="utf-8") for path in root.glob("*.py")}
    own = {"make_movielens.py", "reference_sasrec.py"}  # run beside other environments' packages
    assert [name for name, text in texts.items() if "@script\ndef main(" not in text and name not in own] == []
