"""Training on titles, by Transformers' ``Trainer``: supervised, or by preferences among several titles.

TRL's trainers compute the same (a test says so) and fit less well: ``SFTTrainer`` projects every token of a prompt onto
the vocabulary where there is no GPU, ``DPOTrainer`` takes one rejected answer and reads the prompt again for each. Here
a prompt is computed once for all titles behind it, in the ragged rows that R²ec's warm-up is trained in, and what the
frozen layers make of a row is computed once for the model and its reference.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from rrec_lib.baselines.generative.titles import TITLE_INSTRUCTION
from rrec_lib.core.hardware import autocast
from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import Example, Item
from rrec_lib.model.frozen_states import FrozenStates
from rrec_lib.model.packing import TokenLogprobs
from rrec_lib.model.policy import Policy
from rrec_lib.model.ragged import ragged_forward, ragged_rows
from rrec_lib.training.callbacks import StepLines
from rrec_lib.training.failures import check_loss
from rrec_lib.training.packed_sequences import longest_history, order_by_length, packed_row, successive_targets
from rrec_lib.training.resumable_trainer import ResumableTrainer

# Of (B, 1 + K) log-probabilities and the reference's, the true title first; of rewards too, where answers have them.
Loss = Callable[..., Tensor]
ENDLESS = 10**6  # steps; the budget ends a run


@dataclass(frozen=True)
class Answers:
    """Examples, and as many answers to each.

    Attributes:
        examples: E rows.
        titles: of each, the true title first, then those to be rejected; all with their end. Or other texts.
        rewards: (E, K) of the answers, where the loss wants them.
        instruction: what the answers are answers to.
    """

    examples: Sequence[Example]
    titles: Sequence[Sequence[str]]
    rewards: Sequence[Sequence[float]] = ()
    instruction: str = TITLE_INSTRUCTION


class TitleTrainer(ResumableTrainer, Trainer):
    """Cross-entropy of true titles; or, with a loss of preferences, of several titles against a reference.

    The reference is the model that training starts from.
    """

    judged_by = "minus_valid_loss"

    def __init__(
        self, policy: Policy, args: TrainingArguments, profile: Profile, items: Sequence[Item],
        train: Answers, valid: Answers, loss: Loss | None = None,
    ) -> None:  # fmt: skip
        """Args:
        policy: trained in place.
        args: see :func:`rrec_lib.training.configuration.warmup_arguments`.
        profile: sizes and hyperparameters.
        items: the item table.
        train, valid: what is learned from, and what judges.
        loss: of preferences; supervised without one.
        """
        self.items, self.train_answers, self.valid_answers, self.preference = items, train, valid, loss
        self.frozen = FrozenStates(policy)
        self.valid_frozen = FrozenStates(policy, Path(str(args.output_dir)).parent / "frozen")  # looked at often
        self.start = [p.detach().clone() for p in policy.model.parameters() if p.requires_grad] if loss else []
        packed = successive_targets(train.examples, profile.warmup.targets_per_user)
        self.lengths = [longest_history([train.examples[row] for row in rows]) for rows in packed]
        super().__init__(
            policy, args, profile, [StepLines(("loss", "grad_norm"), 10)],
            train_dataset=packed, data_collator=lambda batch: {"rows": batch},
        )  # fmt: skip

    def draw_rows(self, sampler: Any, generator: torch.Generator) -> Iterable[int]:
        """Rows of like lengths beside each other."""
        return order_by_length(self.lengths, self.args.train_batch_size * self.args.world_size, generator)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The loss of some packed rows of training."""
        self.spent.targets += sum(map(len, inputs["rows"])) * self.args.world_size
        return check_loss(self, self.loss_of(model, self.train_answers, inputs["rows"]))

    def loss_of(self, model: torch.nn.Module, answers: Answers, packed: Sequence[Sequence[int]]) -> Tensor:
        """Mean over the tokens of true titles; with preferences, over the examples."""
        titles = [answers.titles[row] for rows in packed for row in rows]
        rows = [self._row(answers, numbers).to(self.policy.device) for numbers in packed]
        encoded = self.policy.tokenizer([title for several in titles for title in several], add_special_tokens=False)
        owner = torch.repeat_interleave(torch.tensor([len(ids) for ids in encoded["input_ids"]])).to(self.policy.device)
        predicted = torch.cat([row.predicted for row in rows])
        columns = torch.arange(len(predicted), device=predicted.device)
        with ragged_rows(model), autocast(self.policy.compute_dtype, self.policy.device):
            hidden = (self.valid_frozen if answers is self.valid_answers else self.frozen)(model, rows)

            def logprobs() -> Tensor:
                logits = ragged_forward(model, rows, hidden, self.frozen.depth).logits
                of_tokens = TokenLogprobs.apply(logits, columns, predicted, 1.0, False)[0]
                sums = of_tokens.new_zeros(len(encoded["input_ids"])).index_add(0, owner, of_tokens)
                return sums.view(len(titles), -1)

            if self.preference is None:
                return -logprobs().sum() / len(predicted)
            with torch.no_grad(), self._as_it_started():
                reference = logprobs()
            if not answers.rewards:
                return self.preference(logprobs(), reference)
            rewards = torch.tensor([answers.rewards[row] for rows in packed for row in rows]).to(reference)
            return self.preference(logprobs(), reference, rewards)

    def valid_score(self) -> float:
        """Minus the mean loss on valid, without gradients: over tokens, with preferences over examples."""
        packed = successive_targets(self.valid_answers.examples, self.profile.warmup.targets_per_user)
        losses, weights = list[float](), list[int]()
        model: Any = self.policy.model
        model.eval()
        with torch.no_grad():
            for start in range(0, len(packed), self.args.train_batch_size):
                part = packed[start : start + self.args.train_batch_size]
                losses.append(self.loss_of(model, self.valid_answers, part).item())
                weights.append(self._weight(self.valid_answers, part))
        model.train()
        return -sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)

    def _weight(self, answers: Answers, packed: Sequence[Sequence[int]]) -> int:
        """How many terms the loss of these rows is a mean over."""
        if self.preference is not None:
            return sum(map(len, packed))
        titles = [title for rows in packed for row in rows for title in answers.titles[row]]
        return sum(map(len, self.policy.tokenizer(titles, add_special_tokens=False)["input_ids"]))

    def _row(self, answers: Answers, rows: Sequence[int]) -> Any:
        """Prompts of a user's successive targets, each once for all titles behind it."""
        examples = [answers.examples[row] for row in rows for _ in answers.titles[row]]
        titles = [title for row in rows for title in answers.titles[row]]
        learned = [True] * len(titles)
        return packed_row(self.policy.tokenizer, examples, self.items, titles, learned, answers.instruction)

    @contextmanager
    def _as_it_started(self) -> Iterator[None]:
        """The weights that training started from, for a while."""
        trained = [p for p in self.policy.model.parameters() if p.requires_grad]
        now = [parameter.data for parameter in trained]
        for parameter, before in zip(trained, self.start, strict=True):
            parameter.data = before
        try:
            yield
        finally:
            for parameter, data in zip(trained, now, strict=True):
                parameter.data = data
