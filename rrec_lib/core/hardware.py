"""The machine: device, arithmetic type (measured, not guessed), memory, and what of a step each process takes."""

import ctypes
import importlib.util
import os
import resource as process_resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from itertools import chain

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU = torch.device("cpu")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def device() -> torch.device:
    """CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(requested: str = "auto", seconds: float = 1.0) -> torch.dtype:
    """Choose the arithmetic type of matrix products.

    bfloat16 is several times faster than float32 on processors that multiply it in hardware, and hundreds of times
    slower on some that do not, so on a CPU it is measured for at most ``seconds``.

    Args:
        requested: ``"auto"`` or a key of :data:`DTYPES`.
        seconds: rough budget of the measurement.

    Raises:
        ValueError: for any other name.
    """
    if requested in DTYPES:
        return DTYPES[requested]
    if requested != "auto":
        raise ValueError(f"unknown dtype {requested!r}; choose auto, {', '.join(DTYPES)}")
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    rates = matmul_rates(seconds)
    return torch.bfloat16 if rates["bfloat16"] > 1.2 * rates["float32"] else torch.float32


@lru_cache(maxsize=2)
def matmul_rates(seconds: float = 1.0, where: torch.device = CPU) -> dict[str, float]:
    """Measure matrix products per type, in GFLOP/s a thread: a small size first, larger ones if time allows.

    The best of many repeats counts, and of all sizes: a busy machine makes single ones slow, none too fast. Types take
    turns, on one thread: several wait for each other, and where another process has a core none of them is fast.
    """
    rates, running, threads = dict.fromkeys(DTYPES, 0.0), list(DTYPES), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in (256, 1024, 4096):
            matrices = {name: torch.ones(size, size, dtype=DTYPES[name], device=where) for name in running}
            times = {name: list[float]() for name in running}
            start, budget = time.perf_counter(), len(running) * seconds / 8
            while any(len(took) < 3 for took in times.values()) or time.perf_counter() - start < budget:
                for name, a in matrices.items():
                    times[name].append(_time(partial(torch.mm, a, a)))
            rates |= {name: max(rates[name], 2 * size**3 / min(times[name]) / 1e9) for name in running}
            # How long one product of the larger size would take.
            running = [name for name in running if min(times[name]) * 64 <= seconds / 8]
    finally:
        torch.set_num_threads(threads)
    return rates


def _time(work: Callable[[], object]) -> float:
    start = now()
    work()
    return now() - start


def synchronize() -> None:
    """Wait until a GPU has done what it was given: a clock that is read before measures the giving alone."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def now() -> float:
    """Seconds of a clock that waits for the GPU; the difference of two is what the work between them took."""
    synchronize()
    return time.perf_counter()


def spent() -> float:
    """Seconds of a clock for what work costs: this process's processor time, or what passes where a GPU works."""
    return now() if torch.cuda.is_available() else time.process_time()


def send(lists: Sequence[Sequence[int]], where: torch.device) -> tuple[torch.Tensor, ...]:
    """Lists of whole numbers as tensors on a device, by one copy, which nothing waits for."""
    values = torch.tensor(list(chain.from_iterable(lists)), dtype=torch.long, pin_memory=where.type == "cuda")
    return values.to(where, non_blocking=True).split([len(numbers) for numbers in lists])


def batch_tokens(where: torch.device) -> int:
    """How many tokens to encode at once: as many as stay in a CPU's caches, or keep an accelerator busy."""
    return 1024 if where.type == "cpu" else 16_384


def autocast(dtype: torch.dtype, where: torch.device) -> AbstractContextManager[None]:
    """Matrix products in ``dtype``, the residual stream in float32; nothing to do for float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(where.type, dtype=dtype)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free, for those to come; another C library is left as it is.

    By default it now and then falls into giving every large block back to the system, which has to find and clear the
    pages of the next one: up to a third of a training step's CPU time on a virtual machine. Blocks of more than 32 MB
    still go back at once.
    """
    mallopt = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_mb() -> float:
    """Peak memory so far in MB: the GPU's if there is one, else this process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = process_resource.getrusage(process_resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def needs_loss_scaling(requested: str) -> bool:
    """Whether a GPU multiplies in float16, whose small gradients vanish unless the loss is scaled up.

    On a CPU nothing is scaled: bfloat16 is there for training, float16 for trying what a T4 computes.
    """
    return torch.cuda.is_available() and choose_dtype(requested) == torch.float16


def check_optimizer(name: str) -> str:
    """Return an optimiser's name if its package is here.

    Args:
        name: one of Transformers' names, such as ``"adamw_torch"`` or ``"paged_adamw_8bit"``.

    Raises:
        ValueError: for a name that Transformers doesn't know, or an 8-bit or paged optimiser without bitsandbytes.
    """
    from transformers.training_args import OptimizerNames

    if name not in {known.value for known in OptimizerNames}:
        raise ValueError(
            f"training.optimizer takes a name of Transformers', such as adamw_torch or adafactor, got {name!r}"
        )
    if any(word in name for word in ("8bit", "paged", "bnb")) and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"optim {name!r} needs bitsandbytes, which is not installed: `pip install bitsandbytes` on a"
            " machine with a CUDA GPU, or use adamw_torch, which keeps its state in float32"
        )
    return name


def users_of_a_process(
    users_per_step: int, users_at_once: int | None = None, processes: int | None = None
) -> tuple[int, int]:
    """Share a step's users among processes.

    Args:
        users_per_step: of all processes together.
        users_at_once: in one pass of one process; None for all that it gets.
        processes: as many as were launched, if not given.

    Returns:
        Users in one pass, and how many passes are accumulated.

    Raises:
        ValueError: unless they can be shared equally.
    """
    processes = processes or int(os.environ.get("WORLD_SIZE", "1"))  # as every launcher says it
    at_once = users_at_once or users_per_step // processes
    if at_once < 1 or users_per_step % (processes * at_once):
        raise ValueError(
            f"users_per_step {users_per_step} can't be shared equally by {processes} processes"
            f" of {max(at_once, 1)} users at once; change training.users_per_step or training.users_at_once"
        )
    return at_once, users_per_step // (processes * at_once)
