"""What is read back: damaged files are named with a remedy, and nobody reads them in another way."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rrec_lib.core.reading import DamagedError, check_same, check_whole, read_json, read_json_lines, read_tensors

ROOT = Path(__file__).parents[2]
# Each names a damaged file in words of its own, or takes it for one that isn't there.
OWN_WORDS = {"reports.py", "prepared.py", "download.py", "arrow.py"}


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 1])


@pytest.fixture
def folder(tmp_path):
    """One file of each kind that a checkpoint holds."""
    (tmp_path / "a.json").write_text('{"seed": 0}')
    (tmp_path / "b.jsonl").write_text('{"step": 100}\n{"step": 2}\n')
    save_file({"states": torch.zeros(9, 9)}, tmp_path / "c.safetensors")
    torch.save({"optimizer": torch.zeros(9, 9)}, tmp_path / "d.pt")
    (tmp_path / "complete").touch()
    return tmp_path


def test_whole_files_are_read(folder):
    assert read_json(folder / "a.json", "seed") == {"seed": 0}
    assert read_json_lines(folder / "b.jsonl") == [{"step": 100}, {"step": 2}]
    assert read_tensors(folder / "c.safetensors", "states")["states"].shape == (9, 9)
    check_whole(folder, "delete it")


@pytest.mark.parametrize(
    ("name", "read"), [("a.json", read_json), ("b.jsonl", read_json_lines), ("c.safetensors", read_tensors)]
)
def test_a_damaged_file_is_named(folder, name, read):
    truncate(folder / name)
    with pytest.raises(DamagedError, match=rf"{name} is damaged \(.+\); fetch it again"):
        read(folder / name, remedy="fetch it again")


@pytest.mark.parametrize("name", ["a.json", "c.safetensors", "d.pt"])
def test_a_folder_is_looked_through(folder, name):
    truncate(folder / name)
    with pytest.raises(DamagedError, match=rf"{name} is damaged \(.+\); delete it"):
        check_whole(folder, "delete it")


def test_what_is_missing_in_a_file_is_named(folder):
    with pytest.raises(DamagedError, match="it lacks trials, data"):
        read_json(folder / "a.json", "trials", "seed", "data")
    with pytest.raises(DamagedError, match="it lacks hidden"):
        read_tensors(folder / "c.safetensors", "hidden")
    (folder / "a.json").write_text("[1]")
    with pytest.raises(DamagedError, match="it holds a list, no object"):
        read_json(folder / "a.json", "trials")
    with pytest.raises(FileNotFoundError):
        read_json(folder / "none.json")


def test_settings_that_differ_are_named():
    with pytest.raises(ValueError, match=r"here is of a run with other settings \(a.b 1, now 2, c None, now 3\); move"):
        check_same(Path("here"), {"a": {"b": 1}}, {"a": {"b": 2}, "c": 3}, "move it")
    check_same(Path("here"), {"a": {"b": 1}}, {"a": {"b": 1}}, "move it")


def test_nobody_else_reads_such_files():
    others = [path for path in (ROOT / "rrec_lib").rglob("*.py") if path.name not in {"reading.py", *OWN_WORDS}]
    raw = re.compile(r"json\.loads?\([^\n]*(read_text|read_bytes|open\()|\bload_file\(")
    found = [path.name for path in others if raw.search(path.read_text(encoding="utf-8"))]
    assert len(others) > 100
    assert not found, f"{found}: use rrec_lib.core.reading, which names a damaged file"
