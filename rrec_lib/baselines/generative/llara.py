"""LLaRA: titles in the prompt, and behind each the item's vector of a sequence model, brought into the words' space.

Source: Liao et al. (2024), ``liao2024llara`` in the book's references, and its public code.

Every item gets a token of its own, which stands behind its title. Its embedding is what a projector, two linear layers,
makes of the item's vector in a tuned SASRec; the projector is trained with the language model, the SASRec is frozen.
Training is a curriculum: a step shows titles alone, or titles and vectors, and the share of these grows from 0 to 1.
Valid and test are asked with both.

Left out: the list of twenty candidates in every prompt, of which one is to be named and each has a vector too, since
everybody here ranks the whole catalogue; vectors of GRU4Rec and Caser; several wordings of the prompt.

Where paper, public code and this differ:

- The share is that of the steps that are done, of all there will be. Here the budget ends a run, by a clock from which
  nothing can be repeated; so the curriculum has a number of steps, after which every prompt has both. What a step shows
  depends on seed and number alone: a run that was killed goes on with the same.
- The public code decides once for each batch; so do we. It counts batches in each of its loader's processes, which
  begin anew with every epoch: as we read it, with 5 epochs the share rises to a fifth, five times. We didn't run it.
- The public code has an untrained placeholder behind titles where it shows them alone; here nothing stands there.
- Its SASRec is one block whose item vectors are taken as they are stored. Ours is as its search left it, and vectors
  are taken as it takes them itself, times the square root of their width.
- It writes greedily; an answer that names one candidate is valid, and its hit ratio is among the valid alone. Ours
  ranks by the probability of each title among those of the catalogue.

What it costs: a step of titles alone is as cheap as BigRec's. With vectors the gradient has to reach the embeddings,
where the projector is, through layers that LoRA leaves frozen: on the profile `cpu` half as much time again.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rrec_lib.baselines.generative.recommender import GenerativeRecommender
from rrec_lib.baselines.generative.title_runs import (
    means_of,
    sequence_model,
    title_recommender,
    train_titles,
    true_titles,
    valid_rows,
)
from rrec_lib.baselines.generative.title_trainer import TitleTrainer
from rrec_lib.baselines.registry import Splits
from rrec_lib.core.reading import read_tensors
from rrec_lib.data.examples import Item
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy, load_policy, weights_hash
from rrec_lib.model.prompts import item_name

PROJECTOR = "projector.safetensors"


class ItemVectors(nn.Module):
    """Hooks of a word embedding by which the ids behind the vocabulary have embeddings too, projected vectors."""

    vectors: Tensor  # (N, d_s), frozen

    def __init__(self, vectors: Tensor, first: int, width: int) -> None:
        """Args:
        vectors: (N, d_s) of a sequence model.
        first: id of the first item; the others follow.
        width: d, of the language model.
        """
        super().__init__()
        self.register_buffer("vectors", vectors.detach().clone(), persistent=False)
        self.projector = nn.Sequential(nn.Linear(vectors.shape[1], width), nn.GELU(), nn.Linear(width, width))
        self.first, self.ids = first, torch.empty(0, dtype=torch.long)

    def before(self, embedding: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Remember the ids, and put a word where an item stands."""
        (self.ids,) = inputs
        return (self.ids.masked_fill(self.ids >= self.first, 0),)

    def behind(self, embedding: nn.Module, inputs: tuple[Tensor], words: Tensor) -> Tensor:
        """Put items where they stand. Without any the words are passed on, and no gradient is asked for."""
        items = self.ids >= self.first
        if not items.any():
            return words
        projected = self.projector(self.vectors[self.ids[items] - self.first])
        return words.index_put((items,), projected.to(words.dtype))


