"""What all tests share: no network, no noise, no touching of the reader's caches."""

import copy
import importlib
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("RREC_CACHE", os.path.join(tempfile.gettempdir(), f"rrec-tests-{os.getuid()}"))

LOCAL = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Refuse connections to any other host, so that a test that needs one fails here too."""
    original = socket.socket.connect

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(f"a test wanted to connect to {address[0]}; tests need no network")
        return original(self, address)

    socket.socket.connect = connect
    yield
    socket.socket.connect = original


@pytest.fixture(scope="session")
def load_script():
    """Import a script of ``scripts/`` by name; scripts import each other."""
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def smoke_profile():
    """The profile of the tests: a tiny random model and 40 users."""
    from rrec_lib.profiles import load_profile

    return load_profile("smoke")


@pytest.fixture(scope="session")
def smoke_dataset(smoke_profile):
    """Its prepared data."""
    from rrec_lib.data.examples import prepare_profile

    return prepare_profile(smoke_profile)


@pytest.fixture(scope="session")
def family():
    """Make a tiny random model of a family, and SmolLM2's tokenizer with a chat template like the family's."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen2Config

    from rrec_lib.models import load_tokenizer

    plain = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[end]{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    no_system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    families = {
        "qwen2": (Qwen2Config, plain),
        "llama": (LlamaConfig, plain),
        "gemma2": (Gemma2Config, no_system + plain),
    }
    size = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"num_key_value_heads": 1, "head_dim": 12, "pad_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
    smollm2 = load_tokenizer("smollm2-135m-instruct")

    def make(name, **settings):
        config_class, template = families[name]
        tokenizer = copy.deepcopy(smollm2)
        tokenizer.chat_template = template
        torch.manual_seed(0)
        config = config_class(vocab_size=len(tokenizer), **size, **settings)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), tokenizer

    return make
