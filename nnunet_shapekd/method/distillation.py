"""The distillation terms, one module each, and the loss that adds them to nnU-Net's own."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
import torch.nn.functional as F
from torch import nn

from nnunet_shapekd.method.class_mean import VoxelClasses, sum_per_label


class LogitDistillation(nn.Module):
    r"""Kullback-Leibler divergence of the student's from the teacher's temperature-softened probabilities.

    .. math:: L_{KD} = T^2 \sum_x w_x \sum_k p_k(x) \, (\log p_k(x) - \log q_k(x)),
              \quad p = softmax(teacher / T), \quad q = softmax(student / T)

    with voxel weights w that sum to 1, by default equal. Overlapping regions are no distribution over classes: each is
    a Bernoulli variable of its own, p and q are sigmoids, and the divergence is the mean over the regions of
    :math:`p \log(p / q) + (1 - p) \log((1 - p) / (1 - q))`.

    The factor T² keeps the gradient's size independent of T (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2). The
    paper of this method (arXiv 2409.17503) reports its gains with :class:`FeatureDistillation` instead; logits are
    this package's default because they ask nothing of the two networks' widths.

    Args:
        temperature: T > 0; 1 compares the probabilities as they are.
        regions: whether the logits are those of overlapping regions.
    """

    compares = "logits"

    def __init__(self, temperature: float = 1.0, regions: bool = False) -> None:
        super().__init__()
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be a finite number above 0; got {temperature}")
        self.temperature = temperature
        self.regions = regions

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, voxel_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compare two sets of logits.

        Args:
            student: ``(b, k, x, y[, z])`` logits of any floating dtype; computed in float32 (a half precision
                softmax is too coarse).
            teacher: the same shape; no gradient flows into it.
            voxel_weights: ``(b, 1, x, y[, z])`` float, see :func:`voxel_weights`; ``None`` for equal weights.

        Returns:
            Scalar, float32; 0 where no voxel has weight.
        """
        _refuse_different_shapes(student, teacher)
        student, teacher = student.float() / self.temperature, teacher.detach().float() / self.temperature
        if self.regions:
            inside = _divergence(F.logsigmoid(student), F.logsigmoid(teacher))
            outside = _divergence(F.logsigmoid(-student), F.logsigmoid(-teacher))
            divergence = (inside + outside).mean(1, keepdim=True)  # (b, 1, x, y[, z])
        else:
            divergence = _divergence(F.log_softmax(student, 1), F.log_softmax(teacher, 1)).sum(1, keepdim=True)
        return self.temperature**2 * _weighted_mean(divergence, voxel_weights)


