"""The small catalogue's trie, a model of each family, another model of the items; the smoke profile's rows."""

import pytest
import torch
from baselines.generative.small_catalogue import END, PROMPTS, TITLES  # tests/ is on the path

from rrec_lib.baselines.generative.trie import build_trie


@pytest.fixture(scope="session")
def trie():
    return build_trie(TITLES, END)


@pytest.fixture(params=["qwen2", "llama", "gemma2"])
def model(request, family):
    """Of each family in turn, with weights large enough that its preferences differ from prompt to prompt."""
    model = family(request.param, initializer_range=0.5)[0].double()
    model.resize_token_embeddings(128)
    return model


@pytest.fixture(scope="session")
def item_logprobs():
    """(E, N) of another model."""
    return torch.randn(len(PROMPTS), len(TITLES), generator=torch.Generator().manual_seed(3)).double().log_softmax(1)


@pytest.fixture(scope="session")
def train(smoke_dataset):
    return list(smoke_dataset["train"])


@pytest.fixture(scope="session")
def items(smoke_dataset):
    return list(smoke_dataset["items"])
