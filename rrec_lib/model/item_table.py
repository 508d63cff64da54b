"""The item table: one state per item, which ``rec_head`` scores; made once and kept in the cache folder."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from rrec_lib.core.paths import cache_dir, replacing
from rrec_lib.core.reading import read_tensors
from rrec_lib.model.encode import encode
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_items


def item_table(policy: Policy, items: Sequence[Mapping[str, Any]], use_cache: bool = True) -> Tensor:
    """The item embeddings of a catalogue, without gradients.

    Args:
        policy: trained or not.
        items: N rows of the catalogue, in its order.
        use_cache: read it from disk, or keep it there, under the hash of the weights, the prompts and the catalogue.

    Returns:
        (N, d) float32 states, on the policy's device.
    """
    sequences = encode_items(policy.tokenizer, items)
    if not use_cache:
        return encode(policy, sequences, description="encoding items")
    digest = hashlib.sha256(f"{policy.fingerprint} {sequences}".encode())
    path = cache_dir() / "item_tables" / f"{digest.hexdigest()[:32]}.safetensors"
    if path.is_file():
        return read_tensors(path, "states")["states"].to(policy.device)
    states = encode(policy, sequences, description="encoding items")
    with replacing(path) as temporary:
        save_file({"states": states.cpu().contiguous()}, temporary)
    return states
