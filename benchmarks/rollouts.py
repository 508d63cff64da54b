"""Rollouts against ``model.generate`` with defaults: same weights, prompts, sampling and lengths."""

import torch
from common import (
    FLOPS,
    finish,
    in_turn,
    load,
    machine,
    options,
    random_prompts,
    rollout_flops,
    sizes,
    spread,
    unrounded,
)

from rrec_lib.core import hardware
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.recpo.rollouts import sample_groups

TOP_K = 50


def ours(policy: Policy, prompts: list[list[int]], group_size: int, length: int) -> None:
    model = language_model(policy.model)
    with policy.inference():
        sample_groups(model, policy.tokenizer, prompts, group_size, length, 1.0, TOP_K, fixed_length=True)


def generate(policy: Policy, prompts: list[list[int]], group_size: int, length: int) -> None:
    """The rival."""
    ids = torch.tensor(prompts, device=policy.device).repeat_interleave(group_size, 0)
    policy.model.eval()
    with torch.no_grad(), hardware.autocast(policy.compute_dtype, policy.device):
        output = policy.model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=length,
            min_new_tokens=length,
            do_sample=True,
            top_k=TOP_K,
            pad_token_id=0,
        )
    assert output.shape[1] == ids.shape[1] + length


def main() -> None:
    chosen = options(__doc__)
    users, group_size, prompt_length, length = sizes(chosen.quick)
    _, policy = load(chosen.quick)
    prompts = random_prompts(policy, users, prompt_length)
    work = (policy, prompts, group_size, length)
    limits = machine(policy.compute_dtype, chosen.quick)
    seconds = in_turn({"ours": lambda: ours(*work), "generate": lambda: generate(*work)}, chosen.rounds)
    apart = [prompt for prompt in prompts for _ in range(group_size)]  # every reasoning has a row of its own
    levers = {
        "ours": lambda: ours(*work),
        "unrounded": lambda: ours(unrounded(policy), *work[1:]),
        "apart": lambda: ours(policy, apart, 1, length),
    }
    lever = in_turn(levers, 1, warm_up=False)
    tokens = users * group_size * length
    share = {
        name: rollout_flops(policy, users, group_size, prompt_length, length) / second / 1e9 / limits["matrix_gflops"]
        for name, second in ((name, spread(values)["median"]) for name, values in seconds.items())
    }
    figures = {
        "dtype": str(policy.compute_dtype),
        "machine": limits,
        "tokens_per_second": {name: spread([tokens / s for s in values]) for name, values in seconds.items()},
        "share_of_matrix_peak": share["ours"],
        "share_of_matrix_peak_generate": share["generate"],  # of the same operations: the prompt counts once
        "flops": FLOPS,
        "lever_weights_rounded_once": lever["unrounded"][0] / lever["ours"][0],
        "lever_side_by_side_in_one_row": lever["apart"][0] / lever["ours"][0],
    }
    ratios = [theirs / own for own, theirs in zip(seconds["ours"], seconds["generate"], strict=True)]
    finish("rollouts", ratios, figures, chosen)


if __name__ == "__main__":
    main()
