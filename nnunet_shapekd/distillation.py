"""The distillation term, and the loss that adds it to nnU-Net's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import nn


class LogitDistillation(nn.Module):
    r"""Kullback-Leibler divergence of the student's from the teacher's temperature-softened class probabilities.

    .. math:: L_{KD} = T^2 \, \frac{1}{|V|} \sum_{x \in V} \sum_k p_k(x) \, (\log p_k(x) - \log q_k(x)),
              \quad p = softmax(teacher / T), \quad q = softmax(student / T)

    with V the valid voxels. The factor T² keeps the gradient's size independent of T (Hinton, Vinyals, Dean, arXiv
    1503.02531, section 2). The paper of this method (arXiv 2409.17503) reports its gains with a mean squared error of
    features instead; logits are this package's default because they ask nothing of the two networks' widths.

    Args:
        temperature: T > 0; 1 compares the probabilities as they are.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number above 0; got {temperature}")
        self.temperature = temperature

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        """Compare two sets of logits.

        Args:
            student: ``(b, k, x, y[, z])`` logits of any floating dtype; computed in float32 (a half precision
                softmax is too coarse).
            teacher: the same shape; no gradient flows into it.
            valid: ``(b, 1, x, y[, z])`` bool, the voxels that count; ``None`` for all.

        Returns:
            Scalar, float32; 0 where no voxel is valid.
        """
        if student.shape != teacher.shape:
            raise ValueError(
                f"student and teacher must predict the same classes on the same grid; "
                f"got student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
            )
        log_q = F.log_softmax(student.float() / self.temperature, dim=1)
        log_p = F.log_softmax(teacher.detach().float() / self.temperature, dim=1)
        kl = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1, keepdim=True)  # (b, 1, x, y[, z])
        mean = kl.mean() if valid is None else torch.where(valid, kl, 0.0).sum() / valid.sum().clamp_min(1)
        return self.temperature**2 * mean


class DistilledLoss(nn.Module):
    """nnU-Net's segmentation loss plus ``weight`` times a distillation term at every deep-supervision scale.

    It goes *around* nnU-Net's loss and takes over the scale weights of its deep supervision, so that a scale without
    weight costs nothing. The trainer hands in the teacher's logits before each training step; ``forward`` uses them
    once. With none handed in, the loss is the segmentation loss alone, so that validation losses compare with those of
    stock nnU-Net.

    Args:
        segmentation: nnU-Net's loss, as ``nnUNetTrainer._build_loss`` returns it.
        distillation: compares student and teacher logits of one scale, see :class:`LogitDistillation`.
        weight: factor of the distillation term, at least 0.
        ignore_label: the label whose voxels do not count; ``None`` if the dataset has none.
    """

    def __init__(
        self, segmentation: nn.Module, distillation: nn.Module, weight: float, ignore_label: int | None = None
    ) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be a finite number of at least 0; got {weight}")
        self.segmentation = segmentation
        self.distillation = distillation
        self.weight = weight
        self.ignore_label = ignore_label
        self.scale_weights = segmentation.weight_factors if isinstance(segmentation, DeepSupervisionWrapper) else (1.0,)
        self.teacher_logits: torch.Tensor | list[torch.Tensor] | None = None
        #: the two parts of the last training loss, scalars without gradient; the second before ``weight``
        self.last_parts: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(
        self, output: torch.Tensor | list[torch.Tensor], target: torch.Tensor | list[torch.Tensor]
    ) -> torch.Tensor:
        """Args: student logits ``(b, k, x, y[, z])`` and labels ``(b, 1, x, y[, z])``, or lists of both, finest first.
        Returns: scalar."""
        loss = self.segmentation(output, target)
        teacher_logits, self.teacher_logits = self.teacher_logits, None
        if teacher_logits is None:
            return loss
        distillation = sum(
            scale_weight * self.distillation(student, teacher, self._valid(labels))
            for scale_weight, student, teacher, labels in zip(
                self.scale_weights, _as_list(output), _as_list(teacher_logits), _as_list(target), strict=True
            )
            if scale_weight != 0
        )
        self.last_parts = loss.detach(), distillation.detach()
        return loss + self.weight * distillation

    def _valid(self, labels: torch.Tensor) -> torch.Tensor | None:
        return None if self.ignore_label is None else labels != self.ignore_label


def _as_list(x: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor] | tuple[torch.Tensor, ...]:
    return x if isinstance(x, (list, tuple)) else [x]
