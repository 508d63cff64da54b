"""The README's figures come from files: its tables and its picture are those of results/."""

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
    recorded["cpu"]["notebooks"]["06_gpu_training"]["seconds"] += 60
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


def test_the_picture_is_of_the_recorded_runs_and_leaves_no_tuned_baseline_out(tmp_path):
    section = readme.result_section(tmp_path / "result.png")
    assert readme.replace_section(TEXT, "result", section) == TEXT
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")
    for report in readme.tuned_baselines(readme.PLACE):
        assert f"{report.name} {report.metric(readme.METRIC).mean():.3f}" in section
    empty = tmp_path / "other"
    folder = empty / "results" / "reference" / readme.PLACE
    folder.mkdir(parents=True)
    source = ROOT / "results" / "reference" / readme.PLACE / "untrained-0.json"
    (folder / source.name).write_bytes(source.read_bytes())
    assert readme.replace_section(TEXT, "result", readme.result_section(tmp_path / "x.png", empty)) != TEXT
