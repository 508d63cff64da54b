"""Explorables: their data is that of the recorded runs, and a cell that embeds one gets its picture and scripts."""

from pathlib import Path

import explorables
import pytest
import stage
from execute import BuildError


def test_the_data_of_the_interval_is_that_of_the_recorded_runs():
    written = (stage.EXPLORE / "interval-data.js").read_text(encoding="utf-8")
    assert explorables.interval_data() == written, "it is old: run `python tools/explorables.py`"


@pytest.mark.parametrize("name", explorables.STILLS)
def test_a_cell_gets_a_picture_and_the_scripts_it_needs(name):
    cell = f'<div class="explore" data-explore="{name}">\n\nA *sentence*.\n\n</div>'
    staged = stage.stage_cell({"cell_type": "markdown", "source": [cell], "metadata": {}}, "", Path())["source"]
    assert staged.index("frame.js") < staged.index(f"/{name}.js")
    assert ("interval-data.js" in staged) is (name == "interval")
    assert "\n\nA *sentence*.\n\n</div>" in staged
    assert f'<img src="../_static/explore/{name}.svg" alt="' in staged


def test_other_cells_stay_and_a_wrong_name_is_refused():
    assert stage.with_explorable("a `data-explore`", "") == "a `data-explore`"
    with pytest.raises(BuildError, match="07, cell 3 embeds 'nothing'"):
        stage.with_explorable('<div class="explore" data-explore="nothing">\n\n</div>', "07, cell 3")
