"""A pretend accelerator: tensors whose numbers lie on the processor, but which say that they are on another device.

What goes wrong on a GPU alone goes wrong here too: mixing devices raises, ``.numpy()`` raises, a generator of the
processor can't draw on it. And it counts: how often the processor would have to wait (:attr:`Counts.waits`), and how
often something is copied to the device (:attr:`Counts.sent`).

It patches PyTorch for the whole process, by private parts of it; :func:`missing` says whether they are there. So it is
for a process of its own, such as ``pretend_run.py``: :func:`install` once, then work within :class:`Accelerator`.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
DEVICE: torch.device = torch.device("cpu")  # set by install
LIBRARY = str(Path(__file__).resolve().parents[2] / "rrec_lib")
CPU = torch.device("cpu")
CHOSEN = [CPU]  # the last is the device that the library takes
KEPT: list[Any] = []  # what PyTorch would forget with its object
aten = torch.ops.aten


class DeviceMixError(RuntimeError):
    """Tensors of two devices in one operation."""


@dataclass
class Counts:
    """What would have cost a GPU time, by the library's line; counted while ``on``."""

    on: bool = False
    waits: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)

    def note(self, counter: Counter[str], what: str) -> None:
        if self.on:
            frames = [f for f in traceback.extract_stack() if f.filename.startswith(LIBRARY)]
            counter[f"{what} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else what] += 1


COUNTS = Counts()


def missing() -> str | None:
    """The private part of PyTorch that is not there, or None if all are."""
    try:
        import torch.utils.backend_registration as registration

        registration._setup_privateuseone_for_python_backend  # noqa: B018
        registration._DummyBackendModule  # noqa: B018
        torch._C._acc.DeviceGuard  # noqa: B018
        torch.Tensor._make_wrapper_subclass  # noqa: B018
        torch.__future__.set_swap_module_params_on_conversion  # noqa: B018
    except (ImportError, AttributeError) as error:
        return f"PyTorch {torch.__version__} lacks what a pretend accelerator is made of: {error}"
    return None


class PretendTensor(torch.Tensor):
    """A tensor of the pretend device; ``held`` is the one of the processor that has its numbers."""

    held: torch.Tensor
    detach: Callable[[], "PretendTensor"]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "PretendTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # PyTorch's is annotated as what it is once bound
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]  # nobody gives contents to print
        return f"PretendTensor({self.held})"

    def __format__(self, spec: str) -> str:
        return format(self.detach().held, spec)

    def __reduce_ex__(self, protocol: Any) -> Any:  # pickled as the processor's
        return self.detach().held.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        COUNTS.note(COUNTS.waits, "tolist")
        return self.detach().held.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {NAME} device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy


# Operations that read a tensor's values on the processor, or make a result whose size depends on values.
_WAITING = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "_unique2",
    "unique_consecutive", "unique_dim", "bincount", "allclose",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_", "_unsafe_index_put"}
_COPYING = {"_to_copy", "copy_", "copy"}
# Beside elementwise operations, these take a single number from the processor too.
_SINGLE_NUMBER = {"masked_fill", "masked_fill_", "fill", "fill_", "index_fill", "index_fill_", "where"}


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the processor if CUDA would run it, and give its results the device that they would have."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    name = func.overloadpacket.__name__
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    if name in _COPYING:
        _count_copy(name, args, kwargs, asked)
    elif ours:
        _check(func, name, args, tensors)
        _count(name, args)
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Generator) and asked != "cpu":
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu' ({func})")
    plain_args, plain_kwargs = tree_map(lambda x: x.held if isinstance(x, PretendTensor) else x, (args, kwargs))
    if asked is not None:
        plain_kwargs["device"] = CPU
    if plain_kwargs.get("pin_memory"):
        plain_kwargs["pin_memory"] = False
    result = func(*plain_args, **plain_kwargs)
    for tensor in ours:  # a wrapper can't change its form
        assert (tensor.shape, tensor.dtype) == (tensor.held.shape, tensor.held.dtype), f"{func} is not pretended here"
    if name == "copy_":
        return args[0]
    if asked == "cpu" or not (asked == NAME or ours):
        return result
    known = {id(tensor.held): tensor for tensor in ours}  # what an operation in place returns

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else PretendTensor(value)

    return tree_map(wrapped, result)


def _check(func: Any, name: str, args: Any, tensors: list[torch.Tensor]) -> None:
    """Raise where CUDA would: tensors of the processor, but for single numbers and indices."""
    foreign = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    if name in _INDEXING:
        values = args[2] if len(args) > 2 else None
        wrong = not isinstance(args[0], PretendTensor)
        wrong |= isinstance(values, torch.Tensor) and not isinstance(values, PretendTensor) and values.dim() > 0
    else:
        single = torch.Tag.pointwise in func.tags or name in _SINGLE_NUMBER
        wrong = any(tensor.dim() > 0 or not single for tensor in foreign)
    if wrong:
        shapes = [tuple(tensor.shape) for tensor in foreign]
        raise DeviceMixError(f"Expected all tensors to be on the same device ({NAME}:0 and cpu {shapes} in {func})")


