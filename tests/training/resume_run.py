"""Train the smoke profile for ``test_resume.py``, and die by SIGKILL where the first argument says.

Arguments: where to die (see ``die_at``, or ``never``), the folder of the run, a JSON object of settings, the stage.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Trainer

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.policy import load_policy
from rrec_lib.training.item_trainer import ItemTrainer
from rrec_lib.training.recpo_trainer import RecPOTrainer
from rrec_lib.training.stages import train_recpo, warm_up


def die_at(place: str, step: int) -> None:
    """Patch the trainer so that the process kills itself at a place of a step."""

    def dying(cls: type, method: str, before: bool) -> None:
        original = getattr(cls, method)

        def patched(self, *args, **kwargs):
            result = None if before and self.state.global_step == step else original(self, *args, **kwargs)
            if self.state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(cls, method, patched)

    places = {
        "after sampling": (RecPOTrainer, "sample_and_score", False),
        "before the update": (Trainer, "_get_grad_norm", False),
        "after the weights are saved": (Trainer, "_save_optimizer_and_scheduler", True),
        "before the mark": (ItemTrainer, "save_progress", False),
        "after the mark": (Trainer, "_maybe_log_save_evaluate", False),
    }
    dying(*places[place])


if __name__ == "__main__":
    place, folder, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    if place != "never":
        name, _, step = place.rpartition(" ")
        die_at(name, int(step))
    profile = load_profile("smoke", settings.pop("knobs", None))
    policy = load_policy(profile.model)
    data = prepare_profile(profile)
    if sys.argv[4] == "recpo":
        train_recpo(policy, data, profile, folder, callbacks=[], **settings)
    else:
        warm_up(policy, data, profile, folder, **settings)
    weights = {name: p.detach().contiguous() for name, p in policy.model.named_parameters() if p.requires_grad}
    save_file(weights, folder / "trained.safetensors")
