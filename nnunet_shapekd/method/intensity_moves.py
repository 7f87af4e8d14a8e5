"""Moves of intensities: in some samples every structure, and the background, gets other intensities than it has.

Not of the paper. The class-mean image drops the texture and keeps each class's mean; a move is its complement: the
shapes stay and the intensities change, as they do between scanners and sequences, so that a network has to tell
structures by more than their usual intensity. It needs no teacher. Class-wise changes of intensity are known from Su et
al., AAAI 2023 (SLAug's location-scale augmentation, arXiv 2211.14805).

Each move has two halves: :func:`draw_moves` makes a few numbers a sample, :func:`apply_moves` turns image, classes and
these numbers into another image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from nnunet_shapekd.method.class_mean import of_each_voxel, sum_per_label

#: how often shifts are averaged over 3 neighbours along each axis, which leaves no sharp new edges
SMOOTHING = 3
#: the background's curve spans so many standard deviations of the image, around its mean
SPAN = 4.0
#: most knots that the background's curve can have
KNOTS = 6

Number = float | torch.Tensor


@dataclass(frozen=True)
class MoveRanges:
    """How far intensities may move. Each entry is a number, or a tensor ``(b,)`` with one for each sample.

    Attributes:
        share: probability, 0 to 1, that a sample is moved at all.
        location: a mean moves by up to so many standard deviations of its sample's channel, either way; so do the
            knots of the background's curve.
        texture: a class's deviations from its mean are multiplied by 2 to a power of up to this, either way; those
            above the mean and those below by factors of their own.
        own: probability, 0 to 1, that a class moves by itself; else it follows the background's curve, so that what
            looks alike stays alike.
        background: probability, 0 to 1, that the background moves. It is many tissues: a curve with a few knots, as
            many as are drawn, gives each intensity another.
    """

    share: Number = 0.5
    location: Number = 3.0
    texture: Number = 2.0
    own: Number = 0.75
    background: Number = 1.0


class Moves(NamedTuple):
    """The numbers of a batch's moves, float32; k counts the classes."""

    moved: torch.Tensor  #: (b, 1, 1) of 0 and 1
    follows: torch.Tensor  #: (b, 1, k) of 0 and 1; whether it follows the curve
    location: torch.Tensor  #: (b, c, k) standard deviations
    above: torch.Tensor  #: (b, c, k) factors
    below: torch.Tensor  #: (b, c, k) factors
    curve: torch.Tensor  #: (b, c, KNOTS) standard deviations
    knots: torch.Tensor  #: (b, 1, 1) 2 to KNOTS, of them in use


