"""One RecPO step on fixed rollouts, for ``test_distributed.py``: started once per process, writes how weights moved.

Arguments: the layout as a JSON object, a JSON list of knobs, and the folder to write to.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.policy import load_policy
from rrec_lib.recpo.rollouts import Rollouts, close
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.configuration import recpo_config
from rrec_lib.training.recpo_trainer import RecPOTrainer


def fixed_rollouts(model, tokenizer, prompts, group_size, *args, **kwargs):
    """Reasonings and states that depend on the prompt alone, so that every layout sees the same; lengths are ragged."""
    closed, states = [], []
    for prompt in prompts:
        digest = hashlib.sha256(str(list(prompt)).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
        for _ in range(group_size):
            length = int(torch.randint(1, 12, (), generator=generator))
            closed.append(close(torch.randint(1000, 2000, (length,), generator=generator).tolist(), tokenizer))
            states.append(torch.randn(model.config.hidden_size, generator=generator))
    return Rollouts(closed, torch.stack(states))


class MicroBatchNegatives(RecPOTrainer):
    """The negative control: each micro-batch knows only its own items."""

    def step_batches(self, inputs):
        return [inputs]

    def loss_of_groups(self, model, inputs):
        return super().loss_of_groups(model, inputs) / self.args.gradient_accumulation_steps


def one_step(
    knobs: dict, folder: Path, micro_batch_users: int, accumulation: int, control: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """How each LoRA weight moves in one step of plain gradient descent: minus the gradient; and the step's log line."""
    profile = load_profile("smoke", knobs)
    policy = load_policy(profile.model)
    generator = torch.Generator().manual_seed(3)
    trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    for parameter in trained.values():  # fresh LoRA has B = 0, and then no gradient in A
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    before = {name: p.detach().clone() for name, p in trained.items()}
    args = recpo_config(
        profile, folder, max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=0.0, weight_decay=0.0,
        save_strategy="no", gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=micro_batch_users * profile.rollouts.group_size,
    )  # fmt: skip
    trainer_module.sample_groups = fixed_rollouts
    trainer = (MicroBatchNegatives if control else RecPOTrainer)(policy, args, prepare_profile(profile), profile)
    trainer.train()
    moved = {name: (p.detach() - before[name]).contiguous() for name, p in trained.items()}
    table = trainer.item_embeddings  # rows weighted, so that their order counts
    assert table is not None
    weights = torch.linspace(-1, 1, table.numel()).view_as(table)
    return moved, {**trainer.state.log_history[0], "item_table": float((weights * table).sum())}


if __name__ == "__main__":
    layout, every_knobs, out = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
    for index, knobs in enumerate(every_knobs):
        moved, row = one_step(knobs, out / "run", **layout)
        path = out / f"{index}-{os.environ['RANK']}.safetensors"
        save_file(moved, path)
        path.with_suffix(".json").write_text(json.dumps(row), encoding="utf-8")
