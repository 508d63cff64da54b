"""A run's folder takes its own run alone: another is refused by what differs, and nothing in the folder changes."""

import dataclasses
import json
import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from rrec_lib.cli.main import main
from rrec_lib.core.paths import alone_in
from rrec_lib.model.policy import load_policy
from rrec_lib.training import run_folder
from rrec_lib.training.callbacks import StopOnValid
from rrec_lib.training.checkpoints import last_checkpoint
from rrec_lib.training.run_folder import claim, settings_of, settings_of_stage
from rrec_lib.training.stages import make_adapters, text_hash

SMALL = ["--set", "training.steps=2", "--set", "warmup.steps=2", "--profile", "smoke"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, both stages."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(["train", "--out", str(folder), *SMALL]) == 0
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--seed", "1"], "seed 0, now 1"),
        (["--set", "warmup.learning_rate=0.01"], "warmup.learning_rate 0.001, now 0.01"),
        (["--set", "training.learning_rate=0.01"], "training.learning_rate 0.001, now 0.01"),
        (["--set", "training.users_per_step=2"], "training.users_per_step 4, now 2"),
        (["--set", "rollouts.group_size=2"], "rollouts.group_size 4, now 2"),
        (["--set", "model.lora_rank=2"], "model.lora_rank 4, now 2"),
        (["--set", "data.max_users=30"], "data.max_users 40, now 30"),
        (["--set", "warmup.steps=3"], "warmup.steps 2, now 3"),
        (["--set", "training.steps=1"], "training.steps 2, now 1"),
    ],
)
def test_another_run_is_refused_by_what_differs(run, capsys, changes, named):
    before = contents(run)
    assert main(["train", "--out", str(run), *SMALL, *changes]) == 2
    said = capsys.readouterr().err
    assert "is of a run with other settings" in said
    assert named in said
    assert "--restart" in said
    assert contents(run) == before


def test_a_finished_run_called_again_keeps_its_adapters_and_their_cards(run):
    before = contents(run / "recpo-adapter") | contents(run / "warmup-adapter")
    assert main(["train", "--out", str(run), *SMALL]) == 0
    assert contents(run / "recpo-adapter") | contents(run / "warmup-adapter") == before


def test_a_damaged_checkpoint_is_named_with_the_way_on(run, tmp_path, capsys):
    for name in ("trainer_state.json", "optimizer.pt"):
        copy = tmp_path / name
        shutil.copytree(run, copy)
        file = copy / "recpo" / "checkpoint-2" / name
        file.write_bytes(file.read_bytes()[:40])
        assert main(["train", "--out", str(copy), *SMALL, "--set", "training.steps=3"]) == 2
        said = capsys.readouterr().err
        assert f"{file} is damaged" in said
        assert f"delete {file.parent}, and the run goes on" in said


def test_two_trainings_in_one_folder_are_one_too_many(run, capsys):
    before = contents(run)
    with alone_in(run / "warmup"):
        assert main(["train", "--out", str(run), *SMALL, "--restart"]) == 2
    assert f"another process is at work in {run / 'warmup'}" in capsys.readouterr().err
    assert contents(run) == before


def test_the_place_of_an_adapter_may_be_taken(tmp_path, capsys):
    (tmp_path / "recpo-adapter").mkdir()
    (tmp_path / "recpo-adapter" / "notes.txt").write_text("mine")
    assert main(["train", "--out", str(tmp_path), *SMALL]) == 2
    assert "recpo-adapter holds no adapter_card.json, so it is not replaced" in capsys.readouterr().err
    assert not (tmp_path / "warmup").exists()


def test_the_same_run_goes_on_and_so_does_a_longer_one(run, capsys):
    for more in ([], ["--set", "training.save_steps=3", "--set", "training.users_at_once=1"]):
        assert main(["train", "--out", str(run), *SMALL, *more]) == 0
    assert main(["train", "--out", str(run), *SMALL, "--set", "training.steps=3"]) == 0
    assert last_checkpoint(run / "recpo") == run / "recpo" / "checkpoint-3"


def test_other_data_of_the_same_name_is_refused(smoke_profile, smoke_dataset, tmp_path):
    warmup = dataclasses.replace(smoke_profile.warmup, steps=1)
    profile = dataclasses.replace(smoke_profile, warmup=warmup)
    make_adapters(profile, smoke_dataset, tmp_path, stages=("warmup",))
    other = smoke_dataset.copy()
    other["train"] = smoke_dataset["train"].select(range(20))
    with pytest.raises(ValueError, match="data_hash"):
        make_adapters(profile, other, tmp_path, stages=("warmup",))


