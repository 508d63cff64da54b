"""Exact scores of a catalogue's titles by a walk over their trie, against every title in a row of its own.

Both give the log-probability of each title's tokens behind a user's prompt. The rival writes prompt and title into
padded rows of like length and computes no logits before the title.
"""

from collections.abc import Sequence

import torch
from common import finish, in_turn, load, options, spread
from torch import Tensor

from rrec_lib.baselines.generative.beam import beam_search
from rrec_lib.baselines.generative.exact import catalogue_scores
from rrec_lib.baselines.generative.trie import Trie, build_trie
from rrec_lib.baselines.generative.walk import Rule
from rrec_lib.core import hardware
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.encode import batches, pad_rows
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_users, item_name

WIDTH = 50  # beams
TITLE = Rule(constrained=False)  # log-probability of a title's tokens over the vocabulary


def one_by_one(policy: Policy, titles: Sequence[Sequence[int]], prompt: Sequence[int]) -> Tensor:
    """The rival: (N,) log-probabilities."""
    rows, scores = [[*prompt, *title] for title in titles], torch.empty(len(titles))
    with policy.inference():
        for batch in batches([len(row) for row in rows], hardware.batch_tokens(policy.device)):
            ids, mask = pad_rows([rows[i] for i in batch], 0, policy.device)
            before = torch.arange(len(prompt) - 1, ids.shape[1] - 1, device=policy.device)
            logits = language_model(policy.model)(input_ids=ids, attention_mask=mask, logits_to_keep=before).logits
            steps = logits.float().log_softmax(-1).gather(-1, ids[:, len(prompt) :, None])[..., 0]
            scores[batch] = (steps * mask[:, len(prompt) :]).sum(1).cpu()
    return scores


def exact(policy: Policy, trie: Trie, prompt: Sequence[int], rule: Rule) -> Tensor:
    with policy.inference():
        return catalogue_scores(policy.model, trie, [prompt], rule)[0].cpu()


def beams(policy: Policy, trie: Trie, prompt: Sequence[int], rule: Rule) -> None:
    with policy.inference():
        beam_search(policy.model, trie, [prompt], WIDTH, rule)


def main() -> None:
    chosen = options(__doc__)
    profile, policy = load(chosen.quick)
    dataset = prepare_profile(profile)
    items = list(dataset["items"])
    end = int(policy.tokenizer.eos_token_id)
    titles = [policy.tokenizer(item_name(item), add_special_tokens=False)["input_ids"] for item in items]
    trie, whole = build_trie(titles, end), [[*title, end] for title in titles]
    prompts = encode_users(policy.tokenizer, list(dataset["test"])[: chosen.rounds], items)
    exact(policy, trie, prompts[0], Rule())  # warms up
    seconds: dict[str, list[float]] = {}
    furthest = 0.0
    for prompt in prompts:
        found: dict[str, Tensor] = {}
        rivals = {
            "trie": lambda: found.update(trie=exact(policy, trie, prompt, TITLE)),  # noqa: B023, called at once
            "one_by_one": lambda: found.update(alone=one_by_one(policy, whole, prompt)),  # noqa: B023
            "trie_constrained": lambda: exact(policy, trie, prompt, Rule()) is None,  # noqa: B023
            "beams": lambda: beams(policy, trie, prompt, TITLE),  # noqa: B023
            "beams_constrained": lambda: beams(policy, trie, prompt, Rule()),  # noqa: B023
        }
        for name, measured in in_turn(rivals, 1, warm_up=False).items():
            seconds.setdefault(name, []).extend(measured)
        furthest = max(furthest, float((found["trie"] - found["alone"]).abs().max()))
    figures = {
        "dtype": str(policy.compute_dtype),
        "items": len(items),
        "sequences": len(trie.leaves.unique()),
        "title_tokens": sum(map(len, whole)),
        "nodes": len(trie),
        "nodes_with_a_choice": int((trie.degrees > 1).sum()),
        "prompt_tokens": [len(prompt) for prompt in prompts],
        "beam_width": WIDTH,
        "seconds_per_prompt": {name: spread(measured) for name, measured in seconds.items()},
        "largest_difference_nats": furthest,
    }
    ratios = [theirs / own for own, theirs in zip(seconds["trie"], seconds["one_by_one"], strict=True)]
    finish("trie", ratios, figures, chosen)


if __name__ == "__main__":
    main()
