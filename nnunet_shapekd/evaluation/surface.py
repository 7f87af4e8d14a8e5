"""Distances between the surfaces of two masks.

A surface is the set of a mask's border voxels: those with a face neighbour outside the mask or outside the image, each
at its centre. That is the definition of MONAI's and medpy's metrics, so numbers compare with what papers report. (The
surface elements of DeepMind's surface-distance, weighted by their area, give other numbers.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree


def border(mask: np.ndarray) -> np.ndarray:
    """The border voxels of a mask (bool), same shape."""
    inside = mask.copy()  # scipy's binary_erosion finds the same in ten times the time
    for axis in range(mask.ndim):
        here, there = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[[0, -1]] = False
    return mask & ~inside


def surface_distances(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The distance of every border voxel of one mask to the nearest border voxel of the other, in both directions.

    Args:
        reference: bool, any number of axes, not empty.
        prediction: bool, the same shape, not empty.
        spacing: size of a voxel along each axis.

    Returns:
        Of the reference's border voxels (n,) and of the prediction's (m,), in the unit of ``spacing``.
    """
    # A tree of the border is faster here than a distance transform of the whole box: borders are thin. Points that
    # both have are not asked for.
    borders = border(reference), border(prediction)
    points = [np.argwhere(mask) * spacing for mask in borders]
    shared = borders[0] & borders[1]
    return (
        _nearest(points[0], shared[borders[0]], points[1]),
        _nearest(points[1], shared[borders[1]], points[0]),
    )


def _nearest(points: np.ndarray, shared: np.ndarray, others: np.ndarray) -> np.ndarray:
    distances = np.zeros(len(points))
    if not shared.all():
        # points of a grid: the quickly built tree answers as fast as the balanced one
        tree = KDTree(others, balanced_tree=False, compact_nodes=False)
        distances[~shared] = tree.query(points[~shared])[0]
    return distances
