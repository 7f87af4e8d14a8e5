"""nnU-Net's loss and the distillation term, for many networks at once; each returns one number a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def scale_weights(scales: int) -> list[float]:
    """nnU-Net's of deep supervision: halved from scale to scale, none for the coarsest."""
    weights = [2.0**-i for i in range(scales - 1)] + [0.0]
    return [weight / sum(weights) for weight in weights]


def segmentation(logits: Sequence[torch.Tensor], target: torch.Tensor, ce_weight: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice over the batch, summed over the scales.

    Args: logits ``(n, b, k, h, w)`` of each scale; target ``(n, b, h, w)`` int64; cross-entropy's weight ``(n,)``.
    Returns: ``(n,)``.
    """
    total = 0.0
    for weight, of_scale in zip(scale_weights(len(logits)), logits, strict=True):
        if weight:
            log_p, labels = of_scale.float().log_softmax(2), smaller(target, of_scale.shape[-1])
            ce = -log_p.gather(2, labels[:, :, None]).mean((1, 2, 3, 4))
            p = log_p.exp()[:, :, 1:]
            truth = torch.stack([(labels == k) for k in range(1, log_p.shape[2])], 2).float()
            overlap, sizes = (p * truth).sum((1, 3, 4)), (p + truth).sum((1, 3, 4))  # (n, k - 1)
            dice = (2 * overlap + 1e-5) / (sizes + 1e-5).clamp_min(1e-8)
            total = total + weight * (ce_weight * ce - dice.mean(1))
    return total


def divergence(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """``nnunet_shapekd.method.distillation.LogitDistillation`` at temperature 1, over the scales. Returns: ``(n,)``."""
    total = 0.0
    for weight, q, p in zip(scale_weights(len(student)), student, teacher, strict=True):
        if weight:
            log_q, log_p = q.float().log_softmax(2), p.detach().float().log_softmax(2)
            total = total + weight * (log_p.exp() * (log_p - log_q)).sum(2).mean((1, 2, 3))
    return total


def feature_distance(features: Sequence[torch.Tensor], others: Sequence[torch.Tensor], n: int) -> torch.Tensor:
    """1 - cosine of two feature vectors at one place, mean over batch, places and stages.

    Args: ``(b, n·c, h, w)`` of each stage, twice; no gradient flows to the others. n networks. Returns: ``(n,)``.
    """
    distances = []
    for ours, theirs in zip(features, others, strict=True):
        apart = [of.float().unflatten(1, (n, -1)) for of in (ours, theirs.detach())]
        distances.append(1 - torch.cosine_similarity(*apart, dim=2).mean((0, 2, 3)))
    return torch.stack(distances).mean(0)


def smaller(labels: torch.Tensor, size: int) -> torch.Tensor:
    """Nearest neighbours ``(n, b, size, size)`` of a square label map ``(n, b, h, h)``."""
    step = labels.shape[-1] // size
    return labels[..., step // 2 :: step, step // 2 :: step]
