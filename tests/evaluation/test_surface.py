"""Surface distances: by hand, and against MONAI and SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import binary_erosion

from nnunet_shapekd.evaluation.surface import border, surface_metrics


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


def test_two_cubes_shifted_by_two_voxels_of_three_millimetres_are_six_apart():
    a, b = box((5, 5, 9), (1, 1, 1), (4, 4, 4)), box((5, 5, 9), (1, 1, 3), (4, 4, 6))
    found = surface_metrics(a, b, (1.0, 1.0, 3.0), tolerance=1.0)
    assert found["hd"] == 6  # from the far face of one to the near face of the other: 2 voxels


def test_distances_of_two_squares_by_hand():
    """A square of 3 x 3 and the same, shifted by one: borders of 8 pixels each."""
    a, b = box((6, 6), (1, 1), (4, 4)), box((6, 6), (1, 2), (4, 5))
    # Columns 1 to 3 and 2 to 4. Of a's border, column 1 (three pixels) is 1 from b's; column 2 (two) and the ends of
    # column 3 (two) lie on b's; the middle of column 3 is b's centre, 1 from its border. Mirrored for b's.
    found = surface_metrics(a, b, (1.0, 1.0), tolerance=0.5)
    assert found["assd"] == pytest.approx(4 / 8)
    assert found["nsd"] == pytest.approx(4 / 8)
    assert found["hd"] == found["hd95"] == 1


def test_the_95th_percentile_ignores_one_far_voxel_in_a_hundred():
    reference = np.zeros((3, 110), dtype=bool)
    reference[1, :100] = True
    prediction = reference.copy()
    prediction[1, 109] = True
    found = surface_metrics(reference, prediction, (1.0, 2.0), tolerance=1.0)
    assert found["hd"] == 20 and found["hd95"] == 0
    assert found["assd"] == pytest.approx(20 / 201) and found["nsd"] == pytest.approx(200 / 201)


def test_the_larger_direction_counts():
    reference, prediction = box((1, 50), (0, 0), (1, 10)), box((1, 50), (0, 0), (1, 40))
    found = surface_metrics(reference, prediction, (1.0, 1.0), tolerance=0.0)
    assert found["hd95"] == pytest.approx(np.percentile([0] * 10 + list(range(1, 31)), 95))  # prediction to reference
    assert found == surface_metrics(prediction, reference, (1.0, 1.0), tolerance=0.0)


def test_the_spacing_of_each_axis_counts():
    a, b = box((9, 9, 9), (4, 4, 4), (5, 5, 5)), box((9, 9, 9), (5, 6, 7), (6, 7, 8))
    assert surface_metrics(a, b, (10.0, 1.5, 1.0), 1.0)["hd"] == pytest.approx(np.hypot(10, np.hypot(3, 3)))


def test_equal_masks_are_at_distance_zero():
    a = blobs(0)[0]
    assert surface_metrics(a, a, (10.0, 1.4, 1.4), 0.0) == {"nsd": 1, "hd95": 0, "hd": 0, "assd": 0}


def test_a_distance_of_exactly_the_tolerance_is_within_it():
    a, b = box((9, 3), (4, 1), (5, 2)), box((9, 3), (6, 1), (7, 2))
    assert surface_metrics(a, b, (1.0, 1.0), 2.0)["nsd"] == 1
    assert surface_metrics(a, b, (1.0, 1.0), 1.9)["nsd"] == 0
    assert surface_metrics(a, b, (float(np.float32(0.3)), 1.0), 0.6)["nsd"] == 1  # as a NIfTI header holds 0.3


@pytest.mark.parametrize("shape", [(1,), (7,), (6, 7), (1, 8), (5, 6, 7), (2, 2, 2)])
def test_the_border_is_what_erosion_takes_away(shape):
    mask = np.random.default_rng(3).random(shape) < 0.8
    np.testing.assert_array_equal(border(mask), mask & ~binary_erosion(mask))


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (10.0, 1.4, 1.4), (1.5, 0.5, 3.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_numbers_are_monais(spacing, seed):
    monai = pytest.importorskip("monai.metrics", reason="MONAI is installed for development only")
    masks = blobs(seed)
    assert 0 < (masks[0] & masks[1]).sum() < masks[0].sum()
    reference, prediction = (torch.from_numpy(mask)[None, None].float() for mask in masks)
    options = {"include_background": True, "spacing": spacing}
    expected = {
        "hd": monai.compute_hausdorff_distance(prediction, reference, **options),
        "hd95": monai.compute_hausdorff_distance(prediction, reference, percentile=95, **options),
        "assd": monai.compute_average_surface_distance(prediction, reference, symmetric=True, **options),
        "nsd": monai.compute_surface_dice(prediction, reference, [2.0], **options),
    }
    found = surface_metrics(*masks, spacing, tolerance=2.0)
    assert found == pytest.approx({key: value.item() for key, value in expected.items()}, rel=1e-5)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_hausdorff_distance_is_simpleitks_where_neither_mask_has_an_inside(seed):
    """ITK measures between whole masks, which are their borders if they are one voxel thick."""
    spacing = (4.0, 1.25, 1.25)
    masks = [border(mask) for mask in blobs(seed)]
    masks = [mask & ~np.roll(mask, 1, 2) & ~np.roll(mask, -1, 2) for mask in masks]
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    for image in images:
        image.SetSpacing(spacing[::-1])
    filter_ = sitk.HausdorffDistanceImageFilter()
    filter_.Execute(*images)
    assert surface_metrics(*masks, spacing, 1.0)["hd"] == pytest.approx(filter_.GetHausdorffDistance(), rel=1e-5)