def test_a_run_goes_on_in_the_arithmetic_that_it_began_with(smoke_profile, smoke_dataset, tmp_path):
    """A busy machine, or another one, may measure another type to be the fastest."""

    def settings(asked, found):
        profile = dataclasses.replace(smoke_profile, model=dataclasses.replace(smoke_profile.model, dtype=asked))
        policy = dataclasses.replace(load_policy(smoke_profile.model), compute_dtype=found)
        return settings_of_stage("recpo", policy, smoke_dataset, profile, 0)

    first = settings("auto", torch.float32)
    claim(tmp_path, first)
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    claim(tmp_path, settings("float32", torch.float32))
    with pytest.raises(ValueError, match="dtype"):
        claim(tmp_path, settings("auto", torch.bfloat16))
    old = {**first, "model": {**first["model"], "dtype": "auto"}}  # of a version that didn't say what was measured
    (tmp_path / run_folder.FILE).write_text(json.dumps(old))
    claim(tmp_path, first)


def test_restart_starts_anew(tmp_path):
    one = [*SMALL, "--stage", "warmup", "--out", str(tmp_path)]
    assert main(["train", *one]) == 0
    first = json.loads((tmp_path / "warmup-adapter" / "log.jsonl").read_text().splitlines()[0])
    assert main(["train", *one, "--seed", "1"]) == 2
    for place in ("mine.txt", "checkpoint-2.bak"):
        (tmp_path / "warmup" / place).write_text("mine")
    assert main(["train", *one, "--seed", "1", "--restart"]) == 0
    assert {"mine.txt", "checkpoint-2.bak"} <= {path.name for path in (tmp_path / "warmup").iterdir()}
    again = json.loads((tmp_path / "warmup-adapter" / "log.jsonl").read_text().splitlines()[0])
    assert again["loss"] != first["loss"]
    assert json.loads((tmp_path / "warmup" / "settings.json").read_text())["seed"] == 1


def test_checkpoints_without_settings_are_refused(tmp_path, smoke_profile):
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(ValueError, match="does not say with which settings"):
        claim(tmp_path, settings_of(smoke_profile))
    assert not (tmp_path / "settings.json").exists()


def test_only_the_first_process_writes(tmp_path, smoke_profile):
    claim(tmp_path, settings_of(smoke_profile), may_write=False)
    assert not (tmp_path / "settings.json").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.optimizer=paged_adamw_8bit", "needs bitsandbytes, which is not installed"),
        ("training.optimizer=adam", "training.optimizer takes a name of Transformers'"),
        ("rollouts.vllm=colocate", "rollouts.vllm needs vLLM, which is not installed"),
        ("training.users_at_once=3", "users_per_step 4 can't be shared equally"),
    ],
)
def test_what_recpo_refuses_is_said_before_the_warm_up(tmp_path, capsys, setting, said):
    assert main(["train", "--out", str(tmp_path / "run"), "--set", setting, "--profile", "smoke"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_warm_up_is_told_by_texts_judge_and_processes(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    policy = load_policy(smoke_profile.model)
    of_stage = partial(settings_of_stage, "warmup", policy, smoke_dataset)

    def judged(patience=3, profile=smoke_profile):
        return of_stage(profile, 0, StopOnValid(lambda: 0.0, 1, 1.0, patience))

    slow = dataclasses.replace(smoke_profile, warmup=dataclasses.replace(smoke_profile.warmup, steps=400))
    assert judged() == judged()
    assert judged() != judged(patience=9)
    assert judged() != judged(profile=slow)  # its learning rate rises for longer
    assert of_stage(smoke_profile, 0, max_steps=9) != of_stage(slow, 0, max_steps=9)  # here, too
    last = smoke_dataset["train"][-1]
    told = [text_hash(text, smoke_dataset) for text in (lambda row: "one", lambda row: str(int(row == last)))]
    assert of_stage(smoke_profile, 0, texts=told[:1]) != of_stage(smoke_profile, 0, texts=told[1:])
    claim(tmp_path, {**judged(), "texts": told})
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(ValueError, match="texts"):
        claim(tmp_path, {**judged(), "texts": told[:1]})
    (tmp_path / "settings.json").write_text(json.dumps({k: v for k, v in judged().items() if k != "rise"}))
    claim(tmp_path, {**judged(), "texts": told})  # a folder from before these were kept
    alone = judged()
    monkeypatch.setattr(run_folder, "PartialState", lambda: SimpleNamespace(num_processes=2))
    assert judged() == {**alone, "processes": 2}
    assert "processes" not in settings_of_stage("recpo", policy, smoke_dataset, smoke_profile, 0)
