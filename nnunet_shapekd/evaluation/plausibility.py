"""Whether a segmentation could be anatomy: loose pieces, holes, and a myocardium that encloses the cavity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.ndimage import generate_binary_structure, label


def extra_components(mask: np.ndarray) -> int:
    """Connected components of a mask beyond the first; voxels that share a face, edge or corner belong together."""
    return max(label(mask, np.ones((3,) * mask.ndim))[1] - 1, 0)


def holes(mask: np.ndarray, foreground: np.ndarray) -> int:
    """Cavities of a mask that hold background; ``foreground`` are the voxels of any class.

    A cavity is a part of the outside, connected through faces, that does not reach the edge of the image. One that
    other classes fill wholly is none: the blood inside a myocardium is no hole.
    """
    outside_of, n = label(~mask)
    cavity = np.zeros(n + 1, bool)
    for part, filled in zip(outside_of, foreground, strict=True):  # one at a time: an index takes eight bytes a voxel
        cavity[part[~filled]] = True
    cavity[_at_edges(outside_of, range(mask.ndim))] = cavity[0] = False
    return int(np.count_nonzero(cavity))


#: what is counted of every mask, from the mask and the voxels of any class
COUNTS: dict[str, Callable[[np.ndarray, np.ndarray], int]] = {
    "extra_components": lambda mask, _: extra_components(mask),
    "holes": holes,
}


def _at_edges(labels: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """The labels that occur at either end of one of the axes."""
    ends = [np.moveaxis(labels, axis, 0)[[0, -1]].ravel() for axis in axes]
    return np.unique(np.concatenate(ends))


def slice_axis(shape: Sequence[int], spacing: Sequence[float]) -> int | None:
    """The axis across the slices of a volume: that of the largest spacing, the first of equal ones; None in 2D."""
    return int(np.argmax(spacing)) if len(shape) == 3 else None


def cut_axis(shape: Sequence[int], spacing: Sequence[float]) -> int:
    """The axis across which a picture of a volume is cut: one of a single voxel, else :func:`slice_axis`."""
    return shape.index(1) if 1 in shape else slice_axis(shape, spacing)


def open_rings(cavity: np.ndarray, myocardium: np.ndarray, axis: int | None) -> tuple[int, int]:
    """In how many slices the myocardium does not enclose the left ventricle's cavity.

    A ring is closed if no path over face neighbours leads from the cavity to the edge of the slice without crossing
    myocardium.

    Args:
        cavity: bool, (z, y, x) or (y, x).
        myocardium: bool, same shape.
        axis: across the slices; None for one slice of two axes.

    Returns:
        The number of slices that have both, and of those whose ring is open.
    """
    if axis is None:
        cavity, myocardium, axis = cavity[None], myocardium[None], 0
    within = generate_binary_structure(3, 1)  # face neighbours ...
    within[[0, -1]] = False  # ... of the same slice
    outside_of = label(~myocardium, np.moveaxis(within, 0, axis))[0]
    outside = _at_edges(outside_of, (a for a in range(3) if a != axis))
    in_slice = tuple(a for a in range(3) if a != axis)
    both = cavity.any(in_slice) & myocardium.any(in_slice)
    is_open = (cavity & ~myocardium & np.isin(outside_of, outside)).any(in_slice)
    return int(both.sum()), int((both & is_open).sum())
