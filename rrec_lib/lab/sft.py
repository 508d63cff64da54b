"""The lab's supervised fine-tuning: two styles of writing, from histories alone, until the tallies are right."""

import time

import torch
from torch import Tensor

from rrec_lib.core.console import progress
from rrec_lib.lab.model import LabModel, read_out, sample
from rrec_lib.lab.settings import LabConfig
from rrec_lib.lab.world import N_ITEMS, World, tally_shares, write_chatter, write_tallies

BETAS = (0.9, 0.98)  # of AdamW: a shorter memory than its default learns to add up sooner
LESSON_RATE_WARMUP = 42  # first lessons at a rising rate
CHECK_EVERY = 20  # lessons
CHECK_USERS = 512


def teach(config: LabConfig, world: World, seed: int) -> tuple[LabModel, dict[str, float]]:
    """Teach a new model to write: tallies alone until they are right, then tallies and chatter, half and half.

    Adding up is what takes long, and how long differs between seeds. A fixed number of lessons left some models with
    wrong tallies, which no later reward can mend, so the lessons end by a rule. It looks at the writing of users made
    up for the purpose, and at nothing that is recommended.

    Args:
        config: the knobs.
        world: whose attributes are tallied; its targets are not looked at.
        seed: of the model and the lessons.

    Returns:
        The model, and ``steps``, ``right`` and ``seconds`` as :class:`rrec_lib.lab.settings.LabRun` describes them.
    """
    start, generator, checks = time.process_time(), *(torch.Generator().manual_seed(seed + i) for i in (0, 4))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = LabModel(config.width, config.layers, config.heads, config.chain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.teach_learning_rate, betas=BETAS)

    def lesson(rate: float, idle: int) -> None:
        optimizer.param_groups[0]["lr"] = config.teach_learning_rate * rate
        drawn = torch.randint(len(world.train.targets), (config.teach_rows,), generator=generator)
        histories = world.train.histories[drawn]
        written = torch.cat([write_chatter(idle, generator, model.reasoning), write_tallies(world, histories[idle:])])
        _, logprobs = read_out(model, histories, written)
        assert logprobs is not None
        descend(optimizer, -logprobs.mean())

    steps = config.teach_steps
    for step in progress(range(config.teach_steps), "lessons in tallies"):
        lesson(min((step + 1) / LESSON_RATE_WARMUP, 1.0), 0)
        if (step + 1) % CHECK_EVERY == 0 and right_share(model, world, checks) >= config.teach_right:
            steps = step + 1
            break
    for step in progress(range(config.teach_mixed_steps), "lessons in both styles"):
        lesson(1 - step / config.teach_mixed_steps, config.teach_rows // 2)
    right = right_share(model, world, checks)
    return model, {"steps": float(steps), "right": right, "seconds": time.process_time() - start}


def right_share(model: LabModel, world: World, generator: torch.Generator) -> float:
    """Share of the written digits that are the true tally, over 512 users made up for the question; 0 without any."""
    histories = torch.randint(N_ITEMS, (CHECK_USERS, world.train.histories.shape[1]), generator=generator)
    written, _ = sample(model, histories, 1, generator)
    digits, right = tally_shares(world, histories, written)
    return float(right.sum() / digits.sum().clamp(min=1e-9))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimiser, its gradient cut to length 1."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