def _count(name: str, args: Any) -> None:
    if name == "multinomial":  # CUDA's looks at the probabilities twice before it draws
        COUNTS.note(COUNTS.waits, "multinomial's first look")
        COUNTS.note(COUNTS.waits, "multinomial's second look")
    if name == "where" and not all(isinstance(arg, PretendTensor) for arg in args):
        COUNTS.note(COUNTS.waits, "a tensor of the processor in where")  # copied there; elementwise operations read it
        COUNTS.note(COUNTS.sent, "a tensor of the processor in where")
    if name in _WAITING or (name == "repeat_interleave" and isinstance(args[0], torch.Tensor) and len(args) == 1):
        COUNTS.note(COUNTS.waits, name)
    if name in _INDEXING:
        given = [index for index in args[1] if index is not None]
        if any(index.dtype == torch.bool for index in given):
            COUNTS.note(COUNTS.waits, "a mask as index")
        elif any(not isinstance(index, PretendTensor) for index in given):
            COUNTS.note(COUNTS.waits, "indices of the processor")
            COUNTS.note(COUNTS.sent, "indices of the processor")


def _count_copy(name: str, args: Any, kwargs: dict[str, Any], asked: str | None) -> None:
    """A copy to the processor waits; one to the device does, unless it was asked not to."""
    if name == "_to_copy":
        source, target = (
            isinstance(args[0], PretendTensor),
            asked == NAME if asked else isinstance(args[0], PretendTensor),
        )
        waits = not kwargs.get("non_blocking")
    else:
        source, target = isinstance(args[1], PretendTensor), isinstance(args[0], PretendTensor)
        waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
    if target and not source:
        COUNTS.note(COUNTS.sent, "sent")
    if source != target and (source or waits):
        COUNTS.note(COUNTS.waits, "to the processor" if source else "sent")


class Accelerator(TorchDispatchMode):
    """Where operations run that make tensors on the device, or use them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        leaves = tree_leaves((args, kwargs))
        ours = asked is not None and torch.device(asked).type == NAME
        if ours or any(isinstance(leaf, PretendTensor) for leaf in leaves):
            return run(func, args, kwargs)
        return func(*args, **kwargs)


def install() -> None:
    """Make the device known to PyTorch, and the machine's own to the library, Transformers and Accelerate."""
    global DEVICE
    import torch.utils.backend_registration as registration

    class Guard(torch._C._acc.DeviceGuard):  # type: ignore[misc]
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1

    class Backend(registration._DummyBackendModule):  # type: ignore[misc]
        def manual_seed(self, seed: int) -> None: ...

        def manual_seed_all(self, seed: int) -> None: ...

        def get_rng_state(self, *device: Any) -> torch.Tensor:
            return torch.empty(0, dtype=torch.uint8)

        def set_rng_state(self, *state: Any) -> None: ...

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

        def synchronize(self, *device: Any) -> None: ...

        def empty_cache(self) -> None: ...

    registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend(), device_guard=Guard())
    DEVICE = torch.device(NAME, 0)
    CHOSEN.append(DEVICE)
    _patch_torch()
    _patch_others()


@contextmanager
def chosen(device: torch.device) -> Iterator[None]:
    """Let the library take another device for a while."""
    CHOSEN.append(device)
    try:
        yield
    finally:
        CHOSEN.pop()


def _patch_torch() -> None:
    """Functions that make tensors in C++, out of a dispatch mode's sight."""

    def is_ours(device: Any) -> bool:
        return device is not None and not callable(device) and torch.device(device).type == NAME

    def through_cpu(make: Any) -> Any:
        def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
            if not is_ours(device):
                return make(data, *args, device=device, **kwargs)
            return data.to(DEVICE) if isinstance(data, torch.Tensor) else make(data, *args, **kwargs).to(DEVICE)

        return made

    apply, future = torch.nn.Module._apply, torch.__future__

    def apply_by_swapping(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        before = future.get_swap_module_params_on_conversion()
        future.set_swap_module_params_on_conversion(True)  # to() assigns data, which a wrapper can't take
        try:
            return apply(self, *args, **kwargs)
        finally:
            future.set_swap_module_params_on_conversion(before)

    torch.nn.Module._apply = apply_by_swapping  # type: ignore[method-assign]
    torch.tensor, torch.as_tensor = through_cpu(torch.tensor), through_cpu(torch.as_tensor)
    load: Any = torch.load

    def load_here(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        found = load(*args, map_location="cpu" if is_ours(map_location) else map_location, **kwargs)
        return (
            tree_map(lambda x: x.to(DEVICE) if isinstance(x, torch.Tensor) else x, found)
            if is_ours(map_location)
            else found
        )

    torch.load = load_here
    operators = torch.library.Library("aten", "IMPL")
    KEPT.append(operators)

    def empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> PretendTensor:
        return PretendTensor(torch.empty_strided(size, stride, dtype=dtype))

    def empty(size: Any, dtype: Any = None, **_: Any) -> PretendTensor:
        return PretendTensor(torch.empty(size, dtype=dtype))

    def copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
        return run(aten.copy_.default, (target, source, non_blocking), {})

    for name, function in (("empty_strided", empty_strided), ("empty.memory_format", empty), ("_copy_from", copy_from)):
        operators.impl(name, function, "PrivateUse1")


def _patch_others() -> None:
    import accelerate
    import peft.peft_model
    import transformers

    from rrec_lib.core import hardware

    hardware.device = lambda: CHOSEN[-1]  # type: ignore[assignment]
    set_up = transformers.TrainingArguments.device.fget  # type: ignore[attr-defined]
    transformers.TrainingArguments.device = property(lambda self: (set_up(self), CHOSEN[-1])[1])  # type: ignore[assignment]
    accelerate.Accelerator.device = property(lambda self: CHOSEN[-1])  # type: ignore[assignment]
    states = (
        peft.peft_model.get_peft_model_state_dict
    )  # safetensors tells tensors apart by their memory; ours have none
    peft.peft_model.get_peft_model_state_dict = lambda *args, **kwargs: {  # type: ignore[assignment]
        name: value.cpu() for name, value in states(*args, **kwargs).items()
    }
