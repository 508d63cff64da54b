"""A run that is killed anywhere and started again ends as if nothing had happened."""

import json
import signal
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from fresh_process import run_script
from safetensors.torch import load_file

from rrec_lib.model.policy import load_policy, weights_hash
from rrec_lib.training.checkpoints import COMPLETE, last_checkpoint
from rrec_lib.training.stages import train_recpo

SCRIPT = Path(__file__).with_name("resume_run.py")
# Two updates per batch and two micro-batches: the checkpoint of step 3 falls inside a batch's second use.
SETTINGS = {
    "num_iterations": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "max_steps": 6,
    "save_steps": 3, "learning_rate": 1e-2, "knobs": {"training.item_negatives": 4},
}  # fmt: skip
TIMES = {"step_time", "rollout_seconds", "sampled_tokens_per_second", "train_runtime"}
TIMES |= {"train_samples_per_second", "train_steps_per_second", "cpu_seconds"}


WARMUP = {"max_steps": 4, "save_steps": 2, "knobs": {"model.lora_layers": 1}}  # the item encoder keeps the others


def run(folder: Path, place: str = "never", stage: str = "recpo") -> int:
    done = run_script(SCRIPT, place, folder, json.dumps(SETTINGS if stage == "recpo" else WARMUP), stage)
    print(done.stderr)
    return done.returncode


def log(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody kills."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder) == 0
    return folder


@pytest.mark.parametrize(
    ("place", "remains"),
    [
        ("after sampling 2", None),
        ("before the update 4", 3),
        ("after the weights are saved 3", None),
        ("before the mark 6", 3),
        ("after the mark 6", 6),
    ],
)
def test_a_killed_run_resumes_to_the_same_end(whole, tmp_path, place, remains):
    assert run(tmp_path, place) == -signal.SIGKILL
    found = last_checkpoint(tmp_path)
    assert (found and found.name) == (remains and f"checkpoint-{remains}")
    assert not (tmp_path / "trained.safetensors").exists()
    assert run(tmp_path) == 0
    assert_same_end(tmp_path, whole)


@pytest.mark.parametrize(("place", "remains"), [("before the update 3", 2), ("before the mark 4", 2)])
def test_a_killed_warm_up_resumes_to_the_same_end(tmp_path, place, remains):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole, stage="warmup") == 0
    assert run(killed, place, "warmup") == -signal.SIGKILL
    found = last_checkpoint(killed)
    assert found is not None
    assert found.name == f"checkpoint-{remains}"
    assert run(killed, stage="warmup") == 0
    assert_same_end(killed, whole)


def assert_same_end(ours: Path, theirs: Path) -> None:
    own, other = (load_file(folder / "trained.safetensors") for folder in (ours, theirs))
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in other)
    assert log(ours) == log(theirs)
    assert all((folder / COMPLETE).is_file() for folder in ours.glob("checkpoint-*"))


def test_a_finished_run_is_loaded_and_not_trained_further(smoke_profile, smoke_dataset, tmp_path):
    def train(folder):
        policy = load_policy(smoke_profile.model)
        trainer = train_recpo(policy, smoke_dataset, smoke_profile, folder, callbacks=[])
        return weights_hash(policy.model, only_trainable=True), trainer.state.global_step

    first = train(tmp_path)
    assert train(tmp_path) == first
    assert first[1] == smoke_profile.training.steps


def test_resuming_in_a_later_epoch_keeps_the_order(smoke_profile, smoke_dataset, tmp_path):
    few = DatasetDict({**smoke_dataset, "train": smoke_dataset["train"].select(range(6))})  # 3 steps an epoch

    def rewards(folder, **settings):
        settings = {"save_steps": 1, "save_total_limit": None, **settings}
        policy = load_policy(smoke_profile.model)
        trainer = train_recpo(policy, few, smoke_profile, folder, callbacks=[], **settings)
        return [row["reward"] for row in trainer.state.log_history if "reward" in row]

    whole = rewards(tmp_path / "whole", max_steps=8)
    assert len({round(reward, 6) for reward in whole}) > 4
    for stop in (3, 5):  # between two epochs, and inside one
        rewards(tmp_path / str(stop), max_steps=stop)
        assert rewards(tmp_path / str(stop), max_steps=8) == whole


def test_the_comparison_can_fail(whole):
    """Steps differ from each other, so equal logs and weights mean something."""
    rows = [row for row in log(whole) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert len({row["token_loss"] for row in rows}) == 6
    assert "train_loss" in log(whole)[-1]
