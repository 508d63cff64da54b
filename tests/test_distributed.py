"""One large batch, accumulated micro-batches and two processes make the same update."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rrec_lib import trainer as trainer_module

SCRIPT = Path(__file__).with_name("distributed_step.py")
SETTINGS = [
    {},
    {"token_normalization": "batch"},
    {"token_normalization": "constant", "extra_negatives": 8, "logq_correction": True},
    {"advantage": "rloo", "token_normalization": "sum"},
    {"item_softmax": "catalogue", "extra_negatives": 8},
]
# Float32 rounding: item prompts are packed differently, and 1/τ = 50 amplifies it. Measured: below 5e-6.
TOLERANCE = 1e-5

spec = importlib.util.spec_from_file_location("distributed_step", SCRIPT)
distributed_step = importlib.util.module_from_spec(spec)
spec.loader.exec_module(distributed_step)


def distance(moved, reference):
    """Norm of the difference over the norm, all LoRA weights together."""
    flat = [torch.cat([weights[name].flatten() for name in sorted(reference)]) for weights in (moved, reference)]
    assert flat[1].norm() > 0.1
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Two processes with two micro-batches of a user each: weights' moves and log line, per setting and process."""
    folder = tmp_path_factory.mktemp("two")
    layout = {"micro_batch_users": 1, "accumulation": 2}
    configuration = folder / "two.yaml"  # `accelerate launch --cpu --num_processes 2` alone starts one process
    configuration.write_text(
        "{distributed_type: MULTI_GPU, use_cpu: true, num_machines: 1, num_processes: 2, main_process_port: 0,"
        " mixed_precision: 'no'}"
    )
    command = ["-m", "accelerate.commands.launch", "--config_file", str(configuration), str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
    subprocess.run(
        [sys.executable, *command, json.dumps(layout), json.dumps(SETTINGS), str(folder)],
        check=True, env=environment, timeout=300,
    )  # fmt: skip

    def read(index, process):
        path = folder / f"{index}-{process}.safetensors"
        return load_file(path), json.loads(path.with_suffix(".json").read_text())

    return read


@pytest.mark.parametrize("index", range(len(SETTINGS)))
def test_layouts_make_the_same_update(two_processes, tmp_path, monkeypatch, index):
    monkeypatch.setattr(trainer_module, "sample_groups", distributed_step.fixed_rollouts)
    settings = SETTINGS[index]

    def step(**layout):
        return distributed_step.one_step(settings, tmp_path, **layout)

    whole, row = step(micro_batch_users=4, accumulation=1)
    assert distance(step(micro_batch_users=1, accumulation=4)[0], whole) < TOLERANCE
    for process in (0, 1):
        moved, averaged = two_processes(index, process)
        assert distance(moved, whole) < TOLERANCE
        for name in ("reward", "reasoning_tokens", "item_loss", "item_accuracy", "grad_norm", "item_table"):
            assert averaged[name] == pytest.approx(row[name], rel=1e-4, abs=1e-5), name
    # The control has the same rollouts and weights of micro-batches, but each knows its own items alone. Items that are
    # drawn whatever the targets are the same for all, so there it changes nothing.
    apart = distance(step(micro_batch_users=2, accumulation=2, control=True)[0], whole)
    assert apart < TOLERANCE if settings.get("item_softmax") == "catalogue" else apart > 100 * TOLERANCE


def test_settings_matter(two_processes):
    """What the layouts agree on is not the same for every setting."""
    for index in range(1, len(SETTINGS)):
        assert distance(two_processes(index, 0)[0], two_processes(0, 0)[0]) > 100 * TOLERANCE
