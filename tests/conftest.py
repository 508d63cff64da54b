"""What all tests share: no network, no noise, no touching of the reader's caches."""

import copy
import gc
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from unittest import mock

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("RREC_CACHE", os.path.join(tempfile.gettempdir(), f"rrec-tests-{os.getuid()}"))


# Two processes take files in turns: where a long one came last, one of them would wait for the other's end.
LONGEST = (
    "notebooks/test_notebooks.py",
    "training/test_resume.py",
    "benchmarks/test_benchmarks.py",
    "training/test_callbacks.py",
    "recpo/test_vllm.py",
    "baselines/generative/test_title_baselines.py",
    "device/test_pretend_accelerator.py",
    "training/test_half_precision.py",
    "data/amazon/test_malformed.py",
    "data/csv/test_malformed.py",
    "experiments/test_ablation_runs.py",
    "tools/test_render.py",
    "training/test_distributed.py",
    "baselines/generative/test_title_trainer.py",
    "training/test_recpo_trainer.py",
    "training/test_failures.py",
    "training/test_warmup_trainer.py",
    "core/test_processes.py",
    "test_full.py",
    "cli/test_main.py",
    "plan/test_estimate.py",
    "tools/test_grade.py",
    "experiments/test_reference_run.py",
    "training/test_stages.py",
    "experiments/test_trial.py",
    "model/test_hub.py",
    "training/test_run_folder.py",
    "notebooks/test_keep.py",
)
TESTS = Path(__file__).parent
assert all((TESTS / name).is_file() for name in LONGEST)


def pytest_configure(config: pytest.Config) -> None:
    """Xdist hands files out as they come, not those with the most tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; ``pytest --durations=50`` says which they are."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """What the imports left is garbage to nobody: looking through it again and again takes a tenth of a second each."""
    gc.freeze()


LOCAL = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Refuse connections to any other host, so that a test that needs one fails here too."""
    original = socket.socket.connect

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(f"a test wanted to connect to {address[0]}; tests need no network")
        return original(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_tokenizer():
    """Read the packaged tokenizer once, not in each of hundreds of tests; whoever adds tokens to one gets its own."""
    from transformers import AutoTokenizer
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    from rrec_lib.model import load

    read, add = AutoTokenizer.from_pretrained, TokenizersBackend._add_tokens
    packaged = load.resolve("smollm2-135m-instruct")
    first = read(packaged)

    def from_pretrained(place, **options):
        if options or place != packaged:
            return read(place, **options)
        return copy.deepcopy(first, {id(first._tokenizer): first._tokenizer})

    def add_tokens(self, *given, **options):
        if self._tokenizer is first._tokenizer:
            self._tokenizer = copy.deepcopy(self._tokenizer)
        return add(self, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoTokenizer, "from_pretrained", from_pretrained)
        patch.setattr(TokenizersBackend, "_add_tokens", add_tokens)
        yield


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """Start a command in several processes on the CPU, with `accelerate launch`, plain or under DeepSpeed's ZeRO."""

    def start(processes: int, *command: str, zero: int | None = None, timeout: int = 300):
        configuration = tmp_path_factory.mktemp("launch") / "cpu.yaml"  # options alone start one process on a CPU
        kind = f"DEEPSPEED, deepspeed_config: {{zero_stage: {zero}}}" if zero else "MULTI_GPU"
        configuration.write_text(
            f"{{distributed_type: {kind}, use_cpu: true, num_machines: 1, num_processes: {processes},"
            " main_process_port: 0, mixed_precision: 'no'}"
        )
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
        root = str(Path(__file__).parents[1])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "DS_ACCELERATOR": "cpu"}
        return subprocess.run(
            [*launcher, *command], env=environment, timeout=timeout, capture_output=True, text=True, check=False
        )

    return start


@pytest.fixture(scope="session")
def smoke_profile():
    """The profile of the tests: a tiny random model and 40 users."""
    from rrec_lib.core.profiles import load_profile

    return load_profile("smoke")


@pytest.fixture(scope="session")
def smoke_dataset(smoke_profile):
    """Its prepared data."""
    from rrec_lib.data.examples import prepare_profile

    return prepare_profile(smoke_profile)


@pytest.fixture(scope="session")
def family():
    """Make a tiny random model of a family, and SmolLM2's tokenizer with a chat template like the family's."""
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen2Config

    from rrec_lib.model.load import load_tokenizer

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

    def make(name, **settings):
        config_class, template = families[name]
        tokenizer = load_tokenizer("smollm2-135m-instruct")
        tokenizer.chat_template = template
        torch.manual_seed(0)
        config = config_class(vocab_size=len(tokenizer), **size, **settings)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), tokenizer

    return make


@pytest.fixture(params=["qwen2", "llama", "gemma2"])
def of_family(request, family):
    """A policy without LoRA, of each family in turn."""
    from rrec_lib.model.policy import Policy

    model, tokenizer = family(request.param)
    return Policy(model, tokenizer, torch.float32, "none")


@pytest.fixture(scope="session")
def alone():
    """The (n, d) states of sequences that are encoded one by one, with nothing padded, shared or packed."""
    from rrec_lib.model.encode import last_hidden_states

    def states(model, sequences):
        rows = [torch.tensor([list(sequence)]) for sequence in sequences]
        return torch.cat([last_hidden_states(model, row, torch.ones_like(row)) for row in rows])

    return states


@pytest.fixture(scope="session")
def saved_family(family, tmp_path_factory):
    """Save a family's tiny model in a folder, and get the smoke profile that loads it."""
    from rrec_lib.core.profiles import load_profile

    @lru_cache
    def folder_of(name, dtype, change):
        folder = tmp_path_factory.mktemp(name)
        model, tokenizer = family(name)
        if change is not None:
            change(model)
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def save(name, dtype=torch.float32, change=None, kind="float32"):
        return load_profile("smoke", {"model.name": str(folder_of(name, dtype, change)), "model.dtype": kind})

    return save


@pytest.fixture(scope="session")
def pretended_gpu():
    """A card that multiplies in a type: an A100 in bfloat16, a T4 in float16. ``torch.cuda`` says that it is there."""
    from rrec_lib.core import hardware

    @contextmanager
    def pretend(kind):
        with (
            mock.patch.object(torch.cuda, "is_available", return_value=True),
            mock.patch.object(torch.cuda, "is_bf16_supported", return_value=kind == "bfloat16"),
            mock.patch.object(hardware, "device", return_value=torch.device("cpu")),  # where all is computed
        ):
            yield

    return pretend
