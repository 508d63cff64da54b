"""On a device that is not the processor everything runs, and gives the processor's results.

The device is a pretend one, see ``pretend_accelerator.py``. It patches PyTorch, so a process of its own runs the
scenarios of ``pretend_run.py``, once for this file.
"""

import json
from pathlib import Path

import pretend_accelerator
import pytest
from fresh_process import run_script

SCRIPT = Path(__file__).with_name("pretend_run.py")
SLOW: tuple[str, ...] = ("evaluation", "warmup_step", "catalogue_step", "mistakes_in_training")
SLOW += ("benchmark rollouts", "benchmark item_encoding", "benchmark recpo_step")
ROUNDING = 1e-4


def run(*scenarios):
    """What the scenarios found, by name; an error in one of them fails the tests that ask for it."""
    if reason := pretend_accelerator.missing():
        pytest.skip(reason)
    done = run_script(SCRIPT, *scenarios)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])

    def of(name):
        assert "error" not in results[name], results[name]["error"]
        return results[name]

    return of


@pytest.fixture(scope="module")
def found():
    return run()


@pytest.fixture(scope="module")
def found_slowly():
    return run(*SLOW)


def test_mixing_devices_raises_as_on_a_gpu(found):
    result = found("mixing")
    others = {"generator": "RuntimeError", "numpy": "TypeError", "array": "TypeError"}
    assert result["refused"] == {name: others.get(name, "DeviceMixError") for name in result["refused"]}
    assert set(result["allowed"].values()) == {"nothing"}
    assert result["in place"] == [[1, 2, 3], [4, 5, 6]]
    assert result["stays"]


def test_waits_and_copies_are_counted(found):
    cost = {name: (count["waits"], count["sent"]) for name, count in found("counting").items()}
    reads = dict.fromkeys(("item", "bool", "tolist", "cpu", "mask"), (1, 0))
    sends = {"list index": (1, 1), "to": (1, 1), "tensor": (1, 1), "to without waiting": (0, 1)}
    inside = {"multinomial": (2, 0), "tensor in where": (1, 1), "number in where": (0, 0), "masked_fill": (0, 0)}
    assert cost == {**reads, **sends, **inside, "arithmetic": (0, 0)}


def test_a_decode_step_waits_once_and_sends_once(found):
    result = found("waits")
    assert result["ours"] == {"waits": 1, "sent": 1}
    assert result["ending"]["waits"] <= result["ending"]["steps"] + 8  # the prompts, the first pass's check
    assert result["each on its own"]["waits"] > 1, "more waits would not be seen"
    assert result["each on its own"]["sent"] > 1
    assert result["drawn by multinomial"]["waits"] == 3, "CUDA's own two looks would not be seen"


def test_reasonings_and_their_states_are_the_processors(found):
    result = found("sampling")
    assert result["drawn"]
    assert result["greedy"]
    assert result["there"]
    assert max(result["drawn gap"], result["greedy gap"]) < ROUNDING < result["another policy"]


def test_states_are_the_processors_in_larger_batches(found):
    result = found("encoding")
    assert result["gap"] < ROUNDING < result["scale"]
    assert result["there"]
    assert result["batch tokens"] == [1024, 16_384]


def test_the_item_table_is_made_kept_and_read(found):
    result = found("table")
    assert result["gap"] < ROUNDING
    assert result["again"] < ROUNDING
    assert result["there"]


@pytest.mark.slow
def test_evaluation_gives_the_processors_ranks(found_slowly):
    result = found_slowly("evaluation")
    assert result["ranks"]
    assert result["lists"]
    assert result["different ranks"], "equal ranks would mean nothing"
    assert result["controls"] < ROUNDING


def test_recommend_gives_the_processors_list(found):
    result = found("recommend")
    assert result["same"]
    assert result["items"] == 4
    assert result["scores"] < 1e-3


def test_a_step_its_checkpoint_and_what_goes_on_from_there(found):
    check_step(found("recpo_step"))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["warmup_step", "catalogue_step"])
def test_a_step_of_the_warm_up_and_one_over_the_catalogue(found_slowly, step):
    check_step(found_slowly(step))


def check_step(result):
    assert result["there"] == pretend_accelerator.NAME
    assert result["gap"] < ROUNDING < result["moved"]
    assert result["loss gap"] < 1e-3
    assert result["resumed"] < 1e-6 < result["second moved"]
    assert result["loaded"] < 1e-2


def test_baselines_give_the_processors_scores(found):
    result = found("baselines")
    networks = {name: value for name, value in result.items() if isinstance(value, dict)}
    assert len(networks) == 3
    assert all(value is True for name, value in result.items() if name not in networks)
    for value in networks.values():
        assert value["there"]
        assert value["ranks"]
        assert value["gap"] < ROUNDING


def test_the_lab_gives_the_processors_curves(found):
    result = found("lab")
    assert result["curves"]
    assert result["points"] > 1
    assert result["there"]
    assert max(result["gaps"].values()) < ROUNDING
    assert result["gradient"] > 0


def test_a_tensor_left_on_the_processor_is_noticed(found):
    result = found("mistakes")
    assert len(result) == 4
    assert set(result.values()) == {"DeviceMixError"}


@pytest.mark.slow
def test_a_tensor_left_on_the_processor_in_training_is_noticed(found_slowly):
    result = found_slowly("mistakes_in_training")
    assert len(result) == 3
    assert set(result.values()) == {"DeviceMixError"}


@pytest.mark.slow
def test_what_a_gpu_run_measures_runs_on_the_device(found_slowly):
    assert all(found_slowly(name)["ratio"] > 0 for name in SLOW if name.startswith("benchmark"))
