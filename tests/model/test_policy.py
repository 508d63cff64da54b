"""The policy: what inference restores."""

import pytest
import torch

from rrec_lib.model.policy import weights_hash


@pytest.mark.parametrize("training", [True, False])
def test_inference_restores_everything_even_after_an_error(trained, training):
    trained.model.train(training)
    whole, lora = weights_hash(trained.model), weights_hash(trained.model, True)

    def interrupted():
        with trained.inference():
            assert not trained.model.training
            assert not torch.is_grad_enabled()
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        interrupted()
    assert trained.model.training == training
    assert torch.is_grad_enabled()
    assert (weights_hash(trained.model), weights_hash(trained.model, True)) == (whole, lora)
