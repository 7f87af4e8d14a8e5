"""Shifts of some classes' intensities, made with the reference: what another sequence may do to the structures.

Each is a function of scaled intensities (channels, x, y, z) float32, the shift's size and a scene that has ``classes``,
and returns others. What is no class of the scene's, ignored voxels among it, counts as surroundings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from nnunet_shapekd.stress.scene import Scene

#: width of the ring around the classes that counts as their surroundings, in pixels
RING = 5
#: of a class's border, in pixels: as soft as partial volume makes it
SOFTNESS = 1
#: so many pixels around a class are touched: where scipy cuts the Gaussian off
_REACH = 4 * SOFTNESS


def class_contrast(image: np.ndarray, factor: float, scene: Scene) -> np.ndarray:
    """Contrasts of the classes to one another and to what lies around them all, multiplied by a factor.

    Every class's mean m becomes a + factor · (m - a), where a is the mean of a ring around all classes together. The
    texture stays. Below 0 the contrasts are turned round.
    """
    ring = _ring(scene.classes > 0, scene)
    if not ring.any():
        return image
    around, changed = image[:, ring].mean(1), image.copy()
    for box, mask, weight in _each_class(scene):
        differs = image[box][:, mask].mean(1) - around
        changed[box] += (factor - 1) * differs[:, None, None, None] * weight
    return changed


def class_spread(image: np.ndarray, factor: float, scene: Scene) -> np.ndarray:
    """Deviations from their class's mean multiplied by a factor: f becomes mean + factor · (f - mean).

    Fully inside a class, and towards its border less and less, down to not at all: there f differs from the mean
    because two structures share the voxel, and scaling that would draw a line around the class. The mean stays.
    """
    changed = image.copy()
    for box, mask, weight in _each_class(scene):
        inside = np.where(mask, (2 * weight - 1).clip(0), 0)
        if inside.any():
            mean = (inside * image[box]).sum((1, 2, 3), keepdims=True) / inside.sum()
            changed[box] += (factor - 1) * inside * (image[box] - mean)
    return changed


def _each_class(scene: Scene) -> Iterator[tuple[tuple[slice, ...], np.ndarray, np.ndarray]]:
    """Of each class that is there: the part of an image around it, and there its mask, and this with a soft border.

    Borders are soft within the slices of a stack of thick ones.
    """
    axes = scene.smooth_axes(scene.classes.shape)
    sigma = [SOFTNESS * float(axis in axes) for axis in range(3)]
    for number, found in enumerate(ndimage.find_objects(scene.classes), start=1):
        if found is not None:
            box = tuple(slice(max(0, along.start - _REACH), along.stop + _REACH) for along in found)
            mask = scene.classes[box] == number
            yield (slice(None), *box), mask, ndimage.gaussian_filter(mask.astype(np.float32), sigma)


def _ring(mask: np.ndarray, scene: Scene) -> np.ndarray:
    """(x, y, z) bool: what lies around a mask, within the slices of a stack of thick ones."""
    step = ndimage.generate_binary_structure(3, 1)
    for axis in {0, 1, 2} - set(scene.smooth_axes(mask.shape)):
        step &= np.moveaxis(np.array([False, True, False])[:, None, None], 0, axis)
    return ndimage.binary_dilation(mask, step, iterations=RING) & ~mask
