"""Controls of an adapter and the audit of what it writes, on a tiny model; and what a swapped title moves, by hand."""

import json
import shutil

import numpy as np
import pytest
import torch

from rrec_lib.evaluation.evaluate import evaluate_scores
from rrec_lib.evaluation.reports import load_reports, save_reports
from rrec_lib.experiments import audit_runs, control_runs
from rrec_lib.experiments.control_runs import controls_table, run_controls, swap_effects, swap_figures
from rrec_lib.experiments.readings import load_read, reading, reading_parser, what_to_read
from rrec_lib.experiments.runner import Options
from rrec_lib.recommend.controls import TitleSwap
from rrec_lib.recommend.recommender import ReasoningRecommender, Reasonings
from rrec_lib.training.skills import SKILLS, World, world_of
from rrec_lib.training.stages import trained_with


@pytest.fixture
def options(tmp_path):
    return Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {}, 0)


@pytest.fixture
def writes(monkeypatch, smoke_dataset):
    """Let the tiny model write a skill's text, which random weights can't."""
    world, own = world_of(smoke_dataset), ReasoningRecommender.reason

    def write(skill):
        def reason(self, examples, *rest):
            written = own(self, examples, *rest)
            return Reasonings([skill(e, world) for e in examples], written.closed, written.states)

        monkeypatch.setattr(ReasoningRecommender, "reason", reason)

    return write


def test_each_control_has_its_report_and_swaps_their_record(adapter, options, writes, monkeypatch):
    writes(SKILLS["association"])
    controls = ["own", "skill taste", "cheat", "title swapped"]
    run_controls(options, adapter, controls, test_rows=2)
    place = options.out / "movielens-smoke"
    ranks = {path.stem: load_reports(path)[0] for path in place.glob("*.json")}
    assert set(ranks) == {"own-0", "skill-taste-0", "cheat-0", "title-swapped-0"}
    assert len({tuple(report.n_greater) for report in ranks.values()}) == 4
    blind = {
        name: next(found.passed for found in report.findings if found.check == "blind")
        for name, report in ranks.items()
    }
    assert blind == {"own-0": True, "skill-taste-0": True, "cheat-0": None, "title-swapped-0": True}
    swaps = json.loads((options.out / "swaps" / "movielens-smoke" / "title-swapped-0.json").read_text())
    assert swaps["rows"] == len(ranks["own-0"].users)
    assert swaps["figures"]["swapped"] > 0.5
    assert 0 < swaps["figures"]["overlap"]["mean"] < 1
    table = controls_table(place).splitlines()
    (missing,) = [line for line in table if line.startswith("Not run yet: ")]
    assert len(missing.split("; ")) == len(control_runs.REASONING_CONTROLS) - 4
    (cheat,) = [line for line in table if "target's own genres" in line]
    assert "| 1 | 0." in cheat
    assert cheat.endswith("] |")
    (read,) = [line for line in table if " rows of " in line]
    assert f"{reading(options, 'x', 'own', 0, adapter).settings['adapter']} (seed 0)" in read
    (told,) = [line for line in table if line.startswith("Seed 0: a title could be swapped in ")]
    assert "Of the first 20, 0." in told
    moved = [line.split(" | ") for line in table[-4:]]
    assert [row[0].removeprefix("| ") for row in moved] == list(control_runs.SWAP_RANKS)
    for _, rows, before, after, by in moved:
        assert int(rows) > 0
        assert float(by.split(" [")[0].replace("−", "-")) == pytest.approx(float(after) - float(before), abs=0.11)
    monkeypatch.setattr(control_runs, "load_of_seed", None)
    monkeypatch.setattr(control_runs, "load_read", None)
    run_controls(options, adapter, controls, test_rows=2)  # all is there
    with pytest.raises(ValueError, match="other settings"):
        run_controls(options, adapter, controls, test_rows=3)


