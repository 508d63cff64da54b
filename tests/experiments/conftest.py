"""What tests of readings share: an adapter that does something."""

import pytest
import torch

from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.model.adapters import save_adapter
from rrec_lib.model.policy import load_policy


@pytest.fixture(scope="session")
def make_adapter(smoke_profile, smoke_dataset, tmp_path_factory):
    """A function from a seed to the folder of a random adapter of that seed's tiny model."""

    def make(number=0, **notes):
        policy, folder = load_policy(smoke_profile.model, number), tmp_path_factory.mktemp("adapter")
        torch.manual_seed(number)
        with torch.no_grad():
            for name, weight in policy.model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.3)
        save_adapter(policy, folder / "one", catalogue_hash(smoke_dataset["items"]), notes)
        return folder / "one"

    return make


@pytest.fixture(scope="session")
def adapter(make_adapter):
    """Folder of a random adapter of the tiny model."""
    return make_adapter()
