"""Policies of the smoke profile, fresh and trained, and a part of its catalogue."""

import pytest
import torch

from rrec_lib.model.policy import load_policy


@pytest.fixture
def fresh(smoke_profile):
    """A policy as training begins: its LoRA is the identity."""
    return load_policy(smoke_profile.model)


@pytest.fixture
def trained(smoke_profile):
    """A policy whose LoRA is not the identity."""
    policy = load_policy(smoke_profile.model)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


@pytest.fixture(scope="session")
def items(smoke_dataset):
    """The first twelve items of the smoke profile."""
    return list(smoke_dataset["items"])[:12]
