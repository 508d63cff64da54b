"""The names that ``rrec_lib`` itself offers: a dozen, imported when asked for, each on the page of the API."""

import subprocess
import sys
from pathlib import Path

import pytest

import rrec_lib

PAGE = (Path(__file__).parents[1] / "book" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", rrec_lib.__all__)
def test_every_name_is_there_documented_and_on_the_page(name):
    found = getattr(rrec_lib, name)
    if callable(found):
        assert found.__doc__.strip()
    assert f"rrec_lib.{rrec_lib._ROOM_OF[name]}.{name}" in PAGE


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match="no 'train'; it offers load_profile, "):
        rrec_lib.train  # noqa: B018


def test_importing_the_library_loads_no_torch():
    code = "import sys, rrec_lib; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
