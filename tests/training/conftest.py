"""Training on the smoke profile from a fresh policy, as every test here wants it."""

import pytest

from rrec_lib.core.profiles import load_profile
from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training.stages import train_recpo, warm_up


@pytest.fixture
def recpo(smoke_dataset, tmp_path):
    """Train RecPO: knobs of the profile by dotted key, a subfolder, and fields of TRL's configuration."""

    def train(knobs=None, folder="run", dataset=smoke_dataset, **settings):
        profile = load_profile("smoke", knobs)
        settings = {"callbacks": [], **settings}
        return train_recpo(load_policy(profile.model), dataset, profile, tmp_path / folder, **settings)

    return train


@pytest.fixture
def warmup(smoke_dataset, tmp_path):
    """Train the warm-up likewise, with checkpoints every three steps."""

    def train(knobs=None, folder="run", dataset=smoke_dataset, **settings):
        profile = load_profile("smoke", knobs)
        settings = {"save_steps": 3, **settings}
        return warm_up(load_policy(profile.model), dataset, profile, tmp_path / folder, **settings)

    return train


@pytest.fixture
def fresh(smoke_profile):
    """Hash of the weights that every run starts from."""
    return trained_hash(load_policy(smoke_profile.model))


def trained_hash(policy):
    return weights_hash(policy.model, only_trainable=True)
