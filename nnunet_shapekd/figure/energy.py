"""How strongly the last decoder stage answers, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nnunet_shapekd.method.distillation import outputs_and_features


def feature_energy(network: nn.Module, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How strongly a network's last decoder stage answers: the mean over its channels of the squared features.

    Args:
        network: a U-Net of nnU-Net's or its skip-less twin, in evaluation mode, without deep supervision.
        x: ``(1, c, x, y[, z])`` float, of a size the network takes.

    Returns:
        The energy ``(x, y[, z])`` and the logits ``(k, x, y[, z])`` of the same forward pass, float32.

    Raises:
        ValueError: if the network has no decoder stage at the input's resolution.
    """
    try:
        with torch.no_grad():
            (logits,), features = outputs_and_features(network, x)
    except NotImplementedError as error:
        raise ValueError(
            f"The figure shows the features of decoder.stages[-1], which {type(network).__name__} does not have: it is "
            "made for nnU-Net's U-Nets."
        ) from error
    energy = features[0].float().square().mean(0)
    if energy.shape != x.shape[2:]:
        raise ValueError(
            f"The last decoder stage of {type(network).__name__} has the size {tuple(energy.shape)} for an input of "
            f"the size {tuple(x.shape[2:])}: the figure is made for networks that end at full resolution."
        )
    return energy.numpy(), logits[0].float().numpy()


def padded(
    image: torch.Tensor, patch_size: Sequence[int], total_stride: Sequence[int], mode: str = "constant"
) -> torch.Tensor:
    """Zeros at the end of each axis, up to a size the network takes; none if it is one already.

    Args:
        image: ``(1, c, x, y[, z])``.
        patch_size: the smallest size of each axis, to which nnU-Net pads, too, when it predicts.
        total_stride: what each axis must be a multiple of.
        mode: "replicate" continues the values at the border instead.
    """
    missing = [
        -(-max(size, patch) // stride) * stride - size
        for size, patch, stride in zip(image.shape[2:], patch_size, total_stride, strict=True)
    ]
    return F.pad(image, [n for at_end in reversed(missing) for n in (0, int(at_end))], mode=mode)
