"""A shifted file keeps its type and geometry."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from skimage.io import imread, imsave

pytest.importorskip("torchio")

from scenes import heart, scene

from nnunet_shapekd.stress.image_files import read_image, write_image
from nnunet_shapekd.stress.shifts import SHIFTS, shifted


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_a_volume_keeps_type_and_geometry(tmp_path, ending, kind):
    values, _ = heart()
    image = sitk.GetImageFromArray(np.clip(values[0], 0, 255).astype(kind).T)
    image.SetSpacing((1.25, 1.5, 8.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    source, target = tmp_path / f"a_0000{ending}", tmp_path / f"b_0000{ending}"
    sitk.WriteImage(image, str(source))
    read = read_image(source)
    assert read.values.shape == (1, 64, 56, 7) and read.spacing == (1.25, 1.5, 8.0)
    write_image(shifted(read.values, "gamma-dark", 2, scene("gamma-dark")), read, target)
    written, before = sitk.ReadImage(str(target)), sitk.ReadImage(str(source))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDTypeAsString"):
        assert getattr(written, what)() == getattr(before, what)()
    write_image(shifted(read.values, "blur", 0, scene("blur")), read, target)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(target))), sitk.GetArrayFromImage(before))


@pytest.mark.parametrize(("shape", "kind"), [((40, 50), "uint16"), ((40, 50, 3), "uint8"), ((40, 50, 4), "uint8")])
def test_a_picture_keeps_type_size_and_opacity(tmp_path, shape, kind):
    array = np.random.default_rng(0).integers(20, 200, shape).astype(kind)
    imsave(tmp_path / "a_0000.png", array, check_contrast=False)
    read = read_image(tmp_path / "a_0000.png")
    assert read.values.shape == (shape[2:] and 3 or 1, 40, 50, 1)
    classes = np.zeros((40, 50, 1), np.int32)
    classes[10:30, 10:40] = 1
    for shift in SHIFTS:
        changed = shifted(read.values, shift, 3, scene(shift, classes, read.spacing))
        write_image(changed, read, tmp_path / "b_0000.png")
        written = imread(tmp_path / "b_0000.png")
        assert (written.shape, written.dtype) == (array.shape, array.dtype)
        assert not np.array_equal(written, array)
        if shape[2:] == (4,):
            assert np.array_equal(written[..., 3], array[..., 3])


def test_a_file_that_is_no_image_is_named(tmp_path):
    for name in ("a_0000.png", "a_0000.nii.gz"):
        (tmp_path / name).write_bytes(b"no image")
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)


def test_values_that_are_not_finite_are_refused(tmp_path):
    values = np.ones((5, 6, 7), np.float32)
    values[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "case_0000.nrrd"))
    with pytest.raises(ValueError, match=r"case_0000\.nrrd: .*NaN"):
        read_image(tmp_path / "case_0000.nrrd")


def test_a_picture_of_one_bit_is_refused(tmp_path):
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "case_0000.png")
    with pytest.raises(ValueError, match=r"case_0000\.png: .*8 bits"):
        read_image(tmp_path / "case_0000.png")
