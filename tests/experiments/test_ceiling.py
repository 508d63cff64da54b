"""The ceiling: every text is given, the cheat alone knows the target, and a second call trains nothing."""

import re
import shutil

import pytest

from rrec_lib.evaluation.reports import load_reports
from rrec_lib.experiments import ceiling
from rrec_lib.experiments.ceiling import BARE, CHEAT, GIVEN, ceiling_table, run_ceiling, text_of
from rrec_lib.experiments.runner import Options
from rrec_lib.training.skills import world_of


def test_only_the_cheat_looks_at_the_target(smoke_dataset):
    world = world_of(smoke_dataset)
    examples = list(smoke_dataset["valid"])[:20]
    other = [{**example, "target": (example["target"] + 7) % len(world.items)} for example in examples]
    for name in GIVEN:
        text = text_of(name, world)
        assert (text is None) == (name == BARE)
        if text is not None:
            assert ([text(e) for e in examples] != [text(e) for e in other]) == (name == CHEAT)


def test_runs_are_recorded_read_back_and_told_apart(smoke_profile, tmp_path, monkeypatch, capsys):
    options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {"model.lora_layers": 1})
    names = (BARE, CHEAT)
    run_ceiling(options, names, steps=2)
    files = sorted((tmp_path / "out" / "movielens-smoke").glob("*.json"))
    assert [path.name for path in files] == ["bare-prompt-0.json", "the-targets-genres-0.json"]
    bare, cheat = (load_reports(path)[0] for path in files)
    assert bare.examples == cheat.examples
    assert bare.n_greater.tolist() != cheat.n_greater.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(ceiling, "warm_up", None)  # nothing is left to train
        run_ceiling(options, names, steps=2)
    with pytest.raises(ValueError, match="steps 2, now 3"):
        run_ceiling(options, names, steps=3)
    shutil.copytree(tmp_path / "out", tmp_path / "results" / "ceiling")
    table = ceiling_table(tmp_path, "movielens-smoke")
    assert re.search(r"\| bare prompt \| \.?0?\.\d+ ", table)
    assert table.count("not run") == len(GIVEN) - 2
