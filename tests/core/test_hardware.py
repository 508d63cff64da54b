"""The machine: which arithmetic type is chosen, on what grounds, and how it is overridden."""

import ctypes
import subprocess
import sys

import pytest
import torch

from rrec_lib.core import hardware


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("bfloat16", "chosen"), [(400.0, torch.bfloat16), (110.0, torch.float32), (1.0, torch.float32)]
)
def test_the_arithmetic_type_is_the_faster_one(no_gpu, monkeypatch, bfloat16, chosen):
    monkeypatch.setattr(hardware, "matmul_rates", lambda seconds: {"float32": 100.0, "bfloat16": bfloat16})
    assert hardware.choose_dtype("auto") == chosen


@pytest.mark.parametrize("name", hardware.DTYPES)
def test_an_override_is_not_measured(monkeypatch, name):
    monkeypatch.setattr(hardware, "matmul_rates", lambda seconds: pytest.fail("measured although it was told"))
    assert hardware.choose_dtype(name) == hardware.DTYPES[name]


def test_an_unknown_type_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown dtype 'int8'; choose auto, float32, bfloat16, float16"):
        hardware.choose_dtype("int8")


@pytest.mark.parametrize(("supported", "chosen"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_is_asked_what_it_supports(monkeypatch, supported, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert hardware.choose_dtype("auto") == chosen


@pytest.mark.parametrize(
    ("gpu", "bfloat16", "requested", "scaled"),
    [
        (True, False, "auto", True),  # a T4
        (True, True, "auto", False),  # Ampere and later
        (True, False, "float32", False),
        (True, True, "float16", True),
        (False, False, "float16", False),
    ],
)
def test_only_float16_on_a_gpu_has_its_loss_scaled(monkeypatch, gpu, bfloat16, requested, scaled):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    assert hardware.needs_loss_scaling(requested) is scaled


@pytest.mark.parametrize("name", ["paged_adamw_8bit", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit"])
def test_an_optimiser_without_its_package_is_refused_with_the_remedy(monkeypatch, name):
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=f"'{name}' needs bitsandbytes.*pip install bitsandbytes.*adamw_torch"):
        hardware.check_optimizer(name)
    assert hardware.check_optimizer("adamw_torch") == "adamw_torch"
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda package: object())
    assert hardware.check_optimizer(name) == name


def test_an_unknown_optimiser_is_refused_by_name():
    with pytest.raises(ValueError, match=r"training.optimizer takes a name of Transformers'.*, got 'adam'"):
        hardware.check_optimizer("adam")


def test_interrupted_repeats_do_not_decide_the_arithmetic_type(monkeypatch):
    """A busy machine made float32 products look slow, and bfloat16 was chosen where it is far slower."""
    calls = []

    def timed(work):
        calls.append(work)
        if len(calls) % 4:  # three of four are interrupted, whichever type's turn it is
            return 1.0
        return 1e-6 if work.args[0].dtype == torch.float32 else 1e-2

    monkeypatch.setattr(hardware, "_time", timed)
    hardware.matmul_rates.cache_clear()
    rates = hardware.matmul_rates()
    hardware.matmul_rates.cache_clear()
    assert rates["float32"] > 100 * rates["bfloat16"] > 0


def test_types_take_turns_on_one_thread(monkeypatch):
    turns, before = [], torch.get_num_threads()

    def timed(work):
        turns.append((work.args[0].dtype, torch.get_num_threads()))
        return 1.0

    monkeypatch.setattr(hardware, "_time", timed)
    hardware.matmul_rates.cache_clear()
    torch.set_num_threads(2)
    try:
        hardware.matmul_rates(0.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        hardware.matmul_rates.cache_clear()
    assert turns == 3 * [(dtype, 1) for dtype in hardware.DTYPES.values()]


def test_rates_are_measured():
    rates = hardware.matmul_rates()
    assert set(rates) == set(hardware.DTYPES)  # whatever a profile computes in
    assert all(rate > 0 for rate in rates.values())
    assert hardware.peak_memory_mb() > 50


def test_a_clock_waits_for_the_gpu_alone(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    for where, waits in (("cpu", 0), ("cuda", 1)):
        monkeypatch.setattr(hardware, "device", lambda where=where: torch.device(where))
        before = hardware.now()
        assert hardware.now() >= before
        assert len(waited) == 2 * waits


def test_autocast_multiplies_in_the_type_and_leaves_float32_alone():
    a, cpu = torch.ones(2, 2), torch.device("cpu")
    with hardware.autocast(torch.bfloat16, cpu):
        assert (a @ a).dtype == torch.bfloat16
        assert (a + (a @ a)).dtype == torch.float32  # what a residual stream does
    with hardware.autocast(torch.float32, cpu):
        assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(
    ("users", "at_once", "processes", "shares"),
    [(24, None, 1, (24, 1)), (24, None, 4, (6, 1)), (24, 1, 4, (1, 6)), (24, 2, 3, (2, 4)), (2, 2, 1, (2, 1))],
)
def test_a_steps_users_are_shared_equally(monkeypatch, users, at_once, processes, shares):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert hardware.users_of_a_process(users, at_once) == shares
    assert processes * shares[0] * shares[1] == users
    monkeypatch.setenv("WORLD_SIZE", "7")
    assert hardware.users_of_a_process(users, at_once, processes) == shares


@pytest.mark.parametrize(("users", "at_once", "processes"), [(24, None, 5), (24, 5, 1), (24, 4, 4), (2, None, 4)])
def test_users_that_cannot_be_shared_equally_are_refused(users, at_once, processes):
    with pytest.raises(ValueError, match=f"users_per_step {users} can't be shared equally by {processes} processes"):
        hardware.users_of_a_process(users, at_once, processes)


PAGE_FAULTS = """
import ctypes, resource, sys, torch
from rrec_lib.core import hardware
ctypes.CDLL(None).mallopt(hardware.M_MMAP_THRESHOLD, 2**17)  # every block goes back at once
if sys.argv[1] == "kept":
    hardware.keep_freed_memory()
for _ in range(3):
    blocks = [torch.ones(20 * 2**20, dtype=torch.uint8) for _ in range(10)]
    del blocks
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = [torch.ones(20 * 2**20, dtype=torch.uint8) for _ in range(10)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_taken_again_without_new_pages():
    run = [subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], capture_output=True, text=True, check=True)
           for how in ("kept", "as it is")]  # fmt: skip
    kept, returned = (int(one.stdout) for one in run)
    assert kept < returned / 10, (kept, returned)
