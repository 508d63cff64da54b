"""CPU seconds and tokens of one recommendation, for models that write and for those that don't, on one thread.

The ratio is that of a search with 50 beams as D3 makes it, over R²ec's one reasoning, users asked one at a time. The
same search by Transformers' own ``generate`` stands beside it: what public code pays. Weights are those of the shipped
adapter for all: what a title of the trie costs doesn't depend on who wrote it, and BigRec's free writing, which these
weights were not taught to end, goes to its limit. SASRec, EASE and TIGER are fitted as recorded searches chose, and
TIGER's tokens are its own model's and not counted.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import finish, options, spread

from rrec_lib.baselines.generative.bigrec import BigRec
from rrec_lib.baselines.generative.d3 import d3_rule
from rrec_lib.baselines.generative.recommender import GenerativeRecommender
from rrec_lib.baselines.generative.titles import plain_search, title_ids, title_prompts
from rrec_lib.baselines.generative.trie import build_trie
from rrec_lib.baselines.registry import Means, Splits
from rrec_lib.baselines.tuning import fit_recorded
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import Example, prepare_profile
from rrec_lib.evaluation.evaluate import sample_examples
from rrec_lib.experiments.asking import BIGREC, EXACTLY, OURS, PUBLIC, SEARCHED, WITHOUT_WORDS
from rrec_lib.experiments.compute_curve import BARE, GREEDY, Scores, ways_of
from rrec_lib.model.lora import language_model
from rrec_lib.recommend.films import load_recommender

WIDTH, BATCH = 50, 32


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """How many tokens a block sends through a model, padding included."""
    seen = [0]

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen[0] += inputs[0].numel()

    handle = model.get_input_embeddings().register_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def generate(recommender: GenerativeRecommender, rows: Sequence[Example]) -> None:
    """The catalogue's titles by Transformers' own constrained beam search."""
    policy, trie = recommender.policy, recommender.trie
    end = policy.tokenizer.eos_token_id
    (prompt,) = recommender.prompts(rows)
    width = min(WIDTH, trie.n_items)
    found = {"num_return_sequences": width, "length_penalty": 0.0}
    config = plain_search(policy.tokenizer, width, trie.max_depth, **found)

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        return trie.allowed(ids[len(prompt) :].tolist()) or [end]

    with policy.inference():
        ids = torch.tensor([list(prompt)])
        model: Any = language_model(policy.model)
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            prefix_allowed_tokens_fn=allowed,
        )


def measure(
    ask: Callable[[Sequence[Example]], object], parts: Sequence[Sequence[Example]], model: Any
) -> dict[str, Any]:
    """CPU seconds and tokens of a recommendation, where each part is asked at once."""
    seconds, tokens = list[float](), list[float]()
    for rows in parts:
        with counted(model) as seen:
            started = time.process_time()
            ask(rows)
            seconds.append((time.process_time() - started) / len(rows))
        tokens.append(seen[0] / len(rows))
    return {"cpu_seconds": spread(seconds), "of_each": seconds, "tokens": sum(tokens) / len(tokens)}


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(1)
    profile = load_profile("smoke" if chosen.quick else "cpu")
    dataset = prepare_profile(profile)
    films = load_recommender(profile, "base" if chosen.quick else "recpo", 0, dataset)
    recommender, policy, items = films.model, films.model.policy, films.items
    recommender.item_embeddings  # noqa: B018, encoded or read before the clock runs
    tokenizer = policy.tokenizer
    trie = build_trie(title_ids(tokenizer, items), tokenizer.eos_token_id)
    titles = partial(GenerativeRecommender, policy, trie, partial(title_prompts, tokenizer, items=items))
    searched = titles(min(WIDTH, len(items)), d3_rule())
    bigrec = BigRec(policy, items)
    with tempfile.TemporaryDirectory() as folder:
        splits = Splits.of(dataset, Means(profile, Path(folder), beams=None))
        fitted = {} if chosen.quick else fit_recorded("movielens-cpu", splits, ("SASRec", "EASE", "TIGER"), 0)
    counts = (1, 2) if chosen.quick else (1, 4, 16)
    named = {GREEDY: OURS, BARE: WITHOUT_WORDS}
    ways: dict[str, Scores] = {
        named.get(name, f"R²ec, {name}"): ask for name, ask in ways_of(recommender, 0, counts).items()
    }
    ways |= {
        SEARCHED: searched.scores,
        EXACTLY: titles(None, d3_rule()).scores,
        BIGREC: bigrec.scores,
        **{name: model.scores for name, model in fitted.items()},
    }
    size, model = 2 if chosen.quick else BATCH, language_model(policy.model)
    rows = sample_examples(list(dataset["test"]), max(size, chosen.rounds), 1, seed=0)
    alone = [[row] for row in rows[: chosen.rounds]]
    found: dict[str, dict[str, Any]] = {}
    for name, ask in ways.items():
        ask(rows[:1])  # warms up
        found[name] = {"alone": measure(ask, alone, model), "together": measure(ask, [rows[:size]], model)}
        print(f"{name}: {found[name]['alone']['cpu_seconds']['median']:.3f} s", flush=True)
    found[PUBLIC] = {"alone": measure(partial(generate, searched), alone[:2], model)}
    theirs, own = (found[name]["alone"]["of_each"] for name in (SEARCHED, OURS))
    ratios = [rival / ours for rival, ours in zip(theirs, own, strict=True)]
    figures = {
        "together": size,
        "catalogue": len(items),
        "dtype": str(policy.compute_dtype),
        "recommendations": found,
    }
    finish("asking", ratios, figures, chosen)


if __name__ == "__main__":
    main()
