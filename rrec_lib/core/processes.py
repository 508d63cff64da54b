"""Several processes: how they are launched, which layouts can train, and what the main one decides for all."""

import os
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import DeepSpeedPlugin
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from transformers import TrainingArguments

T = TypeVar("T")

_DIVIDING = {  # what launchers put into the environment
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}


def of_main(value: T) -> T:
    """The main process's value; every process has to ask for it."""
    return broadcast_object_list([value])[0]


def check_launch(arguments: TrainingArguments | None = None) -> None:
    """Refuse layouts of processes that can't train here.

    Args:
        arguments: a trainer's; without them the launcher's environment is asked, before any work is done.

    Raises:
        ValueError: for weights that are divided among processes, and for several GPUs in one process.
    """
    divided = next((words for name, words in _DIVIDING.items() if parse_flag_from_env(name)), None)
    if getattr(arguments, "fsdp", None):
        divided = "FSDP"
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if arguments is None and parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        plugin = DeepSpeedPlugin()
    if plugin is not None and plugin.hf_ds_config.is_zero3():
        divided = "DeepSpeed ZeRO-3"
    if divided is not None:
        raise ValueError(
            f"{divided} divides the weights among processes, and sampling and item states need them whole; launch with"
            " rrec_lib/core/accelerate/four_gpus_zero2.yaml, which divides gradients and optimiser state alone"
        )
    launched = "LOCAL_RANK" in os.environ
    gpus = arguments.n_gpu if arguments is not None else 1 if launched else torch.cuda.device_count()
    if gpus > 1:
        raise ValueError(
            f"{gpus} GPUs in one process would each get a slice of a batch, which tears its groups apart; start a"
            f" process per GPU, `accelerate launch --multi_gpu --num_processes {gpus} -m rrec_lib.cli train ...`, or"
            " use one GPU: set CUDA_VISIBLE_DEVICES=0 before Python starts (in a notebook, in its first cell after a"
            " restart)"
        )


def launch_config(name: str) -> Path:
    """A configuration for ``accelerate launch --config_file``.

    Args:
        name: ``"one_gpu"`` or ``"four_gpus_zero2"`` (DeepSpeed).

    Raises:
        ValueError: for any other name.
    """
    folder = Path(__file__).parent / "accelerate"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ValueError(f"unknown launch configuration {name!r}; choose one of {', '.join(known)}")
    return folder / f"{name}.yaml"
