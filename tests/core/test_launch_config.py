"""The shipped `accelerate` configurations: parsed by Accelerate itself, and followed as far as a CPU allows.

Sharding needs GPUs, so here each configuration goes through the checks of `accelerate launch`, and the plugin objects
are built from the environment that the launched processes would get.
"""

import importlib.util
import subprocess
import sys

import pytest
import torch
from accelerate import DeepSpeedPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_simple_launcher_cmd_env,
)

from rrec_lib.core.processes import launch_config
from rrec_lib.training.configuration import recpo_config

CONFIGS = {
    "one_gpu": (DistributedType.NO, 1),
    "four_gpus_zero2": (DistributedType.DEEPSPEED, 4),
}


def launched(name):
    """Arguments and environment of the processes that `accelerate launch` would start."""
    command = ["--config_file", str(launch_config(name)), "-m", "rrec_lib.cli", "train"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return arguments, prepare_deepspeed_cmd_env(arguments)[1]
    return arguments, prepare_simple_launcher_cmd_env(arguments)[1]


@pytest.fixture
def environment(monkeypatch):
    def enter(name):
        for key, value in launched(name)[1].items():
            if key.startswith("ACCELERATE_"):
                monkeypatch.setenv(key, value)

    return enter


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_each_configuration(name):
    config = load_config_from_file(str(launch_config(name)))
    assert (config.distributed_type, config.num_processes) == CONFIGS[name]
    assert config.use_cpu is False
    arguments, environment = launched(name)
    assert arguments.num_processes == CONFIGS[name][1]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    assert environment.get("ACCELERATE_USE_DEEPSPEED", "false") == str(name == "four_gpus_zero2").lower()


def test_a_misspelt_key_is_refused_by_accelerate(tmp_path):
    text = launch_config("one_gpu").read_text(encoding="utf-8").replace("num_processes", "num_proceses")
    (tmp_path / "wrong.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(tmp_path / "wrong.yaml"))


def test_an_unknown_configuration_names_the_choices():
    with pytest.raises(ValueError, match="unknown launch configuration 'tpu'; choose one of four_gpus_zero2, one_gpu"):
        launch_config("tpu")


def test_zero_2_reaches_the_deepspeed_plugin(environment, smoke_profile, tmp_path):
    config = recpo_config(smoke_profile, tmp_path)
    environment("four_gpus_zero2")
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == 2
    assert plugin.deepspeed_config["zero_optimization"]["offload_optimizer"]["device"] == "none"
    wanted = {
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_clipping": config.max_grad_norm,
        "train_micro_batch_size_per_gpu": config.per_device_train_batch_size,
        "train_batch_size": config.per_device_train_batch_size * 4,
        "fp16.enabled": config.fp16,
        "bf16.enabled": config.bf16,
    }
    plugin.set_mixed_precision("no")
    plugin.deepspeed_config_process(must_match=True, **wanted)
    assert plugin.deepspeed_config["train_micro_batch_size_per_gpu"] == config.per_device_train_batch_size


def test_mixed_precision_by_deepspeed_would_contradict_recpos_own(environment, smoke_profile, tmp_path):
    config = recpo_config(smoke_profile, tmp_path)
    environment("four_gpus_zero2")
    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision("bf16")
    with pytest.raises(ValueError, match=r"bf16\.enabled"):
        plugin.deepspeed_config_process(
            must_match=True, **{"bf16.enabled": config.bf16, "train_batch_size": 1, "gradient_clipping": 1.0,
                                "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1},
        )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONFIGS)
def test_each_configuration_trains(name, tmp_path):
    processes = CONFIGS[name][1]
    if torch.cuda.device_count() < processes:
        pytest.skip(f"needs {processes} CUDA GPU(s), {torch.cuda.device_count()} found")
    if name == "four_gpus_zero2" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("needs deepspeed: pip install deepspeed")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_config(name)), "-m"]
    run = ["rrec_lib.cli", "train", "--profile", "smoke", "--stage", "recpo", "--out", str(tmp_path)]
    run += ["--set", "training.users_per_step=8", "--set", "training.users_at_once=1"]
    done = subprocess.run(command + run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "recpo-adapter").is_dir()
