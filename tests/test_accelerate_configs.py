"""The shipped `accelerate` configurations: parsed by Accelerate itself, and followed as far as a CPU allows.

Sharding needs GPUs, so here each configuration goes through the checks of `accelerate launch`, and the plugin objects
are built from the environment that the launched processes would get.
"""

import importlib.util
import subprocess
import sys

import pytest
import torch
from accelerate import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)

from rrec_lib.hardware import launch_config
from rrec_lib.policy import language_model, load_policy
from rrec_lib.trainer import recpo_config

CONFIGS = {
    "one_gpu": (DistributedType.NO, 1),
    "four_gpus_zero2": (DistributedType.DEEPSPEED, 4),
    "four_gpus_fsdp": (DistributedType.FSDP, 4),
}


def launched(name):
    """Arguments and environment of the processes that `accelerate launch` would start."""
    command = ["--config_file", str(launch_config(name)), "-m", "rrec_lib.cli", "train"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return arguments, prepare_deepspeed_cmd_env(arguments)[1]
    if arguments.use_fsdp:
        return arguments, prepare_multi_gpu_env(arguments)
    return arguments, prepare_simple_launcher_cmd_env(arguments)[1]


@pytest.fixture
def environment(monkeypatch):
    def enter(name):
        for key, value in launched(name)[1].items():
            if key.startswith(("ACCELERATE_", "FSDP_")):
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
    assert environment.get("ACCELERATE_USE_FSDP", "false") == str(name == "four_gpus_fsdp").lower()


def test_a_misspelt_key_is_refused_by_accelerate(tmp_path):
    text = launch_config("one_gpu").read_text(encoding="utf-8").replace("num_processes", "num_proceses")
    (tmp_path / "wrong.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(tmp_path / "wrong.yaml"))


def test_an_unknown_configuration_names_the_choices():
    with pytest.raises(ValueError, match="unknown launch configuration 'tpu'; choose one of four_gpus_fsdp"):
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


def test_fsdp_wraps_each_decoder_layer(environment, smoke_profile):
    environment("four_gpus_fsdp")
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert not plugin.cpu_offload or not getattr(plugin.cpu_offload, "offload_params", False)
    policy = load_policy(smoke_profile.model)
    plugin.set_auto_wrap_policy(policy.model)
    wraps = fsdp2_prepare_auto_wrap_policy(plugin, policy.model)
    layers = list(language_model(policy.model).get_decoder().layers)
    assert [module for module in policy.model.modules() if wraps(module)] == layers


SHARDED = """
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from rrec_lib.packing import pack, packed_forward
from rrec_lib.policy import language_model, load_policy
from rrec_lib.profiles import load_profile

dist.init_process_group("gloo", init_method="file://{store}", rank=0, world_size=1)
model = load_policy(load_profile("smoke").model).model
for parameter in model.parameters():
    if not parameter.requires_grad:  # as on a GPU: frozen weights in bfloat16, LoRA in float32
        parameter.data = parameter.data.bfloat16()
    else:
        parameter.data += 0.01
groups = pack([[3, 4, 5], [6, 7]], [[8, 9], [10, 11, 12], [13, 14], [15, 16]], [2, 3, 2, 2], 0, torch.device("cpu"))

def gradient():
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        output = packed_forward(model, groups)
        (output.logprobs.sum() + output.states.sum()).backward()
    whole = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in model.parameters()
             if p.grad is not None]
    return torch.cat([g.flatten() for g in whole])

plain = gradient()
mesh = init_device_mesh("cpu", (1,))
for layer in language_model(model).get_decoder().layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
torch.testing.assert_close(gradient(), plain)
assert plain.abs().sum() > 0
"""


def test_a_fully_sharded_model_gives_the_same_gradient(tmp_path):
    """Frozen bfloat16 weights beside float32 LoRA, which the first version of FSDP could not hold together."""
    script = SHARDED.replace("{store}", str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


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
