"""From a profile to TRL's configuration: shared batches, and what is refused."""

from functools import partial

import pytest

from rrec_lib.core import hardware
from rrec_lib.core.profiles import load_profile
from rrec_lib.recpo.advantages import ADVANTAGES
from rrec_lib.recpo.losses import TOKEN_NORMALIZATIONS
from rrec_lib.training import configuration
from rrec_lib.training.configuration import check_recpo, recpo_config


def test_configuration_refuses_what_would_be_wrong(smoke_profile, tmp_path):
    for settings, sentence in (
        ({"steps_per_generation": 2}, "steps_per_generation must equal"),
        ({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}, "6, and must be a multiple of num_gen"),
        ({"logging_steps": 3}, "save_steps 2 must be a multiple of logging_steps 3"),
        ({"optim": "paged_adamw_8bit"}, "needs bitsandbytes"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_recpo(recpo_config(smoke_profile, tmp_path, **settings))
    config = recpo_config(smoke_profile, tmp_path)
    check_recpo(config)
    assert config.num_generations == smoke_profile.rollouts.group_size


def test_every_choice_of_a_profile_is_one_that_the_algorithm_has():
    for key, choices in (("advantage", ADVANTAGES), ("token_normalization", TOKEN_NORMALIZATIONS)):
        for name in choices:
            load_profile("smoke", {f"training.{key}": name})
        with pytest.raises(ValueError, match=f"training.{key} takes {' or '.join(choices)}, got 'ppo'"):
            load_profile("smoke", {f"training.{key}": "ppo"})


def test_a_profiles_batch_is_that_of_all_processes_together(tmp_path, monkeypatch):
    shared = partial(hardware.users_of_a_process, processes=4)
    monkeypatch.setattr(configuration, "users_of_a_process", shared)
    paper = load_profile("paper", {"training.optimizer": "sgd"})
    config = recpo_config(paper, tmp_path)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (4, 6)  # 4 x 6 users of G = 4
    assert config.optim == "sgd"


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", 0.1), ("loss_type", "dr_grpo"), ("top_p", 0.5), ("scale_rewards", False), ("min_p", 0.2),
     ("repetition_penalty", 1.3), ("mask_truncated_completions", True)],
)  # fmt: skip
def test_what_recpo_does_not_read_is_refused(smoke_profile, tmp_path, name, value):
    check_recpo(recpo_config(smoke_profile, tmp_path))
    with pytest.raises(ValueError, match=f"{name}: RecPO's sampling and loss do not read this"):
        check_recpo(recpo_config(smoke_profile, tmp_path, **{name: value}))
