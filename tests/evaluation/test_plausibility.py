import numpy as np
import pytest

from nnunet_shapekd.evaluation.plausibility import extra_components, holes, open_rings, slice_axis


def disc(size, radius, hole=0):
    y, x = np.ogrid[:size, :size]
    distance = np.hypot(y - size // 2, x - size // 2)
    return (distance <= radius) & (distance >= hole)


def test_voxels_that_touch_at_a_corner_are_one_piece():
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert extra_components(mask) == 0
    mask[1, 1, 1] = False
    mask[2, 2, 2] = True
    assert extra_components(mask) == 1
    assert extra_components(np.zeros((4, 4), dtype=bool)) == 0


def test_background_enclosed_by_a_class_is_a_hole():
    mask = disc(21, 8, hole=3)
    assert holes(mask, mask) == 1
    mask[10, :10] = False  # a channel to the outside
    assert holes(mask, mask) == 0


def test_what_another_class_fills_is_no_hole_but_a_gap_beside_it_is():
    muscle, blood = disc(21, 8, hole=3), disc(21, 2.9)
    assert not (muscle & blood).any() and holes(muscle, muscle | blood) == 0
    blood[10, 10] = False
    assert holes(muscle, muscle | blood) == 1


def test_a_hole_through_the_edge_of_the_image_or_through_a_volume_is_none():
    mask = np.ones((5, 5), dtype=bool)
    mask[0, 2] = False
    assert holes(mask, mask) == 0
    tube = np.ones((3, 5, 5), dtype=bool)
    tube[:, 2, 2] = False
    assert holes(tube, tube) == 0
    tube[[0, 2], 2, 2] = True
    assert holes(tube, tube) == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rings_are_counted_slice_by_slice_along_any_axis(axis):
    blood = np.stack([disc(21, 3), disc(21, 3), disc(21, 3), disc(21, 3), np.zeros((21, 21), dtype=bool)])
    muscle = np.stack([disc(21, 8, hole=3.1)] * 5)
    muscle[1, 10, 11:] = False  # open towards the edge
    muscle[2] = False  # no myocardium: not a slice that has both
    muscle[3, 10, 18] = False  # a dent that does not lead through
    found = open_rings(np.moveaxis(blood, 0, axis), np.moveaxis(muscle, 0, axis), axis)
    assert found == (3, 1)


def test_a_ring_is_not_closed_by_the_slices_above_and_below():
    blood, muscle = np.stack([disc(21, 3)] * 3), np.stack([disc(21, 8, hole=3.1)] * 3)
    muscle[0] = muscle[2] = disc(21, 8)
    muscle[1, 10, 11:] = False
    blood[0] = blood[2] = False
    assert open_rings(blood, muscle, 0) == (1, 1)


def test_one_slice_of_two_axes_is_a_ring_too():
    muscle = disc(21, 8, hole=3.1)
    assert open_rings(disc(21, 3), muscle, None) == (1, 0)
    muscle[10, 11:] = False
    assert open_rings(disc(21, 3), muscle, None) == (1, 1)


def test_a_cavity_at_the_edge_of_the_image_is_open():
    blood, muscle = np.zeros((5, 5), dtype=bool), np.zeros((5, 5), dtype=bool)
    blood[0, 2] = True
    muscle[0, 1] = muscle[1, 2] = muscle[0, 3] = True
    assert open_rings(blood, muscle, None) == (1, 1)


def test_slices_lie_across_the_axis_of_the_largest_spacing():
    assert slice_axis((10, 256, 232), (10.0, 1.4, 1.4)) == 0
    assert slice_axis((256, 232, 10), (1.4, 1.4, 10.0)) == 2
    assert slice_axis((256, 232), (1.0, 1.0)) is None