def add_item_vectors(policy: Policy, vectors: Tensor, seed: int) -> ItemVectors:
    """Teach a policy a token for every item, in place; :func:`with_vectors` writes them.

    The projector becomes a part of the model, trained and kept with it. So the embedding counts as trained, and no
    layer's states as frozen.

    Args:
        policy: its tokenizer gets N tokens, its output as few as before: an item's token can be read, not written.
        vectors: (N, d_s) of a sequence model, not trained.
        seed: of the projector.
    """
    tokens = [_token(row) for row in range(len(vectors))]
    policy.tokenizer.add_tokens(tokens, special_tokens=True)
    first = policy.tokenizer.get_vocab()[tokens[0]]
    torch.manual_seed(seed)
    added = ItemVectors(vectors, first, policy.hidden_size).to(policy.device)
    embedding = language_model(policy.model).get_input_embeddings()
    embedding.add_module("items", added)
    embedding.register_forward_pre_hook(added.before)
    embedding.register_forward_hook(added.behind)
    return added


def with_vectors(items: Sequence[Item]) -> list[Item]:
    """Items as prompts name them where vectors are shown: by title and token."""
    return [{**item, "title": f"{item_name(item)}{_token(row)}", "year": None} for row, item in enumerate(items)]


def _token(row: int) -> str:
    return f"<|item-{row}|>"


def hybrid_share(step: int, curriculum_steps: int) -> float:
    """How probable vectors are in a step, from 0 up: 0 at first, 1 from the curriculum's end on, linear between."""
    return min(step / curriculum_steps, 1.0) if curriculum_steps else 1.0


def shows_vectors(seed: int, step: int, curriculum_steps: int) -> bool:
    """Whether a step has vectors beside titles: drawn by :func:`hybrid_share`, the same whenever it is asked."""
    return bool(np.random.default_rng([seed, step]).random() < hybrid_share(step, curriculum_steps))


class HybridTrainer(TitleTrainer):
    """Cross-entropy of true titles behind prompts with and without vectors, valid's all with them."""

    def __init__(self, policy: Policy, *args: Any, vectors: ItemVectors, curriculum_steps: int) -> None:
        """Args:
        policy: with item vectors.
        args: of :class:`TitleTrainer`.
        vectors: the policy's.
        curriculum_steps: until every prompt has vectors.
        """
        super().__init__(policy, *args)
        self.vectors, self.curriculum_steps = vectors, curriculum_steps
        self.plain, self.items = self.items, with_vectors(self.items)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The loss of some packed rows, told as the step wants it."""
        both = self.items
        if not shows_vectors(self.args.seed, self.state.global_step, self.curriculum_steps):
            self.items = self.plain
        try:
            return super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.items = both

    def save_progress(self, folder: Path) -> None:
        """The projector, which PEFT's files leave out."""
        if self.args.should_save:
            save_file(self.vectors.state_dict(), folder / PROJECTOR)

    def load_progress(self, folder: Path) -> None:
        self.vectors.load_state_dict(read_tensors(folder / PROJECTOR))


def fit(splits: Splits, seed: int, curriculum_steps: int = 50) -> GenerativeRecommender:
    """Fine-tune with the whole budget. The SASRec has a budget of its own, that of its search.

    Args:
        splits: with means; SASRec's search, if recorded, lies in their folder.
        seed: of both models, the order and the curriculum.
        curriculum_steps: until every prompt has vectors; 0 shows them from the first. An hour of the profile `cpu` has
            about twice the default.
    """
    means, sequence = means_of(splits), sequence_model(splits, seed)
    policy = load_policy(means.profile.model, seed)
    train, valid = (true_titles(policy, rows, splits.items) for rows in (splits.train, valid_rows(splits)))
    taken = sequence.items.weight[: splits.n_items].detach() * sequence.settings.hidden**0.5
    vectors = add_item_vectors(policy, taken, seed)
    trainer = partial(HybridTrainer, vectors=vectors, curriculum_steps=curriculum_steps)
    train_titles(
        policy, splits, "llara", seed, means.hours, train, valid, trainer_class=trainer,
        curriculum_steps=curriculum_steps, sequence_model=weights_hash(sequence),
    )  # fmt: skip
    return title_recommender(policy, splits, told=with_vectors(splits.items))
