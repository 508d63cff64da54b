"""Several processes: one writes, all end alike, and layouts that can't train are refused before any work."""

import json
import threading
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from rrec_lib.cli.main import main
from rrec_lib.core.paths import one_at_a_time
from rrec_lib.core.processes import check_launch, of_main
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.model import item_table, load
from rrec_lib.model.adapters import LOG, load_adapter
from rrec_lib.model.policy import load_policy
from rrec_lib.training.stages import train_recpo, warm_up

SCRIPT = Path(__file__).with_name("train_processes.py")
TRAIN = ["-m", "rrec_lib.cli", "train", "--profile", "smoke"]


def test_one_process_writes_and_all_end_alike(launch, tmp_path, smoke_profile, smoke_dataset):
    run, reports = tmp_path / "run", tmp_path / "reports"
    reports.mkdir()
    done = launch(2, str(SCRIPT), str(run), str(reports))
    assert done.returncode == 0, done.stderr[-2000:]
    main_process, other = (json.loads((reports / f"{rank}.json").read_text()) for rank in (0, 1))
    assert main_process["code"] == other["code"] == 0

    def alone(report):
        """What a process changed beside its own files in a checkpoint."""
        return [change for change in report["changes"] if "/checkpoint-" not in change]

    assert alone(other) == []
    written = " ".join(alone(main_process))
    assert all(name in written for name in ("warmup-adapter", "recpo-adapter", "log.jsonl", "best.safetensors"))
    assert main_process["judged"] == other["judged"]
    assert main_process["judged"][:2] == [4, 2]  # of the main process's values; the other's never fall
    for stage in ("warmup", "recpo"):
        adapter = run / "train" / f"{stage}-adapter"
        load_adapter(load_policy(smoke_profile.model), adapter, catalogue_hash(smoke_dataset["items"]))
        assert (adapter / LOG).is_file()
    assert sorted(path.name for path in (run / "train").iterdir()) == [
        "recpo", "recpo-adapter", "warmup", "warmup-adapter",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_no_run_fails(launch, tmp_path, processes):
    for number in range(20):
        out = tmp_path / str(number)
        done = launch(processes, *TRAIN, "--out", str(out))
        assert done.returncode == 0, f"run {number}: {done.stderr[-2000:]}"
        assert sorted(path.name for path in out.iterdir()) == ["recpo", "recpo-adapter", "warmup", "warmup-adapter"]


FAILING = """
import os, sys
from rrec_lib.training import stages
from rrec_lib.cli.main import main
save = stages.save_adapter

def fails(*arguments):
    raise OSError("disk full")

stages.save_adapter = fails
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(launch, tmp_path):
    """The main process can't save, the other waits for it: no half hour, until the backend gives up."""
    (tmp_path / "failing.py").write_text(FAILING)
    done = launch(2, str(tmp_path / "failing.py"), *TRAIN[2:], "--out", str(tmp_path / "run"), timeout=120)
    assert done.returncode != 0
    assert "rrec: error: disk full" in done.stderr


# -- work that one process does for all --------------------------------------------------------------------------------


def test_a_block_is_entered_by_one_at_a_time(tmp_path):
    entered, leave = [], threading.Event()

    def work(name):
        with one_at_a_time(tmp_path / "lock"):
            entered.append(name)
            leave.wait(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    threads[0].join(0.2)
    threads[1].join(0.2)
    assert len(entered) == 1  # the other is kept out, for as long as the first stays
    leave.set()
    for thread in threads:
        thread.join(10)
    assert sorted(entered) == ["a", "b"]


def test_the_packaged_model_is_converted_once_by_two_that_come_together(tmp_path, monkeypatch):
    converted, both = [], threading.Barrier(2)

    def convert(gguf, folder):
        converted.append(folder)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    def work():
        both.wait(10)
        load._convert_gguf(tmp_path / "model.gguf")

    monkeypatch.setenv("RREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "_convert", convert)
    (tmp_path / "model.gguf").write_bytes(b"weights")
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(converted) == 1
    assert (converted[0] / "config.json").is_file()


def test_two_processes_may_keep_one_item_table_at_once(tmp_path, monkeypatch, smoke_profile, smoke_dataset):
    monkeypatch.setattr(item_table, "cache_dir", lambda: tmp_path)
    one, items = load_policy(smoke_profile.model), list(smoke_dataset["items"])[:4]
    real, depth = item_table.save_file, list[int]()

    def save(tensors, path):
        if not depth:  # in the middle of the first process's work, a second does the same from start to end
            depth.append(1)
            item_table.item_table(one, items)
        real(tensors, path)

    monkeypatch.setattr(item_table, "save_file", save)
    table = item_table.item_table(one, items)
    assert depth
    assert [path.suffix for path in (tmp_path / "item_tables").iterdir()] == [".safetensors"]
    assert torch.equal(item_table.item_table(one, items), table)


# -- layouts -----------------------------------------------------------------------------------------------------------

DIVIDED = [
    ({"ACCELERATE_USE_FSDP": "true"}, "FSDP divides the weights"),
    ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "tensor or context parallelism divides the weights"),
    ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "DeepSpeed ZeRO-3 divides"),
    ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": "zero3.json"}, "DeepSpeed ZeRO-3"),
]


@pytest.mark.parametrize(("environment", "sentence"), DIVIDED)
def test_divided_weights_are_refused_before_any_work(tmp_path, monkeypatch, capsys, environment, sentence):
    monkeypatch.chdir(tmp_path)
    Path("zero3.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    monkeypatch.setattr("rrec_lib.data.examples.prepare_profile", lambda profile: pytest.fail("work was done"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--profile", "smoke", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sentence in error
    assert "four_gpus_zero2.yaml" in error
    assert not Path("run").exists()


def test_layouts_that_can_train_are_not_refused(monkeypatch):
    check_launch()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_launch()


def test_several_gpus_in_one_process_are_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rrec_lib.data.examples.prepare_profile", lambda profile: pytest.fail("work was done"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["train", "--profile", "smoke", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "accelerate launch --multi_gpu --num_processes 2" in error
    assert "CUDA_VISIBLE_DEVICES=0" in error


@pytest.mark.parametrize("stage", [warm_up, train_recpo])
@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [("n_gpu", 2, "2 GPUs in one process"), ("fsdp", True, "FSDP divides the weights")],
)
def test_a_trainer_refuses_them_too(smoke_profile, smoke_dataset, tmp_path, monkeypatch, stage, name, value, sentence):
    """Notebooks build trainers without the command line."""
    monkeypatch.setattr(TrainingArguments, name, property(lambda self: value, lambda self, given: None), raising=False)
    with pytest.raises(ValueError, match=sentence):
        stage(load_policy(smoke_profile.model), smoke_dataset, smoke_profile, tmp_path)


def test_of_one_process_the_value_is_its_own():
    value = object()
    assert of_main(value) is value
