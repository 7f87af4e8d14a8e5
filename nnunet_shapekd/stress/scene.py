"""What a shift may know of an image besides its intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: nnU-Net's: slices that are so many times farther apart than their pixels are a stack of pictures
ANISOTROPY = 3


@dataclass(frozen=True)
class Scene:
    """Of one image file.

    Attributes:
        spacing: of the axes (x, y, z), in mm or pixels; an axis of one voxel is a picture's third.
        seed: of the pattern.
        channel: number of the image file; only noise differs between a case's files.
        classes: (x, y, z) whole numbers, of the classes that a shift changes 1 and so on, 0 elsewhere.
    """

    spacing: tuple[float, float, float]
    seed: int
    channel: int = 0
    classes: np.ndarray | None = None

    def smooth_axes(self, shape: tuple[int, ...]) -> list[int]:
        """The axes in which the image is a continuous picture: in a stack of thick slices not the one across them."""
        long = [axis for axis in range(3) if shape[axis] > 1]
        fine = min(self.spacing[axis] for axis in long)
        return [axis for axis in long if len(long) < 3 or self.spacing[axis] < ANISOTROPY * fine]