def draw_moves(
    shape: Sequence[int],
    num_classes: int,
    ranges: MoveRanges,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Moves:
    """Draw the numbers of a batch's moves.

    Args:
        shape: of the images, ``(b, c, x, y[, z])``.
        num_classes: classes are 0, the background, to ``num_classes - 1``.
        ranges: how far they may go.
        device: of the numbers, which is the images'.
        generator: of the random numbers, on ``device``; by default torch's own.
    """
    b, c = shape[:2]

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(size, device=device, generator=generator)

    def either_way(*size: int) -> torch.Tensor:
        return 2 * uniform(*size) - 1

    def per_sample(number: Number) -> torch.Tensor:
        return torch.as_tensor(number, dtype=torch.float32, device=device).reshape(-1, 1, 1)

    location, texture = per_sample(ranges.location), per_sample(ranges.texture)
    is_background = (torch.arange(num_classes, device=device) == 0).view(1, 1, -1)
    background_moves = uniform(b, 1, 1) < per_sample(ranges.background)
    own = (uniform(b, 1, num_classes) < per_sample(ranges.own)) & ~is_background
    follows = ~own & background_moves
    # a class that follows keeps its texture as the curve leaves it
    own_texture = texture * own
    return Moves(
        moved=(uniform(b, 1, 1) < per_sample(ranges.share)).float(),
        follows=follows.float(),
        location=either_way(b, c, num_classes) * location * own,
        above=2 ** (either_way(b, c, num_classes) * own_texture),
        below=2 ** (either_way(b, c, num_classes) * own_texture),
        curve=either_way(b, c, KNOTS) * location,
        knots=2 + (uniform(b, 1, 1) * (KNOTS - 1)).floor().clamp(max=KNOTS - 2),
    )


def apply_moves(
    image: torch.Tensor,
    classes: torch.Tensor,
    num_classes: int,
    moves: Moves,
    smooth_axes: Sequence[bool] | None = None,
) -> torch.Tensor:
    """Move the intensities of a batch.

    Args:
        image: ``(b, c, x, y[, z])``, any floating dtype; computed in float32. Never modified.
        classes: ``(b, 1, x, y[, z])`` int64, 0 to ``num_classes - 1``; 0 is the background.
        num_classes: see ``classes``.
        moves: of :func:`draw_moves` for the same shape and number, on the image's device.
        smooth_axes: along which of the axes x, y[, z] borders are softened; by default all. Thick slices want False.

    Returns:
        Shape, dtype and device of ``image``; samples that are not moved are equal to it.
    """
    b, c, *spatial = image.shape
    smooth_axes = list(smooth_axes or [True] * len(spatial))
    rows = image.float().reshape(b, c, -1, spatial[-1])  # (b, c, rows, length)
    labels = classes.reshape(b, 1, -1, spatial[-1])

    def of_voxels(per_class: torch.Tensor) -> torch.Tensor:
        return of_each_voxel(per_class, labels)

    whole = rows.flatten(2)
    middle, deviation = whole.mean(-1, keepdim=True), whole.std(-1, keepdim=True)  # (b, c, 1)
    count = sum_per_label(torch.ones_like(rows[:, :1]), labels, num_classes)
    mean = sum_per_label(rows, labels, num_classes) / count.clamp_min(1)  # (b, c, k)

    # whatever is one number a class is worked out as such: voxels are many, and a worker of nnU-Net has one core
    amount = moves.moved * deviation
    place = (rows - middle[..., None]).div_((SPAN * deviation[..., None]).clamp_min(1e-6)).add_(0.5)
    result = _on_curve(place, moves.curve * amount, moves.knots)
    result = result.mul_(of_voxels(moves.follows)).add_(of_voxels(moves.location * amount))
    result = _smoothed(result.view(b, c, *spatial), smooth_axes).view(rows.shape).add_(rows)
    from_mean = rows - of_voxels(mean)
    result.addcmul_(from_mean, of_voxels((moves.below - 1) * moves.moved))
    result.addcmul_(from_mean.clamp_min_(0), of_voxels((moves.above - moves.below) * moves.moved))
    return result.to(image.dtype).view(image.shape)


def _on_curve(place: torch.Tensor, curve: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """What a piecewise linear curve with equally spaced knots is at ``place``, 0 to 1; constant outside.

    Args: ``(b, c, rows, length)``, which is overwritten, ``(b, c, KNOTS)`` and ``(b, 1, 1)``. Returns: as ``place``.
    """
    at = place.clamp_(0, 1).mul_(knots[..., None] - 1)
    # after each knot a line; the one after the last is met at that knot alone
    slope = F.pad(curve, (0, 1), mode="replicate").diff()
    start = curve - slope * torch.arange(KNOTS, device=curve.device)
    index = at.long().flatten(2)
    return at.mul_(slope.gather(-1, index).view(at.shape)).add_(start.gather(-1, index).view(at.shape))


def _smoothed(shift: torch.Tensor, axes: Sequence[bool]) -> torch.Tensor:
    """Averages over 3 neighbours along each of the axes, at an end over 2; ``shift`` is ``(b, c, x, y[, z])``."""
    for axis in (i for i, smooth in enumerate(axes, start=2) if smooth):
        n = shift.shape[axis]
        neighbours = shift.new_full((n,), 3.0)
        neighbours[0] -= 1
        neighbours[-1] -= 1
        share = (1 / neighbours).view([-1 if i == axis else 1 for i in range(shift.ndim)])
        for _ in range(SMOOTHING):
            total = shift.clone()
            total.narrow(axis, 1, n - 1).add_(shift.narrow(axis, 0, n - 1))
            total.narrow(axis, 0, n - 1).add_(shift.narrow(axis, 1, n - 1))
            shift = total.mul_(share)
    return shift