def test_readings_of_several_seeds_are_pooled_pair_by_pair_and_of_other_adapters_refused(
    adapter, make_adapter, options
):
    second = make_adapter(1, seed=1)
    for seed, folder in enumerate((adapter, second)):
        run_controls(options, folder, ["own", "none"], seed=seed, test_rows=2)
    (none,) = [line for line in controls_table(options.out / "movielens-smoke").splitlines() if "at once" in line]
    assert none.startswith("| nothing: the marker follows the prompt at once | 2 | ")
    assert none.endswith("] |")
    alone = options.out / "alone"
    alone.mkdir()
    shutil.copy(options.out / "movielens-smoke" / "none-0.json", alone)
    without_own = controls_table(alone)
    assert "minus nothing, 95 %" in without_own
    assert "Not run yet: what the policy wrote; " in without_own
    before = sorted(path.name for path in options.out.rglob("*.json"))
    with pytest.raises(ValueError, match="adapter"):
        run_controls(options, second, ["other"], test_rows=2)
    with pytest.raises(ValueError, match="test_rows 2, now None"):
        run_controls(options, adapter, ["other"], seed=0)
    assert sorted(path.name for path in options.out.rglob("*.json")) == before


def test_reasonings_are_written_once_for_all_controls_of_an_adapter(adapter, options, monkeypatch):
    wrote, reason = [], ReasoningRecommender.reason
    monkeypatch.setattr(
        ReasoningRecommender, "reason", lambda self, rows, *a: wrote.append(len(rows)) or reason(self, rows, *a)
    )
    run_controls(options, adapter, ["own"], test_rows=1)
    rows = sum(wrote) - 2 * 4  # the blind check's
    assert rows == len(load_reports(options.out / "movielens-smoke" / "own-0.json")[0].users)
    wrote.clear()
    run_controls(options, adapter, ["other", "random", "title swapped"], test_rows=1)
    assert set(wrote) == {4}  # the blind checks alone


def test_what_a_swap_moves_by_hand():
    world = World([{}] * 30, [[1, 2], [0], [0], [4, 5], *[[0]] * 26])
    examples = [{"seen": [2, 9]}, {"seen": [9]}]
    swaps = [TitleSwap("x", removed=0, added=3), TitleSwap("y")]
    before = -torch.arange(30.0).repeat(2, 1)  # item n at rank n + 1, before what was seen leaves
    after = before.clone()
    after[0, 3] = 1.0  # the title that came goes first, and one of its neighbours last
    after[0, 5] = -50.0
    found = swap_effects(before, after, examples, swaps, world)
    assert all(value[1].isnan() for value in found.values())
    row = {name: value[0].item() for name, value in found.items()}
    assert (row["added before"], row["added after"]) == (3, 1)  # of 0, 1, 3: 2 was seen
    assert (row["removed before"], row["removed after"]) == (1, 2)
    assert (row["removed's neighbours before"], row["removed's neighbours after"]) == (2, 3)  # 1 alone, 2 was seen
    assert row["added's neighbours before"] == (4 + 5) / 2
    assert row["added's neighbours after"] == (4 + 28) / 2
    assert row["overlap"] == pytest.approx(19 / 20)
    users = np.array(["a", "b"])
    alone = swap_figures(found, users, 50, 0)
    assert alone["swapped"] == 0.5
    assert alone["overlap"] is None  # one user has no interval
    twice = {name: torch.stack([value[0], value[0] + 1]) for name, value in found.items()}
    figures = swap_figures({**twice, "added after": twice["added after"] + 2}, users, 50, 0)
    assert figures["added before"]["mean"] == 3.5
    assert figures["added moved"]["mean"] == 0
    assert figures["removed moved"]["mean"] == 1
    assert "overlap moved" not in figures


