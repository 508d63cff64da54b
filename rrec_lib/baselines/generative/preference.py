"""Losses that prefer one answer to another: DPO, S-DPO, SPRec's and REBEL's, pure functions on log-ratios.

A log-ratio is log π_θ(y|x) − log π_ref(y|x) of a whole answer, a sum over its tokens in nats; only π_θ carries
gradient.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float = 0.1) -> Tensor:
    """−log σ(β(chosen − rejected)), a mean over the batch.

    Args:
        chosen, rejected: (B,) log-ratios of the answer that is preferred and of the other.
        beta: β > 0; the larger, the dearer it is to leave the reference.

    Raises:
        ValueError: for a β that isn't positive, or shapes that differ.

    Source: DPO (Rafailov et al., 2023), ``rafailov2023direct`` in the book's references.
    """
    return sdpo_loss(chosen, rejected[..., None], beta)


def sdpo_loss(chosen: Tensor, rejected: Tensor, beta: float = 0.1) -> Tensor:
    """−log σ(−log Σ_k exp β(rejected_k − chosen)), a mean over the batch: DPO against K answers at once.

    The sum is taken by logsumexp. The public code exponentiates first, which overflows to an infinite loss.

    Args:
        chosen: (B,) log-ratios of the preferred answers.
        rejected: (B, K) log-ratios of the others; with K = 1 this is DPO.
        beta: β > 0.

    Raises:
        ValueError: for a β that isn't positive, or shapes that don't fit.

    Source: S-DPO (Chen et al., 2024).
    """
    return -logsigmoid(-_worse_by(chosen, rejected, beta).logsumexp(1)).mean()


def sprec_loss(chosen: Tensor, rejected: Tensor, own_logprobs: Tensor, beta: float = 0.1) -> Tensor:
    """DPO against K answers, each weighted by how likely the model of the round before writes it.

    Σ_k w_k · −log σ(β(chosen − rejected_k)) with w = softmax(own_logprobs), a mean over the batch. With the whole
    catalogue rejected this is what DPO's loss is in expectation where the model's own writing is rejected. SPRec's
    public code takes plain DPO against the one that is written greedily; one that is drawn would estimate this.

    Args:
        chosen: (B,) log-ratios of the preferred answers.
        rejected: (B, K) log-ratios of the others.
        own_logprobs: (B, K) log-probabilities of the others in the round before, constants; their share among the K
            counts.
        beta: β > 0.

    Raises:
        ValueError: for a β that isn't positive, or shapes that don't fit.

    Source: SPRec (Gao et al., 2025): self-play re-weights DPO by the model's own probabilities. The form is ours.
    """
    worse = _worse_by(chosen, rejected, beta)
    if own_logprobs.shape != rejected.shape:
        raise ValueError(f"own_logprobs have shape {tuple(own_logprobs.shape)}, rejected {tuple(rejected.shape)}")
    return -(own_logprobs.detach().softmax(1) * logsigmoid(-worse)).sum(1).mean()


def rebel_loss(first: Tensor, second: Tensor, rewards: Tensor, eta: float = 1.0) -> Tensor:
    """((first − second) / η − (r_1 − r_2))², a mean over the batch: log-ratios regress on differences of reward.

    LangPTune's public code has first − second − η(r_1 − r_2) in the square: this loss times η², with the same minimum.

    Args:
        first, second: (B,) log-ratios of two answers to a prompt, against the policy that wrote them.
        rewards: (B, 2) of the two answers, constants.
        eta: η > 0, how far rewards move the policy.

    Raises:
        ValueError: for an η that isn't positive, or shapes that don't fit.

    Source: REBEL (Gao et al., 2024), ``gao2024rebel`` in the book's references; LangPTune trains its writer with it.
    """
    if eta <= 0 or first.shape != second.shape or rewards.shape != (len(first), 2):
        shapes = [tuple(part.shape) for part in (first, second, rewards)]
        raise ValueError(f"need eta > 0, (B,), (B,) and (B, 2); got {eta} and {shapes}")
    wanted = rewards.detach()[:, 0] - rewards.detach()[:, 1]
    return ((first - second) / eta - wanted).square().mean()


def _worse_by(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """(B, K) β(rejected − chosen)."""
    if beta <= 0 or rejected.dim() != 2 or chosen.shape != rejected.shape[:1]:
        raise ValueError(f"need beta > 0, (B,) and (B, K); got {beta}, {tuple(chosen.shape)}, {tuple(rejected.shape)}")
    return beta * (rejected - chosen[:, None])
