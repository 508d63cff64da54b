"""Trained adapters: folders that say what they were trained on, and refuse anything else.

LoRA weights lie in PEFT's own files, so that ``PeftModel.from_pretrained`` loads them as well. A policy trained in full
has one file of all its weights. Either way a card lies beside them.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file

from rrec_lib.core.paths import replacing_folder
from rrec_lib.core.reading import DamagedError, read_json, read_tensors
from rrec_lib.core.results import log_lines
from rrec_lib.model.policy import Policy
from rrec_lib.model.prompts import prompts_hash

WEIGHTS, CARD, LOG = "adapter_model.safetensors", "adapter_card.json", "log.jsonl"


def save_adapter(
    policy: Policy, folder: Path, catalogue: str, notes: dict[str, Any], log: Sequence[dict[str, Any]] = ()
) -> None:
    """Save the LoRA weights in bfloat16, or all weights in float32, with a card of what they are tied to.

    The folder appears whole or not at all.

    Args:
        policy: the trained policy.
        folder: replaced if it exists.
        catalogue: hash of the item table it was trained on.
        notes: how it was made: profile, steps, command, commit.
        log: the run's log lines, to be kept beside the weights.
    """
    rank, alpha = _lora_shape(policy)
    card = {"tied_to": identity(policy, catalogue), "rank": rank, "alpha": alpha, **notes}
    with replacing_folder(folder) as new:
        if isinstance(policy.model, PeftModel):
            _save_lora(policy.model, new)
        else:
            weights = {name: value.detach().float().cpu() for name, value in policy.model.named_parameters()}
            save_file(weights, new / WEIGHTS)
        (new / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        if log:
            log_lines(log, new / LOG)


def _save_lora(model: PeftModel, folder: Path) -> None:
    """Save by PEFT, and take out what only holds here: the base's path (the card names its hash) and a random order."""
    weights = {name: value.bfloat16().cpu() for name, value in model.state_dict().items() if ".lora_" in name}
    model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)
    (folder / "README.md").unlink()  # an empty form
    config: Any = PeftConfig.from_pretrained(str(folder))
    config.base_model_name_or_path, config.target_modules = None, sorted(config.target_modules)
    config.save_pretrained(str(folder))


def weights_digest(folder: Path) -> str:
    """A hash of an adapter's weights, 16 hex digits."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16]


def holds(folder: Path, policy: Policy, catalogue: str) -> bool:
    """Whether a folder has the adapter that :func:`save_adapter` would write, so that its card is the right one."""
    try:
        card, weights = read_json(folder / CARD, "tied_to"), read_tensors(folder / WEIGHTS)
    except (FileNotFoundError, DamagedError):
        return False
    present = _loaded(policy)
    return (
        card["tied_to"] == identity(policy, catalogue)
        and weights.keys() == present.keys()
        and all(torch.equal(value, present[name].detach().to("cpu", value.dtype)) for name, value in weights.items())
    )


def load_adapter(policy: Policy, folder: Path, catalogue: str) -> dict[str, Any]:
    """Load LoRA weights into a policy, in place, and return their card.

    Raises:
        FileNotFoundError: if the folder has no adapter.
        ValueError: if the adapter was trained on other base weights, prompts or catalogue, or with another LoRA shape,
            or holds NaN.
    """
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"no adapter in {folder}: {CARD} or {WEIGHTS} is missing; train one with `rrec train`")
    card = read_json(folder / CARD, "tied_to", "rank", "alpha")
    check_identity(card["tied_to"], identity(policy, catalogue), folder)
    rank, alpha = _lora_shape(policy)
    if (card["rank"], card["alpha"]) != (rank, alpha):
        raise ValueError(
            f"the adapter in {folder} has LoRA rank {card['rank']} and alpha {card['alpha']}, the profile {rank} and"
            f" {alpha}; set model.lora_rank and model.lora_alpha to the adapter's (0: all weights are trained)"
        )
    weights = {name: value.float() for name, value in read_tensors(folder / WEIGHTS).items()}
    if weights.keys() != _loaded(policy).keys():
        raise ValueError(
            f"the adapter in {folder} adapts other layers than the profile; set model.lora_layers as it was"
        )
    if not all(value.isfinite().all() for value in weights.values()):
        raise ValueError(f"the adapter in {folder} holds weights that are no numbers; train it again")
    if rank:
        set_peft_model_state_dict(policy.model, weights)
    else:
        policy.model.load_state_dict(weights, strict=False)  # tied weights are in the file once
    return card


def _loaded(policy: Policy) -> dict[str, Any]:
    """The policy's weights that an adapter's file holds, by their names there."""
    if isinstance(policy.model, PeftModel):
        return get_peft_model_state_dict(policy.model)
    return dict(policy.model.named_parameters())


def _lora_shape(policy: Policy) -> tuple[int, int]:
    """LoRA's rank and alpha; 0 and 0 where all weights are trained."""
    if not isinstance(policy.model, PeftModel):
        return 0, 0
    lora: Any = policy.model.peft_config["default"]
    return lora.r, lora.lora_alpha


def identity(policy: Policy, catalogue: str) -> dict[str, str]:
    """What trained weights are tied to: hashes of the base weights, the prompts and the catalogue."""
    return {"base": policy.base_hash, "prompts": prompts_hash(policy.tokenizer), "catalogue": catalogue}


def check_identity(recorded: dict[str, str], present: dict[str, str], folder: Path) -> None:
    """Refuse trained weights that are tied to something else than what is loaded."""
    words = {"base": "base weights", "prompts": "prompts or chat template", "catalogue": "catalogue"}
    different = [key for key in words if recorded.get(key) != present[key]]
    if different:
        details = "; ".join(f"{words[key]} {recorded.get(key)}, now {present[key]}" for key in different)
        raise ValueError(
            f"the adapter in {folder} was trained on something else ({details}), so its states would mean nothing here;"
            " use the profile it was trained with, or train it again with `rrec train`"
        )
