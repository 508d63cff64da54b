"""Checkpoints: which are whole, how many stay, what a run leaves behind."""

import pytest

from rrec_lib.training import checkpoints
from rrec_lib.training.checkpoints import COMPLETE, all_checkpoints, last_checkpoint


def test_an_incomplete_checkpoint_is_never_taken(tmp_path):
    for step, complete in ((2, True), (10, True), (20, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / COMPLETE).touch()
    for name in ("checkpoint-30.bak", "checkpoint-best"):  # a reader's copies
        (tmp_path / name).mkdir()
        (tmp_path / name / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert [folder.name for folder in all_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10", "checkpoint-20"]
    assert last_checkpoint(tmp_path / "nothing here") is None


def steps_of(folder):
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


def test_the_oldest_go_once_a_new_one_is_whole_and_remains_of_a_killed_run_go_too(recpo, tmp_path, monkeypatch):
    there, original = [], checkpoints.shutil.rmtree

    def watched(folder, *args, **kwargs):
        there.append((steps_of(tmp_path / "run"), (folder / COMPLETE).exists()))
        original(folder, *args, **kwargs)

    monkeypatch.setattr(checkpoints.shutil, "rmtree", watched)
    recpo(save_steps=1, save_total_limit=1, max_steps=3)
    assert there == [([1, 2], False), ([2, 3], False)]  # the new one stood beside, the old one was no longer whole
    (tmp_path / "run" / "checkpoint-2").mkdir()  # as a killed run leaves it
    recpo(save_steps=1, save_total_limit=None, max_steps=5)
    assert steps_of(tmp_path / "run") == [3, 4, 5]
    (tmp_path / "run" / "checkpoint-5" / COMPLETE).unlink()
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-4"


def test_one_that_is_written_again_is_not_whole_meanwhile(recpo, tmp_path):
    trainer = recpo(save_steps=1, max_steps=2)
    checkpoint, seen = tmp_path / "run" / "checkpoint-2", []
    original = trainer.save_progress
    trainer.save_progress = lambda folder: seen.append((folder / COMPLETE).exists()) or original(folder)
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    assert seen == [False]
    assert (checkpoint / COMPLETE).exists()


def test_a_checkpoint_without_its_rollouts_is_refused(recpo, tmp_path):
    recpo(save_steps=1, max_steps=1, num_iterations=2)
    for path in (tmp_path / "run" / "checkpoint-1").glob("rollouts_*.pt"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"rollouts_0.pt is missing; resume with the num_iterations"):
        recpo(save_steps=1, max_steps=2, num_iterations=2)
