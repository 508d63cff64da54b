"""An answer's values on their way out of the process that runs it: JSON, since reading a pickle runs what is in it."""

import base64
import json
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch

PLAIN = (bool, int, float, str, type(None))
DTYPES = {name: kind for name, kind in vars(torch).items() if isinstance(kind, torch.dtype)}


def dumps(value: Any, keep: Callable[[Any], int]) -> bytes:
    """Write a value.

    Args:
        keep: remembers a function, or a tensor with a gradient, which stay where they are, and returns its number.

    Raises:
        TypeError: if the value, or a part of it, is of a kind that has no place here.
    """
    return json.dumps(_tree(value, keep)).encode()


def loads(data: bytes, function: Callable[[int], Any], tensor: Callable[[int, torch.Tensor], Any]) -> Any:
    """Read a value; ``function`` and ``tensor`` make what stands for something kept, from its number."""

    def value(tree: Any) -> Any:
        if isinstance(tree, PLAIN):
            return tree
        ((kind, content),) = tree.items()
        match kind:
            case "list" | "tuple" | "set":
                return {"list": list, "tuple": tuple, "set": set}[kind](value(part) for part in content)
            case "dict":
                return {value(key): value(part) for key, part in content}
            case "array":
                return _array(*content)
            case "tensor":
                name, numbers, kept = content
                read = torch.from_numpy(_array(*numbers)).to(DTYPES[name])
                return read if kept is None else tensor(kept, read)
            case "frame":
                return pd.DataFrame({value(name): value(column) for name, column in content})
            case "series":
                return pd.Series(value(content))
            case "fraction":
                return Fraction(*content)
            case "complex":
                return complex(*content)
            case "ellipsis":
                return ...
            case "function":
                return function(content)
        raise ValueError(f"no value of kind {kind!r}")

    return value(json.loads(data))


def _tree(value: Any, keep: Callable[[Any], int]) -> Any:
    def parts(values: Iterable[Any]) -> list[Any]:
        return [_tree(part, keep) for part in values]

    match value:
        case np.generic():
            return _tree(value.item(), keep)
        case bool() | int() | float() | str() | None:
            return value
        case torch.Tensor():
            kept = keep(value) if value.requires_grad else None
            read = value.detach().cpu()
            exact = read.to(torch.float64) if read.dtype in (torch.bfloat16, torch.float16) else read
            return {"tensor": [str(read.dtype).removeprefix("torch."), _flat(exact.numpy()), kept]}
        case np.ndarray() if value.dtype.kind in "biufc":
            return {"array": _flat(value)}
        case pd.DataFrame():
            return {"frame": [[_tree(name, keep), _tree(value[name].tolist(), keep)] for name in value]}
        case pd.Series():
            return {"series": _tree(value.tolist(), keep)}
        case np.ndarray() | pd.Index():
            return _tree(value.tolist(), keep)
        case tuple():
            return {"tuple": parts(value)}
        case set() | frozenset():
            return {"set": parts(value)}
        case dict():
            return {"dict": [parts(pair) for pair in value.items()]}
        case Fraction():
            return {"fraction": [value.numerator, value.denominator]}
        case complex():
            return {"complex": [value.real, value.imag]}
        case _ if value is ...:
            return {"ellipsis": 0}
        case _ if callable(value):
            return {"function": keep(value)}
        case Iterable():
            return {"list": parts(value)}
    raise TypeError(f"an answer can't hold a {type(value).__name__}; use numbers, text, tensors, or lists of them")


def _flat(array: np.ndarray) -> list[Any]:
    return [array.dtype.str, list(array.shape), base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()]


def _array(kind: str, shape: list[int], content: str) -> np.ndarray:
    if np.dtype(kind).kind not in "biufc":
        raise ValueError(f"no array of {kind!r}")
    return np.frombuffer(base64.b64decode(content), dtype=kind).reshape(shape).copy()
