"""Files and folders that are written: links stay, and a folder has one at work in it."""

import subprocess
import sys

import pytest

from rrec_lib.core.paths import BusyError, alone_in, replacing, replacing_folder


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
