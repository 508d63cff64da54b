"""Scenarios on the processor and on the pretend accelerator: prints a JSON object of what each found.

``pretend_run.py NAME...`` runs the scenarios of these names, without any all but the slow ones;
``test_pretend_accelerator.py`` reads what they found.
"""

import contextlib
import io
import json
import re
import runpy
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pretend_accelerator as pretend
import torch
from datasets import DatasetDict
from safetensors.torch import load_file

from rrec_lib.baselines.encoders import ENCODERS, SequenceSettings
from rrec_lib.baselines.registry import Splits, fitted_baselines
from rrec_lib.baselines.sequence import SequenceRecommender
from rrec_lib.core import hardware
from rrec_lib.core.profiles import Profile, load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.evaluation.evaluate import evaluate, evaluate_scores, training_counts
from rrec_lib.evaluation.ranks import target_rank
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab import LabConfig, run_arm, taught_model
from rrec_lib.lab.model import read_out, sample
from rrec_lib.model import encode as encode_module
from rrec_lib.model import item_table as table_module
from rrec_lib.model.adapters import load_adapter
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table
from rrec_lib.model.lora import language_model
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.model.prompts import encode_items, encode_users
from rrec_lib.recommend.films import FilmRecommender
from rrec_lib.recommend.recommender import ReasoningRecommender
from rrec_lib.recpo import rollouts
from rrec_lib.recpo.rollouts import sample_groups
from rrec_lib.training import recpo_trainer as trainer_module
from rrec_lib.training.stages import save_stage, train_recpo, warm_up

PROFILE: Profile = load_profile("smoke", {"model.dtype": "float32"})
DATA: DatasetDict = prepare_profile(PROFILE)
ITEMS, TEST = list(DATA["items"]), list(DATA["test"])[:8]
SCENARIOS: dict[str, Callable[[], Any]] = {}


def scenario(work: Callable[[], Any]) -> Callable[[], Any]:
    SCENARIOS[work.__name__] = work
    return work


