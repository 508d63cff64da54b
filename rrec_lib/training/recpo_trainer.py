"""RecPO training on TRL's ``GRPOTrainer``: what differs is how a group is sampled, how it is scored, and the loss."""

import time
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rrec_lib.core import private_names
from rrec_lib.core.hardware import autocast, now
from rrec_lib.core.profiles import Profile, TrainingProfile
from rrec_lib.evaluation.scoring import mask_items, repeated_targets, score_items, seen_items
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import PackedGroups, PackedOutput, pack, packed_forward
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import encode_users
from rrec_lib.model.ragged import ragged_groups
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.losses import item_logprobs, recpo_loss
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward
from rrec_lib.recpo.rollouts import Rollouts, sample_groups
from rrec_lib.recpo.step_items import choose_items, encode_step, token_weights
from rrec_lib.recpo.vllm import rollouts_by_vllm, sync_without_drift
from rrec_lib.training.configuration import check_recpo
from rrec_lib.training.failures import check_loss
from rrec_lib.training.item_trainer import ItemTrainer
from rrec_lib.training.skill_audit import step_figures
from rrec_lib.training.skills import world_of


class RecPOTrainer(ItemTrainer, GRPOTrainer):
    """Trains reasoning and recommendation in one policy update (R²ec, Eqn 8)."""

    args: GRPOConfig

    def __init__(
        self,
        policy: Policy,
        args: GRPOConfig,
        dataset: DatasetDict,
        profile: Profile,
        callbacks: list[TrainerCallback] | None = None,
        **options: Any,
    ) -> None:
        """Arguments as :class:`ItemTrainer`; ``args`` as :mod:`rrec_lib.training.configuration` makes them."""
        check_recpo(args)
        self.settings: TrainingProfile = profile.training
        taught = profile.warmup.steps and profile.warmup.skills
        self.world = world_of(dataset) if taught else None  # what reasonings are held against
        super().__init__(
            policy,
            args,
            dataset,
            profile,
            callbacks,
            reward_funcs=fused_reward_of_group,
            train_dataset=dataset["train"],
            processing_class=policy.tokenizer,
            **options,
        )
        private_names.sample_with(self, self.sample_and_score)
        private_names.loss_with(self, self.loss_of_groups)
        if self.use_vllm:
            sync_without_drift(self.vllm_generation, policy.model)

    def save_progress(self, folder: Path) -> None:
        """Also the rollouts, if the next step uses them again."""
        super().save_progress(folder)
        if self.state.global_step % self.num_iterations:
            torch.save(private_names.micro_batches(self), folder / self._rollouts_name())

    def load_progress(self, folder: Path) -> None:
        """Also TRL's count of passes and rollouts, which it forgets."""
        super().load_progress(folder)
        batches = None
        if self.state.global_step % self.num_iterations:
            path = folder / self._rollouts_name()
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; resume with the num_iterations and processes of the run")
            batches = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        passes = self.state.global_step * self.args.gradient_accumulation_steps
        private_names.resume_sampling(self, passes, batches)

    def _rollouts_name(self) -> str:
        return f"rollouts_{self.accelerator.process_index}.pt"

    def sample_and_score(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Sample a group per user and score it. Every tensor's first dimension is the group: TRL shuffles and splits
        along it, so groups stay whole."""
        start, reward, group_size = now(), self.profile.reward, int(self.num_generations or 1)
        examples = inputs[::group_size]
        self.spent.targets += len(examples) * self.args.world_size
        prompts = self.prompts_of(examples)
        table = self.refresh_item_table()
        rollouts, extra = self._sample(prompts, group_size)
        device = self.accelerator.device
        targets = torch.tensor([example["target"] for example in examples], device=device)
        seen = [example["seen"] for example in examples]
        states = rollouts.states.view(len(examples), group_size, -1)
        scores = mask_items(score_items(states, table, reward.temperature), seen, targets)
        ranking, similarity = ranking_reward(scores, targets, reward.ndcg_k), similarity_reward(scores, targets)
        rewards = fused_reward(ranking, similarity, reward.beta)
        advantages = ADVANTAGES[self.settings.advantage](rewards)
        best = torch.nn.functional.one_hot(rewards.argmax(1), group_size).bool()
        closed = rollouts.closed
        pad_id = self.policy.tokenizer.pad_token_id
        if self.whole_catalogue:
            extra["excluded_items"] = seen_items(seen, targets, len(self.items))
        groups = pack(prompts, [c.ids for c in closed], [c.sampled for c in closed], pad_id, device)
        spread, seconds = rewards.std(1), now() - start
        lengths = torch.tensor([float(c.sampled) for c in closed])
        if self.world is not None:
            texts, of_texts = rollouts.texts(self.policy.tokenizer), [e for e in examples for _ in range(group_size)]
            self.gather_figures(**step_figures(texts, of_texts, self.world, rewards.flatten().tolist()))
        self.gather_figures(
            reward=rewards.mean(),
            ranking_reward=ranking.mean(),
            similarity_reward=similarity.mean(),
            reward_std_in_group=spread.mean(),
            equal_reward_fraction=(spread == 0).float().mean(),
            equal_ranking_fraction=(ranking == ranking[:, :1]).all(1).float().mean(),
            advantage_abs=advantages.abs().mean(),
            reasoning_tokens=lengths.mean(),
            unfinished_fraction=rollouts.unfinished_fraction,
            trimmed_fraction=rollouts.trimmed_fraction,
            item_table_age=float(self.state.global_step - self.item_table_step),
            rollout_seconds=seconds,
            sampled_tokens_per_second=lengths.sum() / seconds,
            repeated_target_fraction=repeated_targets(seen, targets.cpu()).float().mean(),
        )
        return {**vars(groups), "advantages": advantages, "best": best, "targets": targets, **extra}

    def prompts_of(self, examples: list[dict[str, Any]]) -> list[list[int]]:
        """Token ids of each user's prompt."""
        return encode_users(self.policy.tokenizer, examples, self.items)

    def _sample(self, prompts: list[list[int]], group_size: int) -> tuple[Rollouts, dict[str, Tensor]]:
        """Sample with the policy, or with vLLM, whose tokens then carry weights (B, G, T) for the loss."""
        args, tokenizer = self.args, self.policy.tokenizer
        if self.use_vllm:
            weighted = rollouts_by_vllm(self, prompts, group_size)
            sampled = torch.tensor([c.sampled for c in weighted.rollouts.closed]).sum().clamp(min=1)
            self.gather_figures(sampling_log_ratio=weighted.log_ratios.abs().sum() / sampled)
            if not args.vllm_importance_sampling_correction:
                return weighted.rollouts, {}
            return weighted.rollouts, {"sampling_weights": weighted.weights.unflatten(0, (-1, group_size))}
        with private_names.unwrapped_for_generation(self) as unwrapped, self.policy.inference():
            model, length = language_model(unwrapped), int(args.max_completion_length or 0)
            return sample_groups(model, tokenizer, prompts, group_size, length, args.temperature, args.top_k), {}

    def forward_groups(self, model: torch.nn.Module, groups: PackedGroups) -> PackedOutput:
        """The forward pass that gives both log-probabilities and states."""
        forward = ragged_groups if self.accelerator.device.type == "cpu" else packed_forward
        return forward(model, groups, self.args.temperature)

    def loss_of_groups(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of a micro-batch, and with a step's last one the gradient that its items have gathered."""
        settings, group_size, device = self.settings, int(self.num_generations or 1), self.accelerator.device
        batches = self.step_batches(inputs)
        index = private_names.passes_made(self) % len(batches)
        if index == 0:
            self._begin_step(model, batches)
        items, tau = self.step_items, self.profile.reward.temperature
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
            token_normalization=settings.token_normalization,
        )
        if "old_logprobs" not in inputs:  # the buffered batch remembers the policy that sampled it
            inputs["old_logprobs"] = output.logprobs.detach()
            before = item_logprobs(output.states, item_states, rows, item_ids, tau, log_q, excluded)
            inputs["old_item_logprobs"] = before.detach()
        self.gather_figures(
            entropy=(output.entropies * mask).sum() / mask.sum().clamp(min=1),
            token_loss=loss.token,
            item_loss=loss.item,
            token_clip_fraction=loss.token_clip_fraction,
            item_clip_fraction=loss.item_clip_fraction,
            item_accuracy=loss.item_accuracy,
        )
        total = (settings.token_weight * self.token_weights[index] * loss.token + loss.item) / len(batches)
        if torch.is_grad_enabled():
            items.note(loss.item / len(batches))
            if index == len(batches) - 1:
                total = total + items.send_back(self.accelerator)
        return check_loss(self, total)

    def _item_softmax(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """States of the item softmax, the targets' rows among them, and the rows' ids and log q, where they matter."""
        items = self.step_items
        if self.whole_catalogue:
            assert self.item_embeddings is not None
            return items.in_table(self.item_embeddings), targets, None, None
        return items.states, items.rows(targets), items.ids, items.log_q if self.settings.logq_correction else None

    def step_batches(self, inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """This process's micro-batches of the present optimiser step."""
        return private_names.micro_batches(self) if self.policy.model.training else [inputs]

    def _begin_step(self, model: torch.nn.Module, batches: list[dict[str, Tensor]]) -> None:
        """Choose and encode the items of the whole optimiser batch, and put their states into the table."""
        settings, device = self.settings, self.accelerator.device
        targets: Any = self.accelerator.gather(torch.cat([batch["targets"] for batch in batches]))
        # Old log-probabilities hold for the items they were taken with: a batch's later uses draw the same ones.
        seed, turn = self.args.seed, self.state.global_step // self.num_iterations
        ids, log_q = choose_items(targets, self.target_share, settings.item_negatives, seed, turn, self.whole_catalogue)

        def encode(chosen: list[int]) -> Tensor:
            with autocast(self.policy.compute_dtype, device):
                return self.item_encoder(model, chosen, device)

        self.step_items = encode_step(encode, ids, log_q, self.accelerator)
        masks = [batch["loss_mask"] for batch in batches]
        self.token_weights = token_weights(settings.token_normalization, masks, self.accelerator)
        assert self.item_embeddings is not None
        self.item_embeddings[ids] = self.step_items.states.detach()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """TRL's clock stops while a GPU still has the backward pass to do: what is left of it counts too."""
        loss = super().training_step(*args, **kwargs)
        start = time.perf_counter()
        if private_names.passes_made(self) % self.args.gradient_accumulation_steps == 0:  # it has just noted a step's
            private_names.gathered_figures(self)["step_time"][-1] += now() - start
        return loss

    def gather_figures(self, **figures: Tensor | float) -> None:
        """Note figures for the next log line, which averages them."""
        gathered = private_names.gathered_figures(self)
        for name, value in figures.items():
            gathered[name].append(float(torch.as_tensor(value).detach()))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as TRL does, what was gathered since the last line averaged over the processes as well."""
        metrics = private_names.gathered_figures(self)
        names = sorted(metrics)
        if names and self.accelerator.num_processes > 1:
            means: Any = torch.tensor([sum(metrics[name]) / len(metrics[name]) for name in names])
            means = self.accelerator.reduce(means.to(self.accelerator.device), "mean")
            metrics.update({name: [mean] for name, mean in zip(names, means.tolist(), strict=True)})
        super().log(logs, *args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No model card: an adapter's card is written by :func:`rrec_lib.model.adapters.save_adapter`."""


def fused_reward_of_group(**kwargs: Any) -> list[float | None]:
    """Named for TRL, which wants a reward function per trainer; RecPO scores whole groups from hidden states."""
    raise RuntimeError("RecPO scores groups in RecPOTrainer.sample_and_score, not per completion")
