"""Label maps: which of their values nobody knows, new values for old ones, and whether two lie in the same space."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_shapekd.files.label_maps import LabelMap, read_label_map, relabel, unknown_labels, values_in
from nnunet_shapekd.files.space import differing


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_relabelling_maps_every_voxel_whatever_the_type(dtype):
    values = np.array([[0, 50], [20, 60]], dtype)
    new = relabel(values, {50: 3, 20: 0, 60: 1})
    assert new.dtype == np.uint8 and new.tolist() == [[0, 3], [0, 1]]
    assert values_in(values) == [0, 20, 50, 60]


def test_new_values_above_255_take_16_bits():
    new = relabel(np.array([0, 1]), {1: 600})
    assert new.dtype == np.uint16 and new.tolist() == [0, 600]


@pytest.mark.parametrize("values", [[-1, 0, 3], [0, 3, 70000]])
def test_negative_and_very_large_values_are_found_too(values):
    assert values_in(np.array(values * 2)) == values


def test_unknown_values_are_named_with_the_file_what_is_known_and_what_to_do():
    advice = "say --labels VALUE:0"
    (problem,) = unknown_labels(Path("a.nii.gz"), [0, 4, 7], {0, 2, 1}, advice)
    assert problem == "a.nii.gz: unknown label values 4, 7; known are 0, 1, 2; say --labels 4:0"
    assert unknown_labels(Path("a.nii.gz"), [0, 2], {0, 2, 1}, advice) == []
    (problem,) = unknown_labels(Path("a.png"), [0xFF0000], {0}, "", "#{:06X}".format)
    assert "#FF0000; known are #000000" in problem


SPACE = LabelMap(np.zeros((3, 8, 6), np.uint8), (10.0, 1.25, 1.5), (3.0, -2.0, 5.0), tuple(np.eye(3).ravel()), "mm")


def test_spaces_that_differ_by_rounding_are_the_same():
    assert (
        list(differing(SPACE, replace(SPACE, spacing=(10.0005, 1.25, 1.5), origin=(3.005, -2.0, 5.0))).values()) == []
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": SPACE.values[:2]}, "shape (2, 8, 6) differs from the reference's (3, 8, 6)"),
        ({"spacing": (10.0, 1.25, 1.6)}, "spacing (10, 1.25, 1.6) differs from the reference's (10, 1.25, 1.5)"),
        ({"origin": (3.0, -2.0, 5.1)}, "origin (3, -2, 5.1) differs from the reference's (3, -2, 5)"),
    ],
)
def test_what_differs_is_named_with_both_sides(change, words):
    assert list(differing(SPACE, replace(SPACE, **change)).values()) == [words]


def test_tolerances_can_be_smaller():
    moved = replace(SPACE, origin=(3.005, -2.0, 5.0))
    assert list(differing(SPACE, moved, "its image", origin_tolerance_mm=1e-3).values()) == [
        "origin (3.005, -2, 5) differs from its image's (3, -2, 5)"
    ]


def test_whole_numbers_in_floating_point_are_labels_and_fractions_are_not(tmp_path):
    path = tmp_path / "case.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), 2.0, np.float32)), str(path))
    assert read_label_map(path).values.dtype == np.uint8  # a volume of many voxels in 64 bits would fill the memory
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), 0.5, np.float32)), str(path))
    with pytest.raises(ValueError, match="case.nii.gz: .*fractional"):
        read_label_map(path)