def policy_here(seed: int = 1) -> Policy:
    """A policy on the machine's device whose LoRA is not the identity."""
    policy = load_policy(PROFILE.model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference between what two devices computed."""
    return (one.cpu().double() - other.cpu().double()).abs().max().item()


def both(work: Callable[[], Any]) -> tuple[Any, Any]:
    """What the processor and the accelerator make of the same work, from the same seed."""
    with pretend.chosen(pretend.CPU):
        torch.manual_seed(0)
        here = work()
    torch.manual_seed(0)
    return here, work()


def on_device(tensor: torch.Tensor) -> bool:
    return tensor.device.type == pretend.NAME


# -- the accelerator itself -------------------------------------------------------------------------------------------


def raised(work: Callable[[], Any]) -> str:
    try:
        work()
    except Exception as error:
        return type(error).__name__
    return "nothing"


@scenario
def mixing() -> dict[str, Any]:
    """What CUDA refuses is refused, what it allows is allowed."""
    ours, theirs = torch.arange(6.0, device=pretend.DEVICE).view(2, 3), torch.ones(2, 3)
    index = torch.tensor([1])
    refused = {
        "add": lambda: ours + theirs,
        "product": lambda: ours @ theirs.T,
        "cat": lambda: torch.cat([ours, theirs]),
        "gather": lambda: ours.gather(1, index[None]),
        "select": lambda: ours.index_select(0, index),
        "embedding": lambda: torch.nn.functional.embedding(index, ours),
        "index of the device": lambda: theirs[index.to(pretend.DEVICE)],
        "index_put": lambda: ours.index_put((index,), torch.ones(1, 3)),
        "number in a product": lambda: torch.dot(ours[0], torch.tensor(2.0).expand(3)),
        "generator": lambda: torch.multinomial(ours + 1, 1, generator=torch.Generator()),
        "numpy": lambda: ours.numpy(),
        "array": lambda: __import__("numpy").asarray(ours),
    }
    allowed = {
        "single number": lambda: ours * torch.tensor(2.0),
        "where": lambda: torch.where(ours > 1, ours, torch.tensor(0.0)),
        "index": lambda: ours[index],
        "list": lambda: ours[[0, 1]],
        "copy": lambda: ours.clone().copy_(theirs),
        "in place": lambda: ours.clone().add_(1).mul_(2),
        "to and fro": lambda: ours.cpu() + theirs,
    }
    return {
        "refused": {name: raised(work) for name, work in refused.items()},
        "allowed": {name: raised(work) for name, work in allowed.items()},
        "in place": (ours.clone().add_(1)).tolist(),
        "stays": on_device(ours * 2 + ours.sum()),
    }


def counted(work: Callable[[], Any]) -> dict[str, int]:
    pretend.COUNTS.waits.clear()
    pretend.COUNTS.sent.clear()
    pretend.COUNTS.on = True
    try:
        work()
    finally:
        pretend.COUNTS.on = False
    return {"waits": pretend.COUNTS.waits.total(), "sent": pretend.COUNTS.sent.total()}


@scenario
def counting() -> dict[str, Any]:
    ours = torch.arange(4, device=pretend.DEVICE)
    return {
        "item": counted(lambda: ours[0].item()),
        "bool": counted(lambda: bool((ours > 0).all())),
        "tolist": counted(ours.tolist),
        "cpu": counted(ours.cpu),
        "mask": counted(lambda: ours[ours > 1]),
        "list index": counted(lambda: ours[[0, 1]]),
        "to": counted(lambda: torch.ones(2).to(pretend.DEVICE)),
        "to without waiting": counted(lambda: torch.ones(2).to(pretend.DEVICE, non_blocking=True)),
        "tensor": counted(lambda: torch.tensor([1], device=pretend.DEVICE)),
        "multinomial": counted(lambda: torch.multinomial(ours + 1.0, 1)),
        "number in where": counted(lambda: torch.where(ours > 1, ours, -1)),
        "tensor in where": counted(lambda: torch.where(ours > 1, ours, torch.tensor(-1))),
        "masked_fill": counted(lambda: ours.masked_fill(ours > 1, -1)),
        "arithmetic": counted(lambda: (ours + 1).sum().clamp(min=1)),
    }


# -- the library ------------------------------------------------------------------------------------------------------


def prompts(policy: Policy, count: int = 4) -> list[list[int]]:
    return encode_users(policy.tokenizer, TEST[:count], ITEMS)


def write(policy: Policy, temperature: float = 1.0, length: int = 12, fixed: bool = False) -> rollouts.Rollouts:
    model = language_model(policy.model)
    with policy.inference():
        return sample_groups(model, policy.tokenizer, prompts(policy), 2, length, temperature, 50, fixed)


@scenario
def sampling() -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, temperature in (("drawn", 1.0), ("greedy", 0.0)):

        def written(t: float = temperature) -> Any:
            return write(policy_here(), t)

        here, there = both(written)
        result |= {name: here.closed == there.closed, f"{name} gap": gap(here.states, there.states)}
    other = write(policy_here(2))
    return {**result, "there": on_device(there.states), "another policy": gap(other.states, here.states)}


@scenario
def waits() -> dict[str, Any]:
    """Waits and copies of a decode step: what a longer reasoning costs more, by step."""
    policy = policy_here()

    def cost(length: int) -> dict[str, int]:
        return counted(lambda: write(policy, length=length, fixed=True))

    def per_step() -> dict[str, float]:
        short, long = cost(3), cost(13)
        return {name: (long[name] - short[name]) / 10 for name in short}

    write(policy)  # the first pass of a policy is looked at for overflow
    found: dict[str, Any] = {"ours": per_step()}
    found["where"] = dict(pretend.COUNTS.waits)
    ending = counted(lambda: write(policy, length=24))  # members end at different steps, rows leave
    lengths = [len(closed.ids) for closed in write(policy, length=24).closed]
    found["ending"] = {"waits": ending["waits"], "steps": max(lengths) + 1}

    def apart(lists: Any, where: torch.device) -> tuple[torch.Tensor, ...]:
        return tuple(torch.tensor(numbers, dtype=torch.long).to(where) for numbers in lists)

    with mock.patch.object(rollouts, "send", apart):
        found["each on its own"] = per_step()

    def by_multinomial(writing: Any, logits: torch.Tensor, temperature: float, top_k: int) -> list[int]:
        values, tokens = logits.topk(top_k)
        drawn = torch.multinomial((values.float() / temperature).softmax(-1), 1)
        return tokens.gather(-1, drawn)[:, 0].tolist()

    with mock.patch.object(rollouts, "_choose", by_multinomial):
        found["drawn by multinomial"] = per_step()
    return found


@scenario
def encoding() -> dict[str, Any]:
    def states() -> torch.Tensor:
        policy = policy_here()
        return encode(policy, encode_items(policy.tokenizer, ITEMS))

    here, there = both(states)
    with mock.patch.object(encode_module, "batches", wraps=encode_module.batches) as called:
        both(states)
    sizes = [call.args[1] for call in called.call_args_list]
    return {"gap": gap(here, there), "there": on_device(there), "scale": here.abs().max().item(), "batch tokens": sizes}


@scenario
def table() -> dict[str, Any]:
    """The item table, made, kept and read again."""
    here, there = both(lambda: item_table(policy_here(), ITEMS))
    policy = policy_here()
    again = item_table(policy, ITEMS)
    with mock.patch.object(table_module, "encode", side_effect=AssertionError("not read from the disk")):
        item_table(policy, ITEMS)
    return {"gap": gap(here, there), "there": on_device(again), "again": gap(again, there)}


def evaluation() -> dict[str, Any]:
    counts = training_counts(list(DATA["train"]), len(ITEMS))

    def report() -> dict[str, Any]:
        recommender = ReasoningRecommender(policy_here(), ITEMS, PROFILE, use_cache=False)
        findings = recommender.check(TEST, "policy", trained=True)
        found = evaluate(recommender, TEST, "policy", 50, train_counts=counts, batch_size=5, findings=findings)
        states = {name: recommender.states(TEST, name) for name in ("none", "random", "other", "shuffled")}
        return {
            "ranks": found.n_greater.tolist(), "lists": found.lists["coverage@20"],
            "controls": {name: value.cpu() for name, value in states.items()},
        }  # fmt: skip

    here, there = both(report)
    return {
        "ranks": here["ranks"] == there["ranks"], "different ranks": len(set(here["ranks"])) > 1,
        "lists": here["lists"] == there["lists"],
        "controls": max(gap(here["controls"][name], there["controls"][name]) for name in here["controls"]),
    }  # fmt: skip


@scenario
def recommend() -> dict[str, Any]:
    titles = [f"{item['title']} ({item['year']})" for item in ITEMS[:2]]

    def answer() -> dict[str, Any]:
        recommender = FilmRecommender(ReasoningRecommender(policy_here(), ITEMS, PROFILE, use_cache=False), "base")
        return recommender.recommend(titles, k=4).as_dict()

    here, there = both(answer)
    scores = [[item.pop("score") for item in found["items"]] for found in (here, there)]
    return {
        "same": here == there,
        "items": len(here["items"]),
        "scores": max(abs(a - b) for a, b in zip(*scores, strict=True)),
    }


def trained(policy: Policy) -> dict[str, torch.Tensor]:
    return {n: p.detach().cpu().clone() for n, p in policy.model.named_parameters() if p.requires_grad}


def largest_gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(gap(one[name], other[name]) for name in one)


def train_stage(stage: str, folder: Path, steps: int, knobs: dict[str, Any] | None = None, **settings: Any) -> Any:
    policy, profile = policy_here(), load_profile("smoke", knobs)
    torch.manual_seed(5)
    settings = {"max_steps": steps, "save_steps": 1, **settings}
    if stage == "recpo":
        return policy, train_recpo(policy, DATA, profile, folder, callbacks=[], **settings)
    return policy, warm_up(policy, DATA, profile, folder, **settings)


def a_step(stage: str, **settings: Any) -> dict[str, Any]:
    """Two steps of a stage, and the second of them again from the checkpoint of the first, on both devices."""

    def run() -> dict[str, Any]:
        before = trained(policy_here())
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            policy, trainer = train_stage(stage, folder / "run", 2, **settings)
            whole = trained(policy)
            kept = load_file(folder / "run" / "checkpoint-1" / "adapter_model.safetensors")
            shutil.rmtree(folder / "run" / "checkpoint-2")
            resumed, _ = train_stage(stage, folder / "run", 2, **settings)
            save_stage(policy, trainer, folder / "adapter", DATA, PROFILE)
            loaded = load_policy(PROFILE.model)
            load_adapter(loaded, folder / "adapter", catalogue_hash(DATA["items"]))
            first = {re.sub(r"(lora_[AB])", r"\1.default", name): value for name, value in kept.items()}
            return {
                "whole": whole, "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
                "moved": largest_gap(before, first), "second moved": largest_gap(first, whole),
                "resumed": largest_gap(trained(resumed), whole),
                "loaded": largest_gap(trained(loaded), whole),  # bfloat16 in the file
                "there": next(policy.model.parameters()).device.type,
            }  # fmt: skip

    here, there = both(run)
    losses = zip(here.pop("losses"), there.pop("losses"), strict=True)
    weights = largest_gap(here.pop("whole"), there.pop("whole"))
    return {"gap": weights, "loss gap": max(abs(a - b) for a, b in losses), **there}


RATE: dict[str, Any] = {"learning_rate": 1e-3, "lr_scheduler_type": "constant", "warmup_steps": 0}
RECPO = {**RATE, "num_iterations": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}


def warmup_step() -> dict[str, Any]:
    return a_step("warmup", **RATE)


@scenario
def recpo_step() -> dict[str, Any]:
    return a_step("recpo", **RECPO, knobs={"training.item_negatives": 4})


def catalogue_step() -> dict[str, Any]:
    """RecPO's item softmax over the catalogue."""
    return a_step("recpo", **RATE, knobs={"training.item_softmax": "catalogue", "training.item_negatives": 4})


@scenario
def baselines() -> dict[str, Any]:
    splits = Splits.of(DATA)
    result: dict[str, Any] = {}
    few = list(splits.train)[:200]
    for name, recommender in fitted_baselines(DATA).items():
        with pretend.chosen(pretend.CPU):
            here = evaluate(recommender, TEST, name, 20).n_greater
        result[name] = bool((here == evaluate(recommender, TEST, name, 20).n_greater).all())
    for encoder in sorted(ENCODERS.keys() - {"gru4rec"}):  # accelerators have a GRU cell that the processor lacks
        settings = SequenceSettings(length=6, hidden=8, layers=1, epochs=2, negatives=8 if encoder == "esasrec" else 0)

        def scores(encoder: str = encoder, settings: SequenceSettings = settings) -> torch.Tensor:
            recommender = SequenceRecommender(encoder, splits.n_items, settings).to(hardware.device())
            return recommender.fit(few, TEST).scores(TEST)

        here, there = both(scores)
        ranks = [evaluate_scores(scores, TEST, encoder, 20).n_greater.tolist() for scores in (here, there)]
        result[encoder] = {"gap": gap(here, there), "there": on_device(there), "ranks": ranks[0] == ranks[1]}
    return result


LAB = LabConfig(
    steps=4, users=6, group_size=2, warmup_hits=1.0, warmup_steps=2, warmup_last_steps=2, warmup_rows=12,
    teach_steps=2, teach_mixed_steps=1, teach_rows=8, steps_without=2, width=16, layers=1, heads=2, train_users=200,
    valid_users=40, test_users=64, evaluate_every=2,
)  # fmt: skip


@scenario
def lab() -> dict[str, Any]:
    """The lab is the processor's, and stays there; its model goes where it is put."""
    here, there = both(lambda: run_arm(LAB, "full", 0).curves)

    def heads() -> dict[str, torch.Tensor]:
        model = taught_model(LAB, 0).to(hardware.device())
        histories = torch.arange(24).view(6, 4).to(hardware.device())
        written, logprobs = sample(model, histories, 2, torch.Generator().manual_seed(3))
        states, again = read_out(model, histories.repeat_interleave(2, 0), written)
        assert again is not None
        scores = score_items(states, model.item_states())
        (scores.logsumexp(-1).mean() - again.mean()).backward()
        target_rank(scores, torch.arange(12))
        gradient = next(p.grad for p in model.parameters() if p.grad is not None)
        return {"written": written, "logprobs": logprobs, "again": again, "scores": scores, "gradient": gradient}

    one, other = both(heads)
    return {
        "curves": here == there, "points": len(here["step"]),
        "gaps": {name: gap(one[name], other[name]) for name in one},
        "there": on_device(other["scores"]), "gradient": one["gradient"].abs().max().item(),
    }  # fmt: skip


# -- seeded mistakes --------------------------------------------------------------------------------------------------


def on_the_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """A library function whose tensors were left on the processor."""

    def mistaken(*args: Any, **kwargs: Any) -> Any:
        return torch.utils._pytree.tree_map(
            lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, function(*args, **kwargs)
        )

    return mistaken


@scenario
def mistakes() -> dict[str, str]:
    """Each lets one function leave its tensors on the processor; none goes through."""
    policy = policy_here()
    return seeded(
        {
            "prompts": (rollouts, "pad_rows", lambda: write(policy)),
            "a step's numbers": (rollouts, "send", lambda: write(policy)),
            "attention mask": (rollouts, "attention_mask", lambda: write(policy)),
            "padded items": (encode_module, "pad_rows", lambda: item_table(policy, ITEMS, use_cache=False)),
        }
    )


def mistakes_in_training() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:

        def step(name: str) -> Callable[[], Any]:
            return lambda: train_stage("recpo", Path(folder) / name, 1, **RATE)

        names = ("score_items", "mask_items", "ranking_reward")
        return seeded({name: (trainer_module, name, step(name)) for name in names})


def seeded(mistakes: dict[str, tuple[Any, str, Callable[[], Any]]]) -> dict[str, str]:
    """What is raised, by mistake."""
    found = {}
    for name, (module, function, work) in mistakes.items():
        with mock.patch.object(module, function, on_the_cpu(getattr(module, function))):
            found[name] = raised(work)
    return found


# -- what a GPU run measures ------------------------------------------------------------------------------------------

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def benchmark(name: str) -> Callable[[], Any]:
    """A benchmark on tiny sizes, whose last line is its result."""

    def measure() -> dict[str, Any]:
        said = io.StringIO()
        with (
            mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]),
            mock.patch.object(sys, "argv", [name, "--quick"]),
            contextlib.redirect_stdout(said),
        ):
            runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        return dict(json.loads(said.getvalue().splitlines()[-1]))

    return measure


SLOW: dict[str, Callable[[], Any]] = {
    **{work.__name__: work for work in (evaluation, warmup_step, catalogue_step, mistakes_in_training)},
    **{f"benchmark {name}": benchmark(name) for name in ("rollouts", "item_encoding", "recpo_step")},
}


def main(names: list[str]) -> None:
    pretend.install()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with pretend.Accelerator():
        for name in names or list(SCENARIOS):
            start = time.monotonic()
            try:
                found[name] = {**SCENARIOS, **SLOW}[name]()
            except Exception:
                found[name] = {"error": traceback.format_exc()}
            print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
