"""RecPO training on TRL's ``GRPOTrainer``: what differs is how a group is sampled, how it is scored, and the loss."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from torch.utils.data import Sampler
from transformers import TrainerCallback
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from rrec_lib.core.hardware import autocast, now
from rrec_lib.core.processes import check_launch
from rrec_lib.evaluation.scoring import mask_items, repeated_targets, score_items, seen_items
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import PackedGroups, PackedOutput, pack, packed_forward
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_users
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.losses import item_logprobs, recpo_loss
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward
from rrec_lib.recpo.rollouts import Rollouts, sample_groups
from rrec_lib.recpo.step_items import choose_items, encode_step, step_seed, token_weights
from rrec_lib.recpo.vllm import rollouts_by_vllm, sync_without_drift
from rrec_lib.training.checkpoints import CheckpointMixin
from rrec_lib.training.configuration import RecPOConfig, recpo_config

__all__ = ["RecPOConfig", "RecPOTrainer", "recpo_config"]


class RecPOTrainer(CheckpointMixin, GRPOTrainer):
    """Trains reasoning and recommendation in one policy update (R²ec, Eqn 8)."""

    def __init__(
        self,
        policy: Policy,
        args: RecPOConfig,
        dataset: DatasetDict,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        """Args:
        policy: the policy to train, in place.
        args: see :class:`RecPOConfig`.
        dataset: splits ``train`` and ``items``, see :mod:`rrec_lib.data.examples`.
        """
        check_launch(args)
        self.prepare_items(policy, dataset, args.item_refresh_steps)
        super().__init__(
            model=policy.model,
            reward_funcs=fused_reward_of_group,
            args=args,
            train_dataset=dataset["train"],
            processing_class=policy.tokenizer,
            callbacks=callbacks,
            **kwargs,
        )
        self.finish_setup()
        if self.use_vllm:
            sync_without_drift(self.vllm_generation, policy.model)

    # -- data order and progress, so that a resumed run is the run -----------------------------------------------------

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        sampler: Any = super()._get_train_sampler(dataset)

        def draw(generator: torch.Generator) -> Iterable[int]:
            sampler.generator = generator  # TRL's own depends on how many epochs the process saw
            return sampler

        return self.drawn_anew(draw, len(sampler))

    def save_progress(self, folder: Path) -> None:
        """Also the rollouts, if the next step uses them again."""
        super().save_progress(folder)
        if self.state.global_step % self.num_iterations:
            torch.save(self._buffered_inputs, folder / self._rollouts_name())

    def load_progress(self, folder: Path) -> None:
        """Also TRL's step counter and rollouts, which it forgets."""
        super().load_progress(folder)
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        if self.state.global_step % self.num_iterations:
            path = folder / self._rollouts_name()
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; resume with the num_iterations and processes of the run")
            self._buffered_inputs = torch.load(path, map_location=self.accelerator.device, weights_only=True)

    def _rollouts_name(self) -> str:
        return f"rollouts_{self.accelerator.process_index}.pt"

    # -- sampling and scoring ---------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Sample a group per user and score it. Every tensor's first dimension is the group: TRL shuffles and splits
        along it, so groups stay whole."""
        start = now()
        args, group_size = self.args, int(self.num_generations or 1)
        examples = inputs[::group_size]
        prompts = self.prompts_of(examples)
        self.refresh_item_table()
        assert self.item_embeddings is not None
        rollouts, extra = self._sample(prompts, group_size)
        device = self.accelerator.device
        targets = torch.tensor([example["target"] for example in examples], device=device)
        seen = [example["seen"] for example in examples]
        states = rollouts.states.view(len(examples), group_size, -1)
        scores = mask_items(score_items(states, self.item_embeddings, args.item_temperature), seen, targets)
        ranking, similarity = ranking_reward(scores, targets, args.ndcg_k), similarity_reward(scores, targets)
        rewards = fused_reward(ranking, similarity, args.reward_beta)
        advantages = ADVANTAGES[args.advantage](rewards)
        best = torch.nn.functional.one_hot(rewards.argmax(1), group_size).bool()
        closed = rollouts.closed
        pad_id = self.policy.tokenizer.pad_token_id
        if args.item_softmax == "catalogue":
            extra["excluded_items"] = seen_items(seen, targets, len(self.items))
        groups = pack(prompts, [c.ids for c in closed], [c.sampled for c in closed], pad_id, device)
        self._log_rollouts(rollouts, rewards, ranking, similarity, advantages, now() - start)
        self._log_metric_value("repeated_target_fraction", repeated_targets(seen, targets.cpu()).float().mean())
        return {**vars(groups), "advantages": advantages, "best": best, "targets": targets, **extra}

    def prompts_of(self, examples: list[dict[str, Any]]) -> list[list[int]]:
        """Token ids of each user's prompt."""
        return encode_users(self.policy.tokenizer, examples, self.items)

    def _sample(self, prompts: list[list[int]], group_size: int) -> tuple[Rollouts, dict[str, Tensor]]:
        """Sample with the policy, or with vLLM, whose tokens then carry weights (B, G, T) for the loss."""
        args = self.args
        if self.use_vllm:
            weighted = rollouts_by_vllm(self, prompts, group_size)
            sampled = torch.tensor([c.sampled for c in weighted.rollouts.closed]).sum().clamp(min=1)
            self._log_metric_value("sampling_log_ratio", weighted.log_ratios.abs().sum() / sampled)
            if not args.vllm_importance_sampling_correction:
                return weighted.rollouts, {}
            return weighted.rollouts, {"sampling_weights": weighted.weights.unflatten(0, (-1, group_size))}
        with (
            unwrap_model_for_generation(self.model_wrapped, self.accelerator) as unwrapped,
            self.policy.inference(),
        ):
            model, length = language_model(unwrapped), args.max_completion_length
            return sample_groups(
                model, self.policy.tokenizer, prompts, group_size, length, args.temperature, args.top_k
            ), {}

    # -- loss -------------------------------------------------------------------------------------------------------

    def forward_groups(self, model: torch.nn.Module, groups: PackedGroups) -> PackedOutput:
        """The forward pass that gives both log-probabilities and states."""
        return packed_forward(model, groups, self.args.temperature)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        args, group_size, device = self.args, int(self.num_generations or 1), self.accelerator.device
        batches = self._optimiser_batch(inputs)
        index = self._step % len(batches)
        if index == 0:
            self._begin_step(model, batches)
        items, tau = self.step_items, args.item_temperature
        item_states, rows, item_ids, log_q = self._item_softmax(inputs["targets"])
        rows, excluded = rows.repeat_interleave(group_size), inputs.get("excluded_items")
        excluded = None if excluded is None else excluded.repeat_interleave(group_size, 0)
        groups = PackedGroups(**{name: inputs[name] for name in PackedGroups.__dataclass_fields__})
        with autocast(self.policy.compute_dtype, device):
            output = self.forward_groups(model, groups)
        mask = groups.loss_mask.flatten(0, 1)
        loss = recpo_loss(
            output.logprobs,
            inputs.get("old_logprobs"),
            mask,
            output.states,
            item_states,
            rows,
            inputs["advantages"].flatten(),
            group_size,
            best_mask=inputs["best"].flatten(),
            old_item_logprobs=inputs.get("old_item_logprobs"),
            item_ids=item_ids,
            excluded_items=excluded,
            log_q=log_q,
            sampling_weights=inputs["sampling_weights"].flatten(0, 1) if "sampling_weights" in inputs else None,
            clip_eps=self.epsilon_low,
            clip_eps_high=self.epsilon_high,
            temperature=tau,
            token_normalization=args.token_normalization,
        )
        if "old_logprobs" not in inputs:  # the buffered batch remembers the policy that sampled it
            inputs["old_logprobs"] = output.logprobs.detach()
            before = item_logprobs(output.states, item_states, rows, item_ids, tau, log_q, excluded)
            inputs["old_item_logprobs"] = before.detach()
        self._log_metric_value("entropy", (output.entropies * mask).sum() / mask.sum().clamp(min=1))
        for name in ("token", "item", "token_clip_fraction", "item_clip_fraction", "item_accuracy"):
            self._log_metric_value({"token": "token_loss", "item": "item_loss"}.get(name, name), getattr(loss, name))
        total = (args.token_weight * self.token_weights[index] * loss.token + loss.item) / len(batches)
        if torch.is_grad_enabled():
            items.note(loss.item / len(batches))
            if index == len(batches) - 1:
                total = total + items.send_back(self.accelerator)
        return self.checked(total)

    def _item_softmax(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """States of the item softmax, the targets' rows among them, and the rows' ids and log q, where they matter."""
        items = self.step_items
        if self.args.item_softmax == "catalogue":
            assert self.item_embeddings is not None
            return items.in_table(self.item_embeddings), targets, None, None
        return items.states, items.rows(targets), items.ids, items.log_q if self.args.logq_correction else None

    def _optimiser_batch(self, inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """This process's micro-batches of the present optimiser step."""
        return list(self._buffered_inputs or []) if self.policy.model.training else [inputs]

    def _begin_step(self, model: torch.nn.Module, batches: list[dict[str, Tensor]]) -> None:
        """Choose and encode the items of the whole optimiser batch, and put their states into the table."""
        args, device = self.args, self.accelerator.device
        targets = self.accelerator.gather(torch.cat([batch["targets"] for batch in batches]))
        # Old log-probabilities hold for the items they were taken with: a batch's later uses draw the same ones.
        sampled_at = self.state.global_step - self.state.global_step % self.num_iterations
        seed, whole = step_seed(args.seed, sampled_at), args.item_softmax == "catalogue"
        ids, log_q = choose_items(targets, self.target_share, args.extra_negatives, seed, whole)

        def encode(chosen: list[int]) -> Tensor:
            with autocast(self.policy.compute_dtype, device):
                return self.item_encoder(model, chosen, device)

        self.step_items = encode_step(encode, ids, log_q, self.accelerator)
        masks = [batch["loss_mask"] for batch in batches]
        self.token_weights = token_weights(args.token_normalization, masks, self.accelerator)
        assert self.item_embeddings is not None
        self.item_embeddings[ids] = self.step_items.states.detach()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """TRL's clock stops while a GPU still has the backward pass to do: what is left of it counts too."""
        loss = super().training_step(*args, **kwargs)
        start = time.perf_counter()
        if self._step % self.args.gradient_accumulation_steps == 0:  # it has just noted the optimiser step's seconds
            self._gathered()["step_time"][-1] += now() - start
        return loss

    # -- logging ----------------------------------------------------------------------------------------------------

    def _log_rollouts(
        self,
        rollouts: Rollouts,
        rewards: Tensor,
        ranking: Tensor,
        similarity: Tensor,
        advantages: Tensor,
        seconds: float,
    ) -> None:
        lengths = torch.tensor([float(c.sampled) for c in rollouts.closed])
        spread = rewards.std(1)
        values: Mapping[str, Tensor | float] = {
            "reward": rewards.mean(),
            "ranking_reward": ranking.mean(),
            "similarity_reward": similarity.mean(),
            "reward_std_in_group": spread.mean(),
            "equal_reward_fraction": (spread == 0).float().mean(),
            "advantage_abs": advantages.abs().mean(),
            "reasoning_tokens": lengths.mean(),
            "unfinished_fraction": rollouts.unfinished_fraction,
            "trimmed_fraction": rollouts.trimmed_fraction,
            "item_table_age": float(self.state.global_step - self.item_table_step),
            "rollout_seconds": seconds,
            "sampled_tokens_per_second": lengths.sum() / seconds,
        }
        for name, value in values.items():
            self._log_metric_value(name, value)

    def _log_metric_value(self, name: str, value: Tensor | float) -> None:
        self._gathered()[name].append(float(torch.as_tensor(value).detach()))

    def _gathered(self) -> dict[str, list[float]]:
        """What was gathered since the last log line, by name."""
        return self._metrics["train" if self.policy.model.training else "eval"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does, what was gathered since the last line averaged over the processes as well."""
        metrics = self._gathered()
        names = sorted(metrics)
        if names and self.accelerator.num_processes > 1:
            means = torch.tensor([sum(metrics[name]) / len(metrics[name]) for name in names])
            means = self.accelerator.reduce(means.to(self.accelerator.device), "mean")
            metrics.update({name: [mean] for name, mean in zip(names, means.tolist(), strict=True)})
        super().log(logs, start_time)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No model card: an adapter's card is written by :func:`rrec_lib.model.adapters.save_adapter`."""


def fused_reward_of_group(**kwargs: Any) -> list[float | None]:
    """Named for TRL, which wants a reward function per trainer; RecPO scores whole groups from hidden states."""
    raise RuntimeError("RecPO scores groups in RecPOTrainer._generate_and_score_completions, not per completion")
