"""Files and folders that are written: links stay, and a folder has one at work in it."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest

from rrec_lib.core.paths import BusyError, alone_in, in_use, one_at_a_time, replacing, replacing_folder


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "drive").mkdir()
    file, folder = tmp_path / "drive" / "file", tmp_path / "drive" / "folder"
    file.write_text("old")
    folder.mkdir()
    (tmp_path / "file").symlink_to(file)
    (tmp_path / "folder").symlink_to(folder)
    with replacing(tmp_path / "file") as new:
        new.write_text("new")
    with replacing_folder(tmp_path / "folder") as made:
        (made / "inside").touch()
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert file.read_text() == "new"
    assert [path.name for path in folder.iterdir()] == ["inside"]


HOLDER = """
import sys
from pathlib import Path
from rrec_lib.core.paths import alone_in
with alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_the_first_is_gone(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"in\n"
    with pytest.raises(BusyError, match=r"another process is at work in .*run"), alone_in(folder):
        pass
    holder.kill()  # even so
    holder.communicate()
    with alone_in(folder):
        pass


def test_who_uses_a_folder_last_is_alone_in_it(tmp_path):
    folder = tmp_path / "shared"
    with in_use(folder) as first:
        with in_use(folder) as second:
            assert not first()
            assert not second()
        assert folder.is_dir()
        assert first()
        folder.rmdir()
    with in_use(folder):
        assert folder.is_dir()
    folder.rmdir()
    with pytest.raises(RuntimeError), in_use(folder):
        raise RuntimeError
    with in_use(folder) as alone:
        assert alone()


@pytest.mark.parametrize("stopped", [OSError("disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("move", [1, 2])
def test_whatever_stops_a_replacement_leaves_the_old_folder(tmp_path, monkeypatch, stopped, move):
    folder, moves, replace = tmp_path / "data", [], os.replace
    folder.mkdir()
    (folder / "old").touch()

    def stop(*paths):
        moves.append(paths)
        if len(moves) == move:
            raise stopped
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(type(stopped)), replacing_folder(folder) as new:
        (new / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in folder.iterdir()] == ["old"]


@pytest.mark.parametrize("block", [alone_in, one_at_a_time, in_use])
def test_drives_without_locks_go_on_without(tmp_path, monkeypatch, block):
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(9, "Bad file descriptor")))
    entered = []
    with block(tmp_path):
        entered.append(block)
    assert entered