class FeatureDistillation(nn.Module):
    r"""Mean squared error between the last decoder stages' features, the term of the paper's own code.

    .. math:: L_{KD} = \sum_x w_x \frac{1}{C} \sum_c (s_c(x) - t_c(x))^2

    with voxel weights w that sum to 1, by default equal: then it is ``nn.MSELoss``, as the code published with the
    paper (arXiv 2409.17503) has it, there with weight 2.0. What differs here is around it: nnU-Net's stages end in
    instance norm and leaky ReLU where that code has batch norm and ReLU, and ignored voxels do not count.
    """

    compares = "features"

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, voxel_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compare two feature maps.

        Args:
            student: ``(b, c, x, y[, z])``, any floating dtype; computed in float32.
            teacher: the same shape; no gradient flows into it.
            voxel_weights: ``(b, 1, x, y[, z])`` float, see :func:`voxel_weights`; ``None`` for equal weights.

        Returns:
            Scalar, float32; 0 where no voxel has weight.
        """
        _refuse_different_shapes(student, teacher)
        student, teacher = student.float(), teacher.detach().float()
        if voxel_weights is None:  # torch's own, which keeps less for the backward pass
            return F.mse_loss(student, teacher)
        error = (student - teacher).square().mean(1, keepdim=True)  # (b, 1, x, y[, z])
        return _weighted_mean(error, voxel_weights)


def voxel_weights(classes: VoxelClasses, target: torch.Tensor, balanced: bool) -> torch.Tensor | None:
    """How much each voxel of a batch counts in a distillation term.

    Args:
        classes: of the dataset.
        target: as nnU-Net's data loaders deliver it, ``(b, 1 or R[+1], x, y[, z])``.
        balanced: give every class that is present the same share, however few voxels it has.

    Returns:
        ``(b, 1, x, y[, z])`` float32 that sum to 1 (to 0 where all is ignored); ``None`` if all are equal.
    """
    valid = classes.valid(target)
    if not balanced:
        return None if valid is None else valid / valid.sum().clamp_min(1)
    of_voxel = classes.of_target(target)
    counted = torch.ones_like(of_voxel, dtype=torch.float32) if valid is None else valid.float()
    # over the whole batch: a structure that few samples show is then not weighted up in each of them
    rows = (1, 1, -1, of_voxel.shape[-1])
    voxels = sum_per_label(counted.reshape(rows), of_voxel.reshape(rows), classes.number)[0, 0]  # (classes,)
    present = (voxels > 0).sum().clamp_min(1)
    return counted * (1 / (voxels.clamp_min(1) * present))[of_voxel]


class DistilledLoss(nn.Module):
    """A segmentation loss plus weighted distillation terms.

    It goes *around* nnU-Net's loss. A term is a module called with student's and teacher's outputs and
    :func:`voxel_weights`, and says with its attribute ``compares`` which outputs: "logits" at every deep-supervision
    scale, each with that scale's weight, so that a scale without weight costs nothing; or the "features" of the last
    decoder stage, at the finest scale.

    Before each training step the trainer hands in what the teacher said, ``forward`` uses it once. With nothing handed
    in, the loss is the segmentation loss alone, so that validation losses compare with those of stock nnU-Net.

    Args:
        segmentation: called with output and target, or with lists of both; returns a scalar.
        classes: of the dataset.
        terms: the terms, each with its weight, which is finite and at least 0.
        scale_weights: of the deep-supervision scales, finest first.
        balanced: see :func:`voxel_weights`.

    Raises:
        ValueError: for a weight out of bounds, and for a term that does not say what it compares.
    """

    def __init__(
        self,
        segmentation: nn.Module,
        classes: VoxelClasses,
        terms: Sequence[tuple[float, nn.Module]],
        scale_weights: Sequence[float] = (1.0,),
        balanced: bool = False,
    ) -> None:
        super().__init__()
        for weight, term in terms:
            name = type(term).__name__
            if not 0 <= weight < inf:
                raise ValueError(f"The weight of {name} must be a finite number of at least 0; got {weight}")
            if getattr(term, "compares", None) not in ("logits", "features"):
                raise ValueError(
                    f'{name} must say what it compares: a class attribute compares = "logits" or "features"'
                )
        self.segmentation = segmentation
        self.classes = classes
        self.terms = [(weight, term) for weight, term in terms if weight]
        self.scale_weights = scale_weights
        self.balanced = balanced
        #: factor of all distillation, 0 to 1, which grows over the first epochs where a ramp is asked for
        self.ramp = 1.0
        #: handed in by the trainer before a training step, consumed by ``forward``
        self.teacher_logits: torch.Tensor | list[torch.Tensor] | None = None
        #: "teacher" and "student": features of the last decoder stage, recorded by hooks, consumed by ``forward``
        self.recorded_features: dict[str, torch.Tensor] = {}
        #: the two parts of the last training loss, scalars without gradient; their sum is the loss
        self.last_parts: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def needs_features(self) -> bool:
        """Whether a term compares features, which hooks must record then."""
        return any(term.compares == "features" for _, term in self.terms)

    def forward(
        self, output: torch.Tensor | list[torch.Tensor], target: torch.Tensor | list[torch.Tensor]
    ) -> torch.Tensor:
        """Args: student logits ``(b, k, x, y[, z])`` and targets ``(b, 1 or R[+1], x, y[, z])``, or lists of both,
        finest first. Returns: scalar."""
        loss = self.segmentation(output, target)
        teacher_logits, self.teacher_logits = self.teacher_logits, None
        features = self.recorded_features.pop("student", None), self.recorded_features.pop("teacher", None)
        if teacher_logits is None:
            return loss
        targets = _as_list(target)
        scales = zip(self.scale_weights, _as_list(output), _as_list(teacher_logits), targets, strict=True)
        compared = [("logits", *scale) for scale in scales if scale[0]]
        compared.append(("features", 1.0, *features, targets[0]))
        distillation, voxels = loss.new_zeros(()), {}
        for what, scale_weight, student, teacher, labels in compared:
            for weight, term in self.terms:
                if term.compares == what:
                    if id(labels) not in voxels:  # once a scale, for all terms
                        voxels[id(labels)] = voxel_weights(self.classes, labels, self.balanced)
                    distillation = distillation + weight * scale_weight * term(student, teacher, voxels[id(labels)])
        distillation = self.ramp * distillation
        self.last_parts = loss.detach(), distillation.detach()
        return loss + distillation


def last_decoder_stage(network: nn.Module) -> nn.Module:
    """The stage whose features a term compares.

    Raises:
        NotImplementedError: if the network has no ``decoder.stages``, as nnU-Net's U-Nets have.
    """
    stages = getattr(getattr(network, "decoder", None), "stages", None)
    if not stages:
        raise NotImplementedError(
            f"Feature distillation needs a network with decoder.stages, as nnU-Net's U-Nets have; "
            f"{type(network).__name__} has none. Distil logits instead (feature_weight 0)."
        )
    return stages[-1]


def outputs_and_features(network: nn.Module, x: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """A network's logits of ``x``, finest scale first, and the features of its :func:`last_decoder_stage`."""
    recorded: list[torch.Tensor] = []
    hook = last_decoder_stage(network).register_forward_hook(lambda module, _, output: recorded.append(output))
    try:
        return _as_list(network(x)), recorded[-1]
    finally:
        hook.remove()


def _refuse_different_shapes(student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            "student and teacher must have outputs of the same shape, (b, channels, x, y[, z]); "
            f"got student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        )


def _divergence(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    return F.kl_div(log_q, log_p, reduction="none", log_target=True)


def _weighted_mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return values.mean() if weights is None else torch.where(weights > 0, values * weights, 0.0).sum()


def _as_list(x: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    return x if isinstance(x, (list, tuple)) else [x]
