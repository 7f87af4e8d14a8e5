"""Class-mean jitter: structures whose mean intensity moves, as it does between scanners and sequences.

Not of the paper. The class-mean image drops the texture and keeps each class's mean; the jitter is its complement: the
texture stays, and in some samples every structure gets another mean, so that a network has to tell structures by more
than their usual intensity. It needs no teacher. Class-wise shifts of intensity are known from Su et al., AAAI 2023
(SLAug's location-scale augmentation, arXiv 2211.14805).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

#: how often the shifts are averaged over 3 neighbours along each axis, which leaves no sharp new edges
SMOOTHING = 3


def jitter_class_means(
    image: torch.Tensor,
    classes: torch.Tensor,
    num_classes: int,
    amount: float,
    share: float,
    smooth_axes: Sequence[bool] | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Move the mean intensities of the foreground classes in some samples.

    Args:
        image: ``(b, c, x, y[, z])`` float. Never modified.
        classes: ``(b, 1, x, y[, z])`` int64, 0 to ``num_classes - 1``; 0 is the background, which never moves: it is
            many tissues.
        num_classes: see ``classes``.
        amount: a mean moves by up to so many standard deviations of its own sample's channel, either way; classes and
            channels each on their own.
        share: probability, 0 to 1, that a sample is changed at all.
        smooth_axes: along which of the axes x, y[, z] borders are softened; by default all. Thick slices want False.
        generator: of the random numbers, on the image's device; by default torch's own.

    Returns:
        Shape, dtype and device of ``image``.
    """
    b, c, *spatial = image.shape
    random = torch.rand(b, c, num_classes, device=image.device, generator=generator)
    chosen = torch.rand(b, 1, 1, device=image.device, generator=generator) < share
    deviation = image.float().flatten(2).std(-1, keepdim=True)  # (b, c, 1)
    shifts = (2 * random - 1) * amount * chosen * deviation  # (b, c, classes)
    shifts[..., 0] = 0
    moved = shifts.gather(-1, classes.flatten(2).expand(-1, c, -1)).view(b, c, *spatial)
    size = [3 if smooth else 1 for smooth in smooth_axes or [True] * len(spatial)]
    average = F.avg_pool3d if len(spatial) == 3 else F.avg_pool2d
    for _ in range(SMOOTHING):
        moved = average(moved, size, stride=1, padding=[s // 2 for s in size], count_include_pad=False)
    return image + moved.to(image.dtype)
