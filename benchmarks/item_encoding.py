"""Encoding a catalogue of 5,000 items: what share of the matrix peak is reached."""

import time

import torch
from common import finish, linear_flops, load, machine, options, spread

from rrec_lib.data.examples import prepare_profile
from rrec_lib.policy import common_prefix, encode
from rrec_lib.profiles import load_profile
from rrec_lib.prompts import encode_items

ITEMS = 5000


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
        start = time.perf_counter()
        encode(policy, part)
        seconds = time.perf_counter() - start
        prefix = common_prefix(part)
        tokens = prefix + sum(len(sequence) - prefix for sequence in part)  # those that are computed, no padding
        rates.append(len(part) / seconds)
        shares.append(linear_flops(policy) * tokens / seconds / 1e9 / limits["matrix_gflops"])
        print(
            f"{len(part)} items in {seconds:.2f} s, {shares[-1]:.0%} of {limits['matrix_gflops']:.0f} GFLOP/s",
            flush=True,
        )
    some = parts[0][:200]
    figures = {
        "dtype": str(policy.compute_dtype),
        "machine": limits,
        "items": len(items),
        "items_per_second": spread(rates),
        "lever_shared_prefix_tokens": sum(map(len, some)) / sum(len(s) - common_prefix(some) for s in some),
    }
    finish("item_encoding", shares, figures, chosen)


if __name__ == "__main__":
    main()
