"""One large batch, accumulated micro-batches and two processes make the same update."""

import importlib.util
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fresh_process import run_script
from safetensors.torch import load_file

from rrec_lib.training import recpo_trainer as trainer_module

SCRIPT = Path(__file__).with_name("distributed_step.py")
SETTINGS = [
    {},
    {"training.token_normalization": "batch"},
    {"training.token_normalization": "constant", "training.item_negatives": 8, "training.logq_correction": True},
    {"training.advantage": "rloo", "training.token_normalization": "sum"},
    {"training.item_softmax": "catalogue", "training.item_negatives": 8},
]
# Float32 rounding: item prompts are packed differently, and 1/τ = 50 amplifies it. Measured: below 5e-6.
TOLERANCE = 1e-5

spec = importlib.util.spec_from_file_location("distributed_step", SCRIPT)
assert spec
assert spec.loader
distributed_step = importlib.util.module_from_spec(spec)
spec.loader.exec_module(distributed_step)


def distance(moved, reference):
    """Norm of the difference over the norm, all LoRA weights together."""
    flat = [torch.cat([weights[name].flatten() for name in sorted(reference)]) for weights in (moved, reference)]
    assert flat[1].norm() > 0.1
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def launch_two(*command):
    """What `accelerate launch` starts, without the launcher, which ``tests/core/test_processes.py`` tries."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}

    def start(rank):
        return run_script(*command, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2", **shared)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(start, range(2)))


def steps_of_two(start, folder, settings):
    """Two processes with two micro-batches of a user each: weights' moves and log line, per setting and process."""
    layout = {"micro_batch_users": 1, "accumulation": 2}
    for done in start(SCRIPT, json.dumps(layout), json.dumps(settings), str(folder)):
        assert done.returncode == 0, done.stderr[-2000:]

    def read(index, process):
        path = folder / f"{index}-{process}.safetensors"
        return load_file(path), json.loads(path.with_suffix(".json").read_text())

    return read


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    return steps_of_two(launch_two, tmp_path_factory.mktemp("two"), SETTINGS)


def assert_same_step(read, index, whole, row):
    for process in (0, 1):
        moved, averaged = read(index, process)
        assert distance(moved, whole) < TOLERANCE
        for name in ("reward", "reasoning_tokens", "item_loss", "item_accuracy", "grad_norm", "item_table"):
            assert averaged[name] == pytest.approx(row[name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("index", range(len(SETTINGS)))
def test_layouts_make_the_same_update(two_processes, tmp_path, monkeypatch, index):
    monkeypatch.setattr(trainer_module, "sample_groups", distributed_step.fixed_rollouts)
    settings = SETTINGS[index]

    def step(**layout):
        return distributed_step.one_step(settings, tmp_path, **layout)

    whole, row = step(micro_batch_users=4, accumulation=1)
    assert distance(step(micro_batch_users=1, accumulation=4)[0], whole) < TOLERANCE
    assert_same_step(two_processes, index, whole, row)
    # The control has the same rollouts and weights of micro-batches, but each knows its own items alone. Items that are
    # drawn whatever the targets are the same for all, so there it changes nothing.
    apart = distance(step(micro_batch_users=2, accumulation=2, control=True)[0], whole)
    assert apart < TOLERANCE if settings.get("training.item_softmax") == "catalogue" else apart > 100 * TOLERANCE


def test_settings_matter(two_processes):
    """What the layouts agree on is not the same for every setting."""
    for index in range(1, len(SETTINGS)):
        assert distance(two_processes(index, 0)[0], two_processes(0, 0)[0]) > 100 * TOLERANCE


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed: pip install deepspeed")
def test_deepspeeds_zero_2_makes_the_same_update(launch, tmp_path):
    """DeepSpeed's own engine; on a CPU gloo carries its messages, for which it compiles a module once."""
    settings = [{}, {"training.item_softmax": "catalogue", "training.item_negatives": 8}]

    def start(script, *arguments):
        return [launch(2, str(script), *arguments, zero=2, timeout=900)]

    read = steps_of_two(start, tmp_path / "zero", settings)
    for index, setting in enumerate(settings):
        whole, row = distributed_step.one_step(setting, tmp_path, micro_batch_users=4, accumulation=1)
        assert_same_step(read, index, whole, row)
        apart = distributed_step.one_step(setting, tmp_path, micro_batch_users=2, accumulation=1)[0]  # half the users
        assert distance(read(index, 0)[0], apart) > 100 * TOLERANCE
