"""The README's figures come from files: its table is results/times.json, its picture notebook 06's."""

import base64
import json
from pathlib import Path

import pytest
import readme
from execute import BuildError

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_times_is_the_recorded_one():
    recorded = json.loads((ROOT / "results" / "times.json").read_text(encoding="utf-8"))
    assert readme.replace_section(TEXT, "times", readme.times_section(recorded)) == TEXT
    recorded["cpu"]["notebooks"]["05_gpu_training"]["seconds"] += 60
    assert readme.replace_section(TEXT, "times", readme.times_section(recorded)) != TEXT


def test_the_table_of_results_is_the_recorded_one(tmp_path):
    assert readme.replace_section(TEXT, "recorded", readme.recorded_section()) == TEXT
    assert readme.recorded_section(tmp_path).count("not run yet") == len(readme.ARMS)


def test_pictures_are_there_and_a_missing_section_is_named():
    for name in ("result", "book"):
        assert f"({readme.FIGURES}/{name}.png)" in TEXT
        assert (ROOT / readme.FIGURES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BuildError, match="no section 'figures'"):
        readme.replace_section(TEXT, "figures", "x")


def test_the_main_figure_is_the_first():
    def cell(pixels, alt):
        data = {"image/png": base64.b64encode(pixels).decode()}
        return {"outputs": [{"data": data, "metadata": {"image/png": {"alt": alt}}}]}

    notebook = {"cells": [{}, cell(b"one", "first"), cell(b"two", "second")]}
    assert readme.main_figure(notebook) == (b"one", "first")
    with pytest.raises(BuildError, match="no figure"):
        readme.main_figure({"cells": [{}]})
