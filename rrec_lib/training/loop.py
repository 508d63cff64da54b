"""A trainer's run from where it stands to its end, or to a sentence that says why it stopped."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerState

from rrec_lib.core.paths import alone_in
from rrec_lib.core.private_names import load_weights
from rrec_lib.core.processes import of_main
from rrec_lib.core.reading import check_whole
from rrec_lib.training.callbacks import StopOnValid, judge_of
from rrec_lib.training.checkpoints import last_checkpoint
from rrec_lib.training.failures import explain, stopped
from rrec_lib.training.run_folder import claim, clear


def run_in(
    folder: Path, trainer: Any, stop: StopOnValid | None, settings: dict[str, Any], restart: bool = False
) -> Any:
    """Tie a folder to a run, and train in it from its last checkpoint, or from the start.

    Args:
        folder: of checkpoints, the trainer's.
        trainer: to be run.
        stop: ends the run by valid or by a budget.
        settings: what the outcome depends on; see :mod:`rrec_lib.training.run_folder`.
        restart: delete what an earlier run left there first.

    Returns:
        The trainer.

    Raises:
        ValueError: if the folder is of a run with other settings, or its checkpoint is damaged.
        OSError: if another process trains in it.
    """
    with alone_in(folder) if trainer.args.should_save else nullcontext():
        if restart and trainer.args.should_save:
            clear(folder)
        trainer.accelerator.wait_for_everyone()
        claim(folder, settings, trainer.args.should_save)
        trainer.accelerator.wait_for_everyone()
        if stop is not None:
            trainer.add_callback(stop)
        checkpoint = of_main(last_checkpoint(folder))
        if checkpoint is not None:
            check_whole(checkpoint, f"delete {checkpoint}, and the run goes on from the one before, or anew")
            if trainer.is_world_process_zero():
                print(f"resuming from {checkpoint.name}", flush=True)
        run(trainer, checkpoint)
    return trainer


def run(trainer: Trainer, checkpoint: Path | None = None) -> None:
    """Train to the end; running out of memory, or of numbers, ends in a sentence.

    Args:
        trainer: either of the two.
        checkpoint: of the trainer's folder, to go on from.

    Raises:
        TrainingError: for a failure that a reader can mend.
    """
    if checkpoint is not None and _load_finished(trainer, checkpoint):
        return
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:  # tokenizers raises the bare class
        reason = explain(error, trainer.state.global_step + 1, Path(str(trainer.args.output_dir)))
        if reason is None:
            raise
        raise stopped(trainer, reason) from error


def _load_finished(trainer: Trainer, checkpoint: Path) -> bool:
    """Load a checkpoint whose run was over, by its steps or by a judge; Transformers would train one more."""
    state, judge = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")), judge_of(trainer)
    if not (0 < trainer.args.max_steps <= state.global_step or (judge is not None and judge.finished(state))):
        return False
    load_weights(trainer, checkpoint)
    trainer.state = state
    trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
    trainer.log({"train_runtime": 0.0, "total_flos": state.total_flos, "train_loss": 0.0})
    trainer.callback_handler.on_train_end(trainer.args, state, trainer.control)
    return True
