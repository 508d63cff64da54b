"""One training step of RecPO and of TRL's stock ``GRPOTrainer`` on the same model, prompts, G and lengths."""

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import fixed_lengths, forward_flops, pairs_behind, random_prompts, rollout_flops, sizes
from datasets import Dataset, DatasetDict
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rrec_lib.core import hardware
from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model import packing
from rrec_lib.model.packing import PackedGroups, PackedOutput
from rrec_lib.model.policy import Policy, language_model
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.recpo_trainer import RecPOTrainer, recpo_config

SHARED = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
SHARED |= {"gradient_checkpointing": False, "top_k": 50, "temperature": 1.0, "num_iterations": 1, "logging_steps": 1}


class Clock(TrainerCallback):
    """Seconds of the step alone: rollout, scoring and update, without setting the trainer up."""

    seconds = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = hardware.now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = hardware.now() - self.start


class FixedPrompts(GRPOTrainer):
    """The stock trainer, given prompts as token ids so that their length is exact, and generating in the same type:
    TRL's autocast covers its loss alone."""

    token_ids: list[list[int]]

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.token_ids[int(prompt)] for prompt in prompts], None, {}

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        half = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
        with hardware.autocast(half, self.accelerator.device):
            return super()._prepare_inputs(generation_batch)


class Steps:
    """Both trainers on one policy; each call makes a fresh trainer and returns the seconds of its one step."""

    def __init__(self, profile: Profile, policy: Policy, quick: bool) -> None:
        self.profile, self.policy = profile, policy
        self.users, self.group_size, self.prompt_length, self.length = sizes(quick)
        self.prompts = random_prompts(policy, self.users, self.prompt_length)
        data = prepare_profile(profile)
        self.data = DatasetDict({**data, "train": data["train"].select(range(self.users))})
        self.refresh_seconds = 0.0

    def _shared(self, folder: str) -> dict[str, Any]:
        return SHARED | {
            "output_dir": folder,
            "use_cpu": self.policy.device.type == "cpu",
            "per_device_train_batch_size": self.users * self.group_size,
            "num_generations": self.group_size,
            "max_completion_length": self.length,
        }

    def flops(self) -> int:
        """Of sampling and of the update, forward and backward down to the first adapted layer; the items' encoding and
        what LoRA adds are left out, so that shares are a little too small."""
        shape = self.users, self.group_size, self.prompt_length, self.length
        forward, logits = rollout_flops(self.policy, *shape), self.users * self.group_size * self.length
        head = forward_flops(self.policy, 0, 0, logits)
        layers = int(language_model(self.policy.model).config.num_hidden_layers)
        reached = (self.profile.model.lora_layers or layers) / layers
        # Through frozen weights a product has one gradient, its input's; attention's two products have two each.
        pairs = self.users * (
            pairs_behind(0, self.prompt_length) + self.group_size * pairs_behind(self.prompt_length, self.length)
        )
        attention = forward_flops(self.policy, 0, pairs)
        return 2 * forward + head + round(reached * (forward - head + attention))

    def ours(self) -> float:
        """The item table's refresh, due every n steps, counts as an n-th."""
        clock = Clock()
        with (
            tempfile.TemporaryDirectory() as folder,
            fixed_lengths(),
            mock.patch.object(trainer_module, "encode_users", return_value=self.prompts),
        ):
            shared = self._shared(folder)
            args = recpo_config(self.profile, Path(shared.pop("output_dir")), **shared)
            trainer = RecPOTrainer(self.policy, args, self.data, self.profile, [clock])
            start = hardware.now()
            trainer.refresh_item_table()
            self.refresh_seconds = hardware.now() - start
            trainer.train()
        return clock.seconds + self.refresh_seconds / self.profile.training.item_refresh_steps

    def apart(self) -> float:
        """Ours, but in the update every reasoning has a row of its own, behind a copy of its prompt."""
        with mock.patch.object(trainer_module, "packed_forward", apart_forward):
            return self.ours()

    def whole_softmax(self) -> float:
        """Ours, but the softmax over the vocabulary is computed for all tokens at once."""
        with mock.patch.object(packing.TokenLogprobs, "CHUNK", 10**9):
            return self.ours()

    def stock(self) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            computed = self.policy.compute_dtype
            half = {"bf16": computed == torch.bfloat16, "fp16": computed == torch.float16}
            args = GRPOConfig(**self._shared(folder), **half, generation_kwargs={"min_new_tokens": self.length})
            trainer = FixedPrompts(
                model=self.policy.model,
                reward_funcs=random_reward,
                args=args,
                train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(self.users)]}),
                processing_class=self.policy.tokenizer,
                callbacks=[clock],
            )
            trainer.token_ids = self.prompts
            trainer.train()
        return clock.seconds


def apart_forward(model: torch.nn.Module, groups: PackedGroups, temperature: float) -> PackedOutput:
    """The packed pass with groups of one."""
    size = groups.completion_ids.shape[1]
    values = {
        name: value.repeat_interleave(size, 0) if name.startswith("prompt") else value.flatten(0, 1)[:, None]
        for name, value in vars(groups).items()
    }
    return packing.packed_forward(model, PackedGroups(**values), temperature)


def random_reward(completions: list[Any], **_: Any) -> list[float]:
    """Free of charge, and different within a group, so that gradients flow."""
    return torch.rand(len(completions)).tolist()
