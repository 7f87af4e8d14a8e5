"""Borders and the distances between them: by hand, and against SciPy and SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_erosion

from nnunet_shapekd.evaluation.surface import border, surface_distances


def box(shape, *corners):
    """A mask filled from the first corner to before the second."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(*corners, strict=True))] = True
    return mask


def blobs(seed, shape=(12, 40, 44)):
    """Two overlapping random shapes, of several pieces and with holes."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(2, *shape))
    smooth = [sum(np.roll(n, shift, axis) for axis in range(3) for shift in range(-3, 4)) for n in noise]
    shared = smooth[0]
    return shared > 2, shared + 0.7 * smooth[1] > 3


def test_distances_of_two_squares_by_hand():
    """A square of 3 x 3 and the same, shifted by one: borders of 8 pixels each."""
    a, b = box((6, 6), (1, 1), (4, 4)), box((6, 6), (1, 2), (4, 5))
    # Columns 1 to 3 and 2 to 4. Of a's border, column 1 (three pixels) is 1 from b's; column 2 (two) and the ends of
    # column 3 (two) lie on b's; the middle of column 3 is b's centre, 1 from its border. Mirrored for b's.
    for distances in surface_distances(a, b, (1.0, 1.0)):
        assert sorted(distances) == [0] * 4 + [1] * 4


def test_two_cubes_shifted_by_two_voxels_of_three_millimetres_are_six_apart():
    a, b = box((5, 5, 9), (1, 1, 1), (4, 4, 4)), box((5, 5, 9), (1, 1, 3), (4, 4, 6))
    distances = surface_distances(a, b, (1.0, 1.0, 3.0))
    assert [found.max() for found in distances] == [6, 6]  # from the far face of one to the near one of the other


def test_the_spacing_of_each_axis_counts():
    a, b = box((9, 9, 9), (4, 4, 4), (5, 5, 5)), box((9, 9, 9), (5, 6, 7), (6, 7, 8))
    (distance,), _ = surface_distances(a, b, (10.0, 1.5, 1.0))
    assert distance == pytest.approx(np.hypot(10, np.hypot(3, 3)))


@pytest.mark.parametrize("shape", [(1,), (7,), (6, 7), (1, 8), (5, 6, 7), (2, 2, 2)])
def test_the_border_is_what_erosion_takes_away(shape):
    mask = np.random.default_rng(3).random(shape) < 0.8
    np.testing.assert_array_equal(border(mask), mask & ~binary_erosion(mask))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_largest_distance_is_simpleitks_where_neither_mask_has_an_inside(seed):
    """ITK measures between whole masks, which are their borders if they are one voxel thick."""
    spacing = (4.0, 1.25, 1.25)
    masks = [border(mask) for mask in blobs(seed)]
    masks = [mask & ~np.roll(mask, 1, 2) & ~np.roll(mask, -1, 2) for mask in masks]
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    for image in images:
        image.SetSpacing(spacing[::-1])
    filter_ = sitk.HausdorffDistanceImageFilter()
    filter_.Execute(*images)
    found = np.concatenate(surface_distances(*masks, spacing))
    assert found.max() == pytest.approx(filter_.GetHausdorffDistance(), rel=1e-5)