@pytest.mark.parametrize(("skill", "missed"), [("taste", ["1 skills, below 3"]), ("idle", None)])
def test_the_audit_is_recorded_without_a_text(adapter, options, writes, skill, missed):
    writes(SKILLS[skill])
    found = audit_runs.run_audit(options, adapter, rows=20)
    assert found == (missed or ["nothing is stated", "0 skills, below 3"])
    path = options.out / "movielens-smoke" / "audit-0.json"
    kept = json.loads(path.read_text())
    assert kept["figures"]["texts"] == 20
    assert kept["figures"]["shares"][skill] == 1
    assert kept["figures"]["true_share"] == (1 if missed else None)
    assert "Likes" not in path.read_text()
    assert audit_runs.run_audit(options, adapter, rows=20) == found
    with pytest.raises(ValueError, match="audited_rows 20, now 21"):
        audit_runs.run_audit(options, adapter, rows=21)


def test_audited_rows_are_spread_over_the_users():
    examples = [{"user_id": user} for user in [1] * 9 + [2] * 3 + [3]]
    assert [audit_runs._even_cap(examples, rows) for rows in (3, 4, 5, 7, 8, 13, 99)] == [1, 2, 2, 3, 4, 9, 9]


def test_controls_of_other_rows_are_not_compared(tmp_path):
    for control, size in (("own", 6), ("none", 4)):
        rows = [{"user_id": n // 2, "target": n, "seen": []} for n in range(size)]
        report = evaluate_scores(torch.eye(6)[:size], rows, control, samples=20)
        save_reports(tmp_path / f"{control}-0.json", [report], "smoke", "d", 0)
    with pytest.raises(ValueError, match="different examples"):
        controls_table(tmp_path)


def test_scripts_take_from_the_card_how_an_adapter_is_read(make_adapter):
    trained = {"data": {"window": 9}, "rollouts": {"max_new_tokens": 7}, "model": {"dtype": "float32"}}
    longer = make_adapter(3, seed=3, settings=trained)
    parser = reading_parser("", "controls")

    def asked(*more):
        return what_to_read(parser.parse_args(["--profile", "smoke", "--adapter", str(longer), *more]))

    options, folder = asked()
    assert folder == longer
    assert options.overrides == {"data.window": 9, "rollouts.max_new_tokens": 7, "model.dtype": "float32"}
    load_read(reading(options, "x", "own", 3, longer), longer)
    with pytest.raises(ValueError, match="trained with seed 3; add --seed 3"):
        load_read(reading(options, "x", "own", 0, longer), longer)
    options, _ = asked("--set", "data.window=4", "--set", "model.dtype=bfloat16")
    with pytest.raises(
        ValueError, match=r"data\.window=9 \(here 4\), model\.dtype=float32 .* add --set data.window=9 --set"
    ):
        load_read(reading(options, "x", "own", 3, longer), longer)


def test_an_older_card_was_its_profile_s():
    assert trained_with({"profile": "cpu"}) == {"data.window": 5, "rollouts.max_new_tokens": 40}
    assert trained_with({"profile": "gone"}) == trained_with({}) == {}


def test_an_adapter_is_read_as_it_was_trained(adapter, tmp_path):
    longer = tmp_path / "longer"
    shutil.copytree(adapter, longer)
    card = json.loads((longer / "adapter_card.json").read_text())
    for section, knob, value in (("data", "window", 9), ("rollouts", "max_new_tokens", 64)):
        trained = {**card, "settings": {section: {knob: value}}}
        (longer / "adapter_card.json").write_text(json.dumps(trained))
        options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {}, 0)
        with pytest.raises(ValueError, match=rf"add --set {section}\.{knob}={value}"):
            load_read(reading(options, "x", "own", 0, longer), longer)
        with pytest.raises(ValueError, match=rf"add --set {section}\.{knob}={value}"):
            run_controls(options, longer, ["own"])
        assert not options.out.exists()
        options = Options(0.0, 0, tmp_path / "runs", tmp_path / "out", "smoke", {f"{section}.{knob}": value}, 0)
        load_read(reading(options, "x", "own", 0, longer), longer)
