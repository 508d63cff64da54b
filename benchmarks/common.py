"""What the benchmarks share: the model, rivals in turn, the machine's limits, and the form of a result."""

import argparse
import json
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rrec_lib.core import hardware
from rrec_lib.core.profiles import Profile, load_profile
from rrec_lib.core.results import provenance, write_json
from rrec_lib.model.lora import language_model, merged_lora
from rrec_lib.model.policy import Policy, load_policy

THREADS = 2
FLOPS = (
    "the model's, nothing that padding adds: 2 x weights x tokens, and 4 x queries' width x layers x pairs of tokens"
)


def options(description: str | None) -> argparse.Namespace:
    """``--quick`` (tiny sizes on random weights, nothing written unless asked for), ``--rounds`` and ``--out``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes on random weights; only --out is written")
    parser.add_argument("--rounds", type=int, default=5, help="how often each rival runs")
    parser.add_argument("--out", type=Path, help="the result's file (default: in results/benchmarks)")
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    if chosen.quick:
        chosen.rounds = 1
    return chosen


def sizes(quick: bool) -> tuple[int, int, int, int]:
    """Users, group size, prompt tokens and new tokens."""
    return (2, 2, 16, 4) if quick else (8, 8, 128, 48)


def load(quick: bool) -> tuple[Profile, Policy]:
    """The profile and its policy: SmolLM2-135M, or random weights for a quick run."""
    profile = load_profile("smoke" if quick else "cpu")
    return profile, load_policy(profile.model, 0)


def random_prompts(policy: Policy, users: int, length: int) -> list[list[int]]:
    """Prompts of a fixed length; what stands in them does not matter to time."""
    return torch.randint(1000, 20_000, (users, length)).remainder(len(policy.tokenizer)).tolist()


class Unrounded(Policy):
    """Inference leaves the weights in float32, and autocast rounds them at every product."""

    @contextmanager
    def inference(self) -> Iterator[None]:
        self.model.eval()
        with torch.no_grad(), merged_lora(self.model), hardware.autocast(self.compute_dtype, self.device):
            yield


def unrounded(policy: Policy) -> Policy:
    """The same model and weights as a policy of :class:`Unrounded`."""
    return Unrounded(**vars(policy))


def in_turn(rivals: dict[str, Callable[[], Any]], rounds: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of every rival in every round; a round 0 that warms up is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, work in rivals.items():
            start = hardware.now()
            own = work()  # a rival that times itself returns its seconds
            waited = hardware.now() - start
            elapsed = own if isinstance(own, float) else waited
            if number:
                seconds[name].append(elapsed)
            print(f"round {number} {name}: {elapsed:.2f} s", flush=True)
    return seconds


def in_fresh_process(script: str, *words: str) -> float:
    """The number that a script prints last, in a process of its own."""
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine(dtype: torch.dtype, quick: bool) -> dict[str, float]:
    """The device's measured peak of matrix products in ``dtype`` in GFLOP/s (best of sizes from 1,024) and of memory
    in GB/s (a copy's reads and writes)."""
    where, peak = hardware.device(), 0.0

    def fastest(work: Callable[[], object], repeat: int) -> float:
        def wait() -> None:
            work()
            hardware.synchronize()

        wait()
        return min(timeit.repeat(wait, number=1, repeat=repeat))

    for size in (128,) if quick else (1024, 2048, 4096, 8192):
        a = torch.randn(size, size).to(where, dtype)  # a GPU multiplies ones faster than it can multiply numbers
        peak = max(peak, 2 * size**3 / fastest(lambda a=a: a @ a, 2 if size > 4096 else 4) / 1e9)  # type: ignore[misc]
    source = torch.ones(2**20 if quick else 2**26, device=where)
    target = torch.empty_like(source)
    copying = fastest(lambda: target.copy_(source), 5)
    return {"matrix_gflops": peak, "memory_gb_per_s": 2 * source.nbytes / copying / 1e9}


def linear_flops(policy: Policy) -> int:
    """Floating-point operations of one token in the decoder's linear layers; ``lm_head`` is not among them."""
    linear = [(name, m) for name, m in policy.model.named_modules() if isinstance(m, torch.nn.Linear)]
    return 2 * sum(m.weight.numel() for name, m in linear if "layers." in name and ".lora_" not in name)


def forward_flops(policy: Policy, tokens: int, pairs: int, logits: int = 0) -> int:
    """Floating-point operations of a forward pass, see :data:`FLOPS`.

    Args:
        tokens: that go through the decoder.
        pairs: of a token and one that it sees, itself included.
        logits: tokens that go through ``lm_head``.
    """
    config: Any = language_model(policy.model).config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4 * config.num_attention_heads * head * config.num_hidden_layers
    return linear_flops(policy) * tokens + attention * pairs + 2 * config.hidden_size * config.vocab_size * logits


def pairs_behind(prefix: int, length: int) -> int:
    """Pairs of a sequence's tokens with those that they see: a prefix, each other's earlier ones and themselves."""
    return prefix * length + length * (length + 1) // 2


def rollout_flops(policy: Policy, users: int, group_size: int, prompt: int, new: int) -> int:
    """Floating-point operations of sampling a group per user, the prompt computed once."""
    tokens = users * (prompt + group_size * new)
    pairs = pairs_behind(0, prompt) + group_size * pairs_behind(prompt, new)
    return forward_flops(policy, tokens, users * pairs, users * group_size * new)


def finish(name: str, ratios: list[float], figures: dict[str, Any], chosen: argparse.Namespace) -> None:
    """Write a full run to ``results/benchmarks`` and print the result; the last line is the short form."""
    short = {"name": name, "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}
    if chosen.out or not chosen.quick:
        path = chosen.out or Path(__file__).resolve().parents[1] / "results" / "benchmarks" / f"{name}.json"
        write_json(path, {**short, "rounds": len(ratios), "figures": figures, **provenance(0)})
    print(json.dumps(figures, indent=1))
    print(json.dumps(short))
