"""Encoding a catalogue of 5,000 items: what share of the matrix peak is reached."""

from collections.abc import Sequence

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
    unrounded,
)

from rrec_lib.core import hardware
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.encode import common_prefix, encode
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_items

ITEMS = 5000


def levers(policy: Policy, sequences: Sequence[Sequence[int]]) -> dict[str, float]:
    """How much longer it takes without each saving."""
    size = max(1, hardware.batch_tokens(policy.device) // max(map(len, sequences)))

    def as_they_come() -> None:
        for start in range(0, len(sequences), size):
            encode(policy, sequences[start : start + size])

    rivals = {
        "all": lambda: encode(policy, sequences),
        "shared_prefix": lambda: encode(policy, [*sequences, sequences[0][:1]]),  # with one of a token none is shared
        "sorted_by_length": as_they_come,
        "weights_rounded_once": lambda: encode(unrounded(policy), sequences),
    }
    seconds = in_turn(rivals, 1)
    return {f"lever_{name}": of[0] / seconds["all"][0] for name, of in seconds.items() if name != "all"}


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
