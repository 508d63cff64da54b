"""One RecPO step, item encoder included, against one of TRL's stock ``GRPOTrainer`` on the same model and lengths."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from common import (
    FLOPS,
    finish,
    forward_flops,
    in_turn,
    load,
    machine,
    options,
    pairs_behind,
    random_prompts,
    rollout_flops,
    sizes,
    spread,
)
from datasets import Dataset, DatasetDict
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rrec_lib.core import hardware
from rrec_lib.core.profiles import Profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.lora import language_model
from rrec_lib.model.packing import PackedGroups, PackedOutput, TokenLogprobs
from rrec_lib.model.policy import Policy
from rrec_lib.recpo.rollouts import Rollouts, sample_groups
from rrec_lib.training.configuration import recpo_config
from rrec_lib.training.recpo_trainer import RecPOTrainer

SHARED = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
SHARED |= {"gradient_checkpointing": False, "top_k": 50, "temperature": 1.0, "num_iterations": 1, "logging_steps": 1}


class Clock(TrainerCallback):
    """Seconds of the step alone: rollout, scoring and update, without setting the trainer up."""

    seconds = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = hardware.now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = hardware.now() - self.start


class Ours(RecPOTrainer):
    """RecPO on prompts and reasonings of fixed lengths."""

    token_ids: list[list[int]]

    def prompts_of(self, examples: list[dict[str, Any]]) -> list[list[int]]:
        return self.token_ids

    def _sample(self, prompts: list[list[int]], group_size: int) -> tuple[Rollouts, dict[str, Any]]:
        policy, args = self.policy, self.args
        with policy.inference():
            model, length = language_model(policy.model), int(args.max_completion_length or 0)
            sampling = args.temperature, args.top_k
            return sample_groups(model, policy.tokenizer, prompts, group_size, length, *sampling, True), {}


class Apart(Ours):
    """In the update every reasoning has a row of its own, behind a copy of its prompt."""

    def forward_groups(self, model: torch.nn.Module, groups: PackedGroups) -> PackedOutput:
        size = groups.completion_ids.shape[1]
        values = {
            name: value.repeat_interleave(size, 0) if name.startswith("prompt") else value.flatten(0, 1)[:, None]
            for name, value in vars(groups).items()
        }
        return super().forward_groups(model, PackedGroups(**values))


class Stock(GRPOTrainer):
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

    def ours(self, trainer_class: type[Ours] = Ours) -> float:
        """The item table's refresh, due every n steps, counts as an n-th."""
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            shared = self._shared(folder)
            args = recpo_config(self.profile, Path(shared.pop("output_dir")), **shared)
            trainer = trainer_class(self.policy, args, self.data, self.profile, [clock])
            trainer.token_ids = self.prompts
            start = hardware.now()
            trainer.refresh_item_table()
            self.refresh_seconds = hardware.now() - start
            trainer.train()
        return clock.seconds + self.refresh_seconds / self.profile.training.item_refresh_steps

    def apart(self) -> float:
        """Ours, with the update of :class:`Apart`."""
        return self.ours(Apart)

    def whole_softmax(self) -> float:
        """Ours, but the softmax over the vocabulary is computed for all tokens at once, from now on."""
        TokenLogprobs.CHUNK = 10**9
        return self.ours()

    def stock(self) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            computed = self.policy.compute_dtype
            half: dict[str, Any] = {"bf16": computed == torch.bfloat16, "fp16": computed == torch.float16}
            args = GRPOConfig(**self._shared(folder), **half, generation_kwargs={"min_new_tokens": self.length})
            trainer = Stock(
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


def random_reward(completions: list[Any], **_: Any) -> list[float | None]:
    """Free of charge, and different within a group, so that gradients flow."""
    return torch.rand(len(completions)).tolist()


def main() -> None:
    chosen = options(__doc__)
    profile, policy = load(chosen.quick)
    steps = Steps(profile, policy, chosen.quick)
    limits = machine(policy.compute_dtype, chosen.quick)
    seconds = in_turn({"ours": steps.ours, "stock": steps.stock}, chosen.rounds)
    lever = in_turn({"ours": steps.ours, "apart": steps.apart}, 1, warm_up=False)
    trajectories = steps.users * steps.group_size
    figures = {
        "dtype": str(policy.compute_dtype),
        "machine": limits,
        "trajectories_per_second": {n: spread([trajectories / s for s in v]) for n, v in seconds.items()},
        "share_of_matrix_peak": {
            n: steps.flops() / spread(v)["median"] / 1e9 / limits["matrix_gflops"] for n, v in seconds.items()
        },
        "flops": f"{FLOPS}; backward down to the first adapted layer; without the items' encoding",
        "item_table_refresh_seconds": steps.refresh_seconds,
        "lever_packed_update": lever["apart"][0] / lever["ours"][0],
    }
    ratios = [stock / ours for ours, stock in zip(seconds["ours"], seconds["stock"], strict=True)]
    finish("recpo_step", ratios, figures, chosen)


if __name__ == "__main__":
    main()
