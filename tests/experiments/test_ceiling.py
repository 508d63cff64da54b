"""The ceiling: every text is given, the cheat alone knows the target, and a second call trains nothing."""

import re
import shutil

import pytest

from rrec_lib.evaluation.evaluate import evaluate_scores
from rrec_lib.evaluation.reports import load_reports
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.experiments import ceiling
from rrec_lib.experiments.ceiling import BARE, CHEAT, GIVEN, ceiling_table, evaluate_given, run_ceiling, text_of
from rrec_lib.experiments.runner import Options
from rrec_lib.model.encode import encode
from rrec_lib.model.frozen_states import FrozenStates
from rrec_lib.model.item_table import item_table
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import MARKER, encode_users
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


def test_valid_is_read_as_it_stands(smoke_profile, smoke_dataset):
    """Not in rows that several targets share, whose histories are longer and whose moment is the last one's."""
    policy, text = load_policy(smoke_profile.model), text_of("taste", world_of(smoke_dataset))
    report, _ = evaluate_given(policy, smoke_dataset, smoke_profile, FrozenStates(policy), "taste", text, 0)
    valid, items = list(smoke_dataset["valid"]), list(smoke_dataset["items"])
    marker = policy.tokenizer(MARKER, add_special_tokens=False)["input_ids"]
    for row in (0, len(valid) // 2, len(valid) - 1):
        assert text is not None
        prompt = encode_users(policy.tokenizer, [valid[row]], items)[0]
        said = policy.tokenizer(f"{text(valid[row])}\n{MARKER}", add_special_tokens=False)["input_ids"]
        assert said[-len(marker) :] == marker
        state = encode(policy, [prompt + said])
        scores = score_items(state, item_table(policy, items, use_cache=False), smoke_profile.reward.temperature)
        alone = evaluate_scores(scores, [valid[row]], "taste", 10, 0)
        assert abs(int(alone.n_greater[0]) - int(report.n_greater[row])) <= 1  # near ties
