"""Scripts hand on what they read, to one call each; a wrong option is refused before anything runs."""

import importlib
import sys
from pathlib import Path

import pytest

from rrec_lib.experiments.ablations import RUNNABLE
from rrec_lib.experiments.lab_dial import STAGES
from rrec_lib.experiments.lab_runs import LAB_LINES


@pytest.fixture
def call(monkeypatch):
    """Start a script, and return what it hands to a function in the place of the library's."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))

    def start(name, function, *arguments, returned=None):
        script, given = importlib.import_module(name), []
        monkeypatch.setattr(script, function, lambda *handed: given.append(handed) or returned)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        script.main()
        return given[0]

    return start


def test_the_reference_run(call):
    options, arms, seeds = call("reference_run", "run_reference", "--seeds", 4, "--every", 2, 3, "--set", "model.x=1")
    assert (options.hours, list(options.every), options.overrides, options.rows) == (1.0, [2, 3], {"model.x": 1}, 300)
    assert (arms, seeds) == (["with reasoning", "without reasoning", "untrained"], [4])
    assert options.out.parts[-2:] == ("results", "reference")


def test_what_beams_miss(call):
    name, profile, searches, out, *rest = call(
        "beams", "compare_beams", "D3", "--hours", 0.5, "--set", "model.lora_rank=2"
    )
    assert (name, profile.model.lora_rank, searches.name) == ("D3", 2, "movielens-cpu")
    assert out.parts[-3:] == ("results", "trials", "movielens-cpu-d3-beams.json")
    assert rest == [0, 0.5, 50, [50, 10, 5], 100]
    assert call("beams", "compare_beams", "TIGER", "--all-rows")[-1] is None


def test_the_ablations(call):
    handed = call("ablations", "run_ablations", "--recpo", "there", "--test-rows", 2, "--every", 7)
    assert handed[1:] == (RUNNABLE, 0, 2, 0.6, {"warmup": None, "recpo": Path("there")})
    assert (handed[0].hours, handed[0].every, handed[0].profile) == (0.25, 7, "cpu")


def test_the_lab(call):
    assert call("run_lab", "search_rate", "--search", "1e-3", "--out", "o")[1:] == ([1e-3], Path("o/search.json"))
    config, seeds, lines, *_ = call("run_lab", "run_lab", "--seeds", 7, "--set", "beta=0.5")
    assert (config.beta, seeds, lines) == (0.5, [7], list(LAB_LINES))


def test_the_readings_of_an_adapter(call, adapter_with_weights):
    given = ["--adapter", adapter_with_weights, "--set", "model.x=1", "--seed", 3]
    options, *rest = call("compute_curve", "run_curve", *given, "--samples", 1, 2, "--test-rows", 8, "--timed-rows", 5)
    assert (options.hours, options.every, options.overrides) == (0.0, 0, {"data.window": 9, "model.x": 1})
    assert options.out.parts[-2:] == ("results", "compute")
    assert rest == [adapter_with_weights, 3, 8, [1, 2], 5, None]
    options, *rest = call("controls", "run_controls", *given, "--controls", "own", "skill taste")
    assert (options.out.parts[-1], rest) == ("controls", [adapter_with_weights, ["own", "skill taste"], 3, None])


@pytest.mark.parametrize(("missed", "code"), [([], 0), (["nothing is stated"], 1)])
def test_the_audit_ends_with_whether_a_bar_is_missed(call, adapter_with_weights, missed, code):
    with pytest.raises(SystemExit) as ended:
        call("audit_reasonings", "run_audit", "--adapter", adapter_with_weights, returned=missed)
    assert ended.value.code == code


def test_readings_name_an_adapter_that_is_not_there(call, capsys, tmp_path):
    for name, function in (
        ("compute_curve", "run_curve"),
        ("controls", "run_controls"),
        ("audit_reasonings", "run_audit"),
    ):
        with pytest.raises(SystemExit):
            call(name, function, "--adapter", tmp_path)
        assert f"no adapter {tmp_path}; name one with --adapter" in capsys.readouterr().err


@pytest.fixture
def adapter_with_weights(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_card.json").write_text('{"settings": {"data": {"window": 9}}}')
    return tmp_path


def test_the_dial(call):
    stages, out = call("lab_dial", "run_dial", "--stages", "ways", "first")
    assert (stages, out.parts[-3:]) == (["ways", "first"], ("results", "lab", "dial"))
    assert call("lab_dial", "run_dial", "--out", "o") == (list(STAGES), Path("o"))


@pytest.mark.parametrize(("setting", "message"), [
    ("steps", "a setting reads KEY=VALUE"), ("foo=1", "foo"), ("user_state=all", "user_state must be one of"),
    ("token_normalization=all", "token_normalization must be one of"),
])  # fmt: skip
def test_a_wrong_knob_is_named_before_anything_runs(call, capsys, setting, message):
    with pytest.raises(SystemExit):
        call("run_lab", "run_lab", "--set", setting)
    assert message in capsys.readouterr().err


def test_an_ablation_that_is_none_is_refused(call, capsys):
    with pytest.raises(SystemExit):
        call("ablations", "run_ablations", "--lines", "mean state")
    assert "invalid choice: 'mean state'" in capsys.readouterr().err
