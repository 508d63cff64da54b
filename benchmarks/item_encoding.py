"""Encoding a catalogue of 5,000 items: what share of the matrix peak is reached."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

import torch
from common import (
    FLOPS,
    finish,
    forward_flops,
    in_turn,
    load,
    machine,
    options,
    pairs_behind,
    spread,
    unrounded_weights,
)

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model import encode as encode_module
from rrec_lib.model.encode import common_prefix, encode
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_items

ITEMS = 5000


def levers(policy: Policy, sequences: Sequence[Sequence[int]]) -> dict[str, float]:
    """How much longer it takes without each saving."""
    without: dict[str, AbstractContextManager[object]] = {
        "all": nullcontext(),
        "shared_prefix": mock.patch.object(encode_module, "common_prefix", return_value=0),
        "sorted_by_length": mock.patch.object(encode_module, "sorted", lambda numbers, key: list(numbers), create=True),
        "weights_rounded_once": unrounded_weights(),
    }
    seconds = {}
    for name, change in without.items():
        with change:
            seconds[name] = in_turn({name: lambda: encode(policy, sequences)}, 1)[name][0]
    return {f"lever_{name}": value / seconds["all"] for name, value in seconds.items() if name != "all"}


def main() -> None:
    chosen = options(__doc__)
    _, policy = load(chosen.quick)
    name, overrides = ("smoke", {}) if chosen.quick else ("cpu", {"data.catalogue_size": ITEMS, "data.k_core": 1})
    items = list(prepare_profile(load_profile(name, overrides))["items"])[:ITEMS]
    sequences = encode_items(policy.tokenizer, items)
    order = torch.randperm(len(sequences)).tolist()
    parts = [[sequences[i] for i in order[start :: chosen.rounds]] for start in range(chosen.rounds)]
    encode(policy, parts[0][:64])
    shares, rates = [], []
    for part in parts:  # together the whole catalogue
        limits = machine(policy.compute_dtype, chosen.quick)
        seconds = in_turn({"encode": lambda part=part: encode(policy, part)}, 1, warm_up=False)["encode"][0]  # type: ignore[misc]
        prefix = common_prefix(part)
        own = [len(sequence) - prefix for sequence in part]
        flops = forward_flops(
            policy, prefix + sum(own), pairs_behind(0, prefix) + sum(pairs_behind(prefix, length) for length in own)
        )
        rates.append(len(part) / seconds)
        shares.append(flops / seconds / 1e9 / limits["matrix_gflops"])
        print(
            f"{len(part)} items in {seconds:.2f} s, {shares[-1]:.0%} of {limits['matrix_gflops']:.0f} GFLOP/s",
            flush=True,
        )
    figures = {
        "dtype": str(policy.compute_dtype),
        "machine": limits,
        "flops": FLOPS,
        "items": len(items),
        "items_per_second": spread(rates),
        **levers(policy, parts[0][:200]),
    }
    finish("item_encoding", shares, figures, chosen)


if __name__ == "__main__":
    main()
