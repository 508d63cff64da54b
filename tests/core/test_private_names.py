"""Private names of TRL and Transformers: each is there, does what is said of it, and is missed in a sentence."""

import pytest
import torch

from rrec_lib.core import private_names
from rrec_lib.core.profiles import load_profile
from rrec_lib.model.policy import load_policy
from rrec_lib.training.recpo_trainer import RecPOTrainer, recpo_config


@pytest.fixture
def trainer(smoke_dataset, tmp_path):
    profile = load_profile("smoke", {"training.users_at_once": 2})
    return RecPOTrainer(
        load_policy(profile.model), recpo_config(profile, tmp_path, max_steps=2), smoke_dataset, profile
    )


def test_a_step_goes_through_every_name(trainer):
    norms, sampled, losses, orders = [], [], [], []
    private_names.order_rows(trainer, lambda sampler: orders.append(len(sampler)) or sampler)
    private_names.watch_grad_norm(trainer, norms.append)
    private_names.sample_with(trainer, lambda rows: sampled.append(len(rows)) or trainer.sample_and_score(rows))
    private_names.loss_with(trainer, lambda *step: losses.append(1) or trainer.loss_of_groups(*step))
    trainer.train()
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert len(orders) == 1, "the trainer no longer asks _get_train_sampler for the order of its rows"
    assert sampled == [16, 16], "TRL no longer samples once a step through _generate_and_score_completions"
    assert len(losses) == 4, "TRL no longer takes each micro-batch's loss from _compute_loss"
    assert [float(norm) for norm in norms] == [row["grad_norm"] for row in rows], "_get_grad_norm is not what is logged"
    assert private_names.passes_made(trainer) == 4, "TRL no longer counts passes in _step"
    batches = private_names.micro_batches(trainer)
    assert [len(batch["targets"]) for batch in batches] == [2, 2], "TRL no longer keeps micro-batches of whole groups"
    assert not private_names.gathered_figures(trainer), "TRL no longer empties _metrics at a log line"
    private_names.resume_sampling(trainer, 8, batches[:1])
    assert (private_names.passes_made(trainer), len(private_names.micro_batches(trainer))) == (8, 1)


def test_weights_are_loaded_and_sent_once_a_step(trainer, tmp_path):
    trainer.save_model(str(tmp_path / "kept"))
    parameters = [p for p in trainer.policy.model.parameters() if p.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.data += 1
    private_names.load_weights(trainer, tmp_path / "kept")
    assert all(map(torch.equal, parameters, before)), "_load_from_checkpoint no longer loads adapters"
    trainer._last_loaded_step = -1
    assert [private_names.weights_are_due(trainer) for _ in range(2)] == [True, False]
    with private_names.unwrapped_for_generation(trainer) as model:
        assert model is trainer.policy.model


@pytest.mark.parametrize("name", private_names.CHECKED)
def test_a_name_that_is_gone_is_said_in_a_sentence(name):
    with pytest.raises(RuntimeError, match=rf"object has no {name} \(transformers .*, trl .*\); it was there in "):
        private_names.found(object(), name)
